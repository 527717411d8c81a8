"""routed: the kernel FIB, kept equal to the routes that the RIB selects."""
