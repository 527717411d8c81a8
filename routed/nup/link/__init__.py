"""A NUP link: adjacencies, cost, quality, damping."""
