"""routed: a routing daemon for Linux. This package imports nothing until a part of it is named."""

__version__ = "0.1.0"
