"""Routes that clients inject, with leases and a journal."""
