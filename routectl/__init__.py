"""routectl: the shell of routed. A plain show imports socket and msgpack, no more."""
