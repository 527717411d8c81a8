"""The checks of `doctor`, in the order in which their findings are shown."""

from __future__ import annotations

from routectl.doctor import kernel_checks, link_checks, program_checks
from routectl.doctor.findings import HostCheck

__all__ = ["CHECKS"]

CHECKS = (
    HostCheck("daemon", program_checks.daemon),
    HostCheck("forwarding", kernel_checks.forwarding),
    HostCheck("rp-filter", kernel_checks.reverse_path_filter),
    HostCheck("mtu", link_checks.mtu),
    HostCheck("programs", program_checks.other_programs),
    HostCheck("foreign-routes", program_checks.foreign_routes),
    HostCheck("clock", kernel_checks.clock),
    HostCheck("conntrack", kernel_checks.connection_tracking),
    HostCheck("neighbor-table", kernel_checks.neighbor_tables),
    HostCheck("ipv6-route-cache", kernel_checks.ipv6_route_cache),
    HostCheck("nexthops", kernel_checks.nexthop_compat_mode),
    HostCheck("multipath", kernel_checks.multipath_hash),
    HostCheck("offloads", link_checks.offloads),
    HostCheck("checksums", link_checks.checksums),
    HostCheck("rings", link_checks.rings),
    HostCheck("backlog", kernel_checks.backlog),
    HostCheck("buffers", kernel_checks.socket_buffers),
    HostCheck("queues", link_checks.queues),
    HostCheck("interrupts", link_checks.interrupts),
    HostCheck("numa", link_checks.numa),
)
"""A name is a column of the rows; it does not change."""
