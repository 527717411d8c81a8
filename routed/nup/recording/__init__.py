"""Recordings of NUP: what is written while it runs, and its replay."""
