"""routed: the kernel FIB, kept equal to what the RIB wants."""
