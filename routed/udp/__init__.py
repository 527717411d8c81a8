"""Receiving on the UDP sockets of protocols; knows none of them."""
