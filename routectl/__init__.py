"""routectl: the shell of routed. A plain `show` imports only socket and msgpack."""
