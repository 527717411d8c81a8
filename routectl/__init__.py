"""routectl: the shell of routed. One-shot use imports argparse, socket and msgpack, no more."""
