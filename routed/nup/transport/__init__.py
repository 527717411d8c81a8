"""Reliable delivery of NUP and what is advertised by it."""
