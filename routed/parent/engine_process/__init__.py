"""The engine as the parent's child process: spawn, session, supervision."""
