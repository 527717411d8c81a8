"""The liveness process: BFD, without privileges, with deadlines that no other work delays."""
