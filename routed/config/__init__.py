"""The configuration of routed: decoding into frozen classes, checks, comparison and encoding."""
