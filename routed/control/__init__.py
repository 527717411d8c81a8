"""routed: the management plane inside the engine: who may ask what, and the answers."""
