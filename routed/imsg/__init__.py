"""Messages between parent and engine: their classes, who may send them, and their frames."""
