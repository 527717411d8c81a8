"""The unprivileged process: RIB, protocols, control socket."""
