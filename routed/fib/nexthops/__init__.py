"""Nexthop objects of the kernel."""
