"""Routes of the kernel: desired and actual, plans, codec."""
