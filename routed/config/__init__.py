"""routed: configuration, from text to frozen classes, and the difference between two of them."""
