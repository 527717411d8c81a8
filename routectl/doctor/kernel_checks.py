"""Checks of sysctls, of tables with a limit, and of the clock."""

from __future__ import annotations

from collections.abc import Iterator

from routectl.doctor.facts import Facts, LinkFacts
from routectl.doctor.findings import Finding, Grade, set_sysctl, sysctl_name

__all__ = [
    "BUFFER_BYTES",
    "backlog",
    "clock",
    "connection_tracking",
    "forwarding",
    "ipv6_route_cache",
    "multipath_hash",
    "neighbor_tables",
    "nexthop_compat_mode",
    "reverse_path_filter",
    "socket_buffers",
]

BUFFER_BYTES = 4 * 1024 * 1024
"""Receive buffer of a NUP socket (`routed/parent/nup_socket_options.py`; a test compares them)."""

_NEAR = 0.8
"""Share of a limit from which a table is nearly full."""
_ROUTE_CACHE_MIN = 65_536
"""Linux before 6.3 has 4,096 by default, later kernels have no limit."""
_CLOCK_ERROR_S = 1.0
"""Error from which the lines of two routers' logs cannot be put in order."""


def _number(facts: Facts, path: str) -> int | None:
    text = facts.sysctls.get(path, "")
    return int(text) if text.lstrip("-").isascii() and text.lstrip("-").isdigit() else None


def _not_shown(path: str, why: str) -> Finding:
    return Finding(sysctl_name(path), Grade.UNKNOWN, "this kernel does not show it here", why)


def forwarding(facts: Facts) -> Iterator[Finding]:
    """Packets for other hosts are forwarded, on the whole and on each interface."""
    for path, family, name in (
        ("net/ipv4/ip_forward", "IPv4", "ipv4"),
        ("net/ipv6/conf/all/forwarding", "IPv6", "ipv6"),
    ):
        why = f"without it the kernel drops every {family} packet that is for another host"
        value = _number(facts, path)
        if value is None:
            yield _not_shown(path, why)
            continue
        if value:
            yield Finding(sysctl_name(path), Grade.OK, f"{family} is forwarded", why)
            yield from _forwarding_of_links(facts, family, name)
            continue
        is_router = len(facts.links) > 1
        yield Finding(
            sysctl_name(path),
            Grade.PROBLEM if is_router else Grade.NOTE,
            f"{family} is not forwarded",
            why if is_router else f"{why}; a host with one interface may need none",
            set_sysctl(path, 1),
        )


def _forwarding_of_links(facts: Facts, family: str, name: str) -> Iterator[Finding]:
    for link in facts.links:
        path = f"net/{name}/conf/{link.name}/forwarding"
        if _number(facts, path) == 0:
            yield Finding(
                link.name,
                Grade.WARNING,
                f"{family} packets that arrive on {link.name} are not forwarded",
                "the setting of the interface has precedence for packets that arrive there",
                set_sysctl(path, 1),
            )


def reverse_path_filter(facts: Facts) -> Iterator[Finding]:
    """No interface drops packets whose sender is reached through another interface."""
    why = (
        "strict mode drops a packet if the route to its sender leaves through another interface, "
        "as with asymmetric or equal-cost paths"
    )
    for_all = _number(facts, "net/ipv4/conf/all/rp_filter")
    if for_all is None:
        yield _not_shown("net/ipv4/conf/all/rp_filter", why)
        return
    strict = [link for link in facts.links if _filter_mode(facts, link, for_all) == 1]
    for link in strict:
        path = f"net/ipv4/conf/{link.name}/rp_filter"
        seen = "strict reverse path filter (the larger of the interface's value and that of `all`)"
        yield Finding(link.name, Grade.WARNING, seen, why, set_sysctl(path, 2))
    if not strict:
        yield Finding("rp_filter", Grade.OK, "no interface filters strictly", why)


def _filter_mode(facts: Facts, link: LinkFacts, for_all: int) -> int:
    return max(for_all, _number(facts, f"net/ipv4/conf/{link.name}/rp_filter") or 0)


def nexthop_compat_mode(facts: Facts) -> Iterator[Finding]:
    """A change of a nexthop object is one event, not one for each route."""
    path = "net/ipv4/nexthop_compat_mode"
    why = (
        "with 1, each change of a next hop causes a notification for each route that uses it: "
        "200 ms for 125,000 routes"
    )
    value = _number(facts, path)
    if value is None:
        yield _not_shown(path, why)
    elif value:
        seen = "a change of a nexthop object is reported for each of its routes"
        yield Finding(sysctl_name(path), Grade.WARNING, seen, why, set_sysctl(path, 0))
    else:
        yield Finding(sysctl_name(path), Grade.OK, "nexthop objects change in one step", why)


def multipath_hash(facts: Facts) -> Iterator[Finding]:
    """Flows between the same two hosts are distributed to equal-cost next hops."""
    for name, family in (("ipv4", "IPv4"), ("ipv6", "IPv6")):
        path = f"net/{name}/fib_multipath_hash_policy"
        why = "with 0, all flows between two hosts use the same one of several next hops"
        value = _number(facts, path)
        if value is None:
            yield _not_shown(path, why)
        elif value == 0:
            seen = f"{family} next hops are selected by the addresses alone"
            yield Finding(sysctl_name(path), Grade.NOTE, seen, why, set_sysctl(path, 1))
        else:
            seen = f"{family} next hops are selected by more than the addresses (policy {value})"
            yield Finding(sysctl_name(path), Grade.OK, seen, why)


def connection_tracking(facts: Facts) -> Iterator[Finding]:
    """The table of tracked connections has space."""
    path = "net/netfilter/nf_conntrack_max"
    why = "when the table is full, the kernel drops the first packet of every further connection"
    most, now = _number(facts, path), _number(facts, "net/netfilter/nf_conntrack_count")
    if not most or now is None:  # 0 is no limit
        seen = "connections are not tracked, or without a limit"
        yield Finding(sysctl_name(path), Grade.OK, seen, why)
        return
    seen = f"{now} of {most} connections"
    if now < _NEAR * most:
        yield Finding(sysctl_name(path), Grade.OK, seen, why)
        return
    grade = Grade.WARNING if now < most else Grade.PROBLEM
    yield Finding(sysctl_name(path), grade, seen, why, set_sysctl(path, 4 * most))


def socket_buffers(facts: Facts) -> Iterator[Finding]:
    """A daemon without CAP_NET_ADMIN can have the receive buffers that it needs."""
    path = "net/core/rmem_max"
    why = (
        "a routed without CAP_NET_ADMIN of the host, and other programs that receive bursts, get "
        "no larger receive buffer, and lose what exceeds it"
    )
    value = _number(facts, path)
    if value is None:
        yield _not_shown(path, why)
    elif value < BUFFER_BYTES:
        seen = f"{value} bytes; a NUP socket needs {BUFFER_BYTES}"
        yield Finding(sysctl_name(path), Grade.NOTE, seen, why, set_sysctl(path, BUFFER_BYTES))
    else:
        yield Finding(sysctl_name(path), Grade.OK, f"{value} bytes", why)


def backlog(facts: Facts) -> Iterator[Finding]:
    """No processor's queue of received packets has overflowed."""
    path = "net/core/netdev_max_backlog"
    why = "packets that a processor has no time for wait in its backlog, and are lost beyond it"
    if facts.backlog_drops is None:
        yield _not_shown(path, why)
        return
    seen = f"{facts.backlog_drops} packets lost since boot"
    if not facts.backlog_drops:
        yield Finding(sysctl_name(path), Grade.OK, seen, why)
        return
    size = _number(facts, path) or 1000
    yield Finding(sysctl_name(path), Grade.WARNING, seen, why, set_sysctl(path, 4 * size))


def neighbor_tables(facts: Facts) -> Iterator[Finding]:
    """The tables of link-layer addresses have space for the hosts of the connected networks."""
    for name, family in (("ipv4", "IPv4"), ("ipv6", "IPv6")):
        path = f"net/{name}/neigh/default/gc_thresh3"
        why = (
            "when the table is full, hosts of connected networks that are not in it are unreachable"
        )
        table, most = facts.neighbor_tables.get(name), _number(facts, path)
        if table is not None and table.overflows:
            seen = f"the {family} table was full {table.overflows} times since boot"
            command = _raise_thresholds(name, most or 1024)
            yield Finding(sysctl_name(path), Grade.PROBLEM, seen, why, command)
        elif most is None or table is None:
            # The tables and their limits belong to all network namespaces, and only the first one
            # shows the limits.
            seen = f"the limit of the {family} table is shown in the first network namespace only"
            yield Finding(sysctl_name(path), Grade.UNKNOWN, seen, why)
        elif table.entries >= _NEAR * most:
            seen = f"{table.entries} of {most} {family} entries"
            command = _raise_thresholds(name, most)
            yield Finding(sysctl_name(path), Grade.WARNING, seen, why, command)
        else:
            seen = f"{table.entries} of {most} {family} entries"
            yield Finding(sysctl_name(path), Grade.OK, seen, why)


def _raise_thresholds(name: str, most: int) -> str:
    values = " ".join(
        f"net.{name}.neigh.default.gc_thresh{number}={4 * most // divisor}"
        for number, divisor in ((3, 1), (2, 2), (1, 8))
    )
    return f"sysctl -w {values}"


def ipv6_route_cache(facts: Facts) -> Iterator[Finding]:
    """The kernel holds as many IPv6 destinations as it needs."""
    path = "net/ipv6/route/max_size"
    why = (
        "a kernel before 6.3 refuses further IPv6 destinations and routes beyond this number, with "
        '"Network is unreachable"'
    )
    value = _number(facts, path)
    if value is None:
        yield _not_shown(path, why)
    elif 0 <= value < _ROUTE_CACHE_MIN:
        seen = f"at most {value} IPv6 destinations"
        yield Finding(sysctl_name(path), Grade.WARNING, seen, why, set_sysctl(path, 2**31 - 1))
    else:
        yield Finding(sysctl_name(path), Grade.OK, f"at most {value} IPv6 destinations", why)


def clock(facts: Facts) -> Iterator[Finding]:
    """The clock is synchronised."""
    why = (
        "keys are used and accepted by the time of day (send_from, accept_until), and the logs of "
        "several routers are compared by it"
    )
    if facts.clock is None:
        yield Finding("clock", Grade.UNKNOWN, "the kernel does not report its state", why)
    elif not facts.clock.is_synchronised:
        seen = "no program synchronises the kernel's clock"
        yield Finding("clock", Grade.WARNING, seen, why, "timedatectl set-ntp true")
    elif facts.clock.error_s > _CLOCK_ERROR_S:
        seen = f"synchronised, with an error of up to {facts.clock.error_s:.1f} s"
        yield Finding("clock", Grade.WARNING, seen, why, "timedatectl timesync-status")
    else:
        seen = f"synchronised, with an error of up to {facts.clock.error_s * 1000:.0f} ms"
        yield Finding("clock", Grade.OK, seen, why)
