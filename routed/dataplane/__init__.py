"""The dataplane: programs in the kernel that count, and the memory that they count in."""
