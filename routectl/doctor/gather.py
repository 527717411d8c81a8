"""Gathers the facts of this host. Nothing is changed, and no packet is sent."""

from __future__ import annotations

import ctypes

from ipc.blocking import ControlClient, ControlError
from ipc.control import ShowNeighbors, ShowStatus
from routectl.doctor.facts import ClockFacts, Facts, LinkFacts, NeighborMtu, RoutedFacts
from routectl.doctor.files import Files
from routectl.doctor.link_facts import read_links
from routed.netlink.message import NetlinkDecodeError

__all__ = ["gather", "read_clock", "read_daemon"]

_SYSCTLS = (
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv4/ip_forward",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv4/nexthop_compat_mode",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/fib_multipath_hash_policy",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/ipv6/route/max_size",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
)
_LINK_SYSCTLS = ("ipv4/conf/{}/forwarding", "ipv4/conf/{}/rp_filter", "ipv6/conf/{}/forwarding")

_TIME_ERROR = 5
"""Result of adjtimex: the clock is not synchronised (linux/timex.h)."""
_STA_UNSYNC = 0x40
_TIMEX_BYTES = 256
"""More than struct timex has on any architecture."""


def gather(client: ControlClient, files: Files) -> Facts:
    """Return the facts.

    Args:
        client: connected or not; a daemon that does not answer is a fact.
        files: of this host.
    """
    links, problem = _links(files)
    return Facts(
        daemon=read_daemon(client),
        sysctls=files.sysctls([*_SYSCTLS, *_link_sysctls(links)]),
        links=links,
        links_problem=problem,
        cpus=len(files.cpus()),
        backlog_drops=files.backlog_drops(),
        neighbor_tables=files.neighbor_tables(),
        clock=read_clock(),
        programs=files.programs(),
        networkd=files.networkd(),
        network_namespace=files.inode("proc/self/ns/net"),
    )


def _links(files: Files) -> tuple[tuple[LinkFacts, ...], str]:
    try:
        return read_links(files), ""
    except OSError as error:
        return (), f"the interfaces cannot be queried: {error.strerror or error}"
    except NetlinkDecodeError as error:
        return (), f"the kernel's list of interfaces cannot be read: {error}"


def _link_sysctls(links: tuple[LinkFacts, ...]) -> list[str]:
    return [
        f"net/{path.format(link.name)}"
        for link in links
        if "/" not in link.name
        for path in _LINK_SYSCTLS
    ]


def read_daemon(client: ControlClient) -> RoutedFacts:
    """Return what routed reports."""
    try:
        status = next(client.ask(ShowStatus()).rows(), {})
        neighbors = list(client.ask(ShowNeighbors()).rows())
    except ControlError as error:
        return RoutedFacts(error.text)
    pid, namespace = status.get("pid"), status.get("network_namespace")
    return RoutedFacts(
        "",
        pid if isinstance(pid, int) else None,
        namespace if isinstance(namespace, int) else None,
        tuple(
            NeighborMtu(str(row.get("interface")), str(row.get("router_id")), mtu)
            for row in neighbors
            if isinstance(mtu := row.get("mtu"), int)
        ),
    )


def read_clock() -> ClockFacts | None:
    """Return the state of the kernel's clock; None if the kernel refuses to report it.

    Source: adjtimex(2). `modes`, the first field of struct timex, is 0: nothing is changed.
    """
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = ctypes.CDLL(None).adjtimex(buffer)
    if state < 0:
        return None
    # struct timex begins with: unsigned modes; long offset, freq, maxerror, esterror; int status.
    word = ctypes.sizeof(ctypes.c_long)
    error_us = ctypes.c_long.from_buffer(buffer, 3 * word).value
    status = ctypes.c_int.from_buffer(buffer, 5 * word).value
    return ClockFacts(state != _TIME_ERROR and not status & _STA_UNSYNC, error_us / 1e6)
