"""routectl: rendering of rows as text for people and as JSON for programs."""
