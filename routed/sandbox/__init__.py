"""What keeps a process in: capabilities, seccomp, landlock and limits, by the kernel alone."""
