"""Confinement of a process by the kernel: capabilities, seccomp, landlock and limits."""
