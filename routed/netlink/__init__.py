"""Netlink: messages, attributes and sockets, for every family."""
