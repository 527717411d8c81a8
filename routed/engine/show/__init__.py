"""Views of the engine for clients: routes, topology, counters, metrics, diagnosis."""
