"""Links and addresses of the kernel."""
