"""Authentication of NUP: keys, replay protection, challenges."""
