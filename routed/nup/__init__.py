"""routed: NUP, the neighbor update protocol, as a sans-IO core and its sockets."""
