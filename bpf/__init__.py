"""Programs for the kernel, in C, and what turns them into `routed/dataplane/programs.py`."""
