"""Log events and the logger."""
