"""A configuration from the routes and rules of a running kernel (`routed --import-kernel`)."""
