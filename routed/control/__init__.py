"""routed: the management plane inside the engine: access control, requests and answers."""
