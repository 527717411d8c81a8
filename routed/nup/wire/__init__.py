"""NUP's wire format."""
