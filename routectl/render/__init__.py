"""routectl: how rows become text for people and JSON for programs."""
