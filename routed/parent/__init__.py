"""The privileged process: start, listeners, reload, kernel, route admission."""
