"""What the engine shows to clients: routes, topology, counters, metrics, diagnosis."""
