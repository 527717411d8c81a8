"""Checks of routed itself and of other programs that change routes."""

from __future__ import annotations

from collections.abc import Iterator

from routectl.doctor.facts import Facts
from routectl.doctor.findings import Finding, Grade

__all__ = ["NETWORK_MANAGERS", "ROUTING_DAEMONS", "daemon", "foreign_routes", "other_programs"]

ROUTING_DAEMONS = frozenset({
    "babeld", "batmand", "bfdd", "bgpd", "bird", "bird6", "eigrpd", "exabgp", "fabricd", "gated",
    "gobgpd", "holod", "isisd", "ldpd", "nhrpd", "olsrd", "olsrd2", "ospf6d", "ospfd", "pathd",
    "pbrd", "pimd", "rdisc", "ripd", "ripngd", "staticd", "vrrpd", "zebra",
})  # fmt: skip
"""Names of processes, as /proc/PID/comm has them."""

NETWORK_MANAGERS = frozenset({
    "NetworkManager", "connmand", "dhclient", "dhcpcd", "ifplugd", "keepalived", "netifd",
    "systemd-network", "wickedd",
})  # fmt: skip
"""The same; the kernel cuts names after 15 characters."""

_NETWORKD = "systemd-network"
_FOREIGN = (
    ("ManageForeignRoutes", "routes"),
    ("ManageForeignRoutingPolicyRules", "policy rules"),
    ("ManageForeignNextHops", "nexthop objects"),
)
_NO = ("no", "false", "off", "0", "n", "f")


def daemon(facts: Facts) -> Iterator[Finding]:
    """routed answers, and it is in this network namespace."""
    why = "interfaces, routes and most settings belong to a network namespace"
    theirs, ours = facts.daemon.network_namespace, facts.network_namespace
    if facts.daemon.problem:
        seen = facts.daemon.problem.partition(". ")[0]
        yield Finding("routed", Grade.UNKNOWN, seen, why)
    elif theirs is not None and ours is not None and theirs != ours:
        seen = "routed runs in another network namespace than this command"
        command = f"nsenter --net=/proc/{facts.daemon.pid}/ns/net routectl doctor"
        yield Finding("routed", Grade.WARNING, seen, why, command)
    else:
        yield Finding("routed", Grade.OK, "routed answers", why)


def other_programs(facts: Facts) -> Iterator[Finding]:
    """No other routing daemon or network manager changes the same routes."""
    why = (
        "two programs that set the same route remove or replace each other's, or the kernel "
        "prefers one; each should have its own prefixes, table or metric"
    )
    if facts.programs is None:
        yield Finding("programs", Grade.UNKNOWN, "/proc does not show other processes", why)
        return
    found = False
    for kind, names in (
        ("routing daemon", ROUTING_DAEMONS),
        ("network manager", NETWORK_MANAGERS),
    ):
        for name in sorted(names & facts.programs.keys()):
            found = True
            pids = ", ".join(map(str, facts.programs[name]))
            seen = f"the {kind} {name} runs (process {pids})"
            yield Finding(name, Grade.NOTE, seen, why, "routectl show fib state shadowed")
    if not found:
        yield Finding("programs", Grade.OK, "no other program that manages routes runs", why)


def foreign_routes(facts: Facts) -> Iterator[Finding]:
    """systemd-networkd leaves routes alone that it did not make."""
    why = "when it configures a link again, it deletes what it did not make, routes of routed too"
    if facts.programs is None or _NETWORKD not in facts.programs:
        yield Finding("systemd-networkd", Grade.OK, "systemd-networkd does not run here", why)
        return
    managed = [
        label
        for option, label in _FOREIGN
        if facts.networkd.foreign.get(option, "yes").lower() not in _NO
    ]
    if not managed:
        seen = "systemd-networkd leaves foreign routes alone"
        yield Finding("systemd-networkd", Grade.OK, seen, why)
        return
    drop_in = "/etc/systemd/networkd.conf.d/routed.conf"
    lines = "\\n".join(f"{option}=no" for option, _ in _FOREIGN)
    command = (
        f"mkdir -p /etc/systemd/networkd.conf.d; printf '[Network]\\n{lines}\\n' > {drop_in}; "
        "systemctl restart systemd-networkd"
    )
    seen = f"systemd-networkd manages foreign {', '.join(managed)}"
    yield Finding("systemd-networkd", Grade.PROBLEM, seen, why, command)
