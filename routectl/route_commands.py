"""The commands that inject routes, and their requests."""

from __future__ import annotations

from collections.abc import Callable

from ipc.control import (
    Request,
    Role,
    RouteAttributes,
    RouteChange,
    RouteNextHop,
    RouteOperation,
    RouteRenew,
)
from ipc.route_rules import KERNEL_ATTRIBUTES
from ipc.routes import one_route
from routectl.grammar import (
    Argument,
    Branch,
    Command,
    Flag,
    Import,
    Invocation,
    Keyword,
    Leaf,
    Positional,
    ValueKind,
    lease_of,
)

__all__ = ["ROUTE"]


def _change_route(operation: RouteOperation) -> Callable[[Invocation], Request]:
    def build(invocation: Invocation) -> Request:
        packed, prefix_len = _packed(invocation.value("prefix") or "")
        return one_route(
            operation,
            packed,
            prefix_len,
            _attributes(invocation),
            lease=lease_of(invocation),
            owner=invocation.value("owner") or "",
            table=invocation.value("table") or "",
        )

    return build


def _attributes(invocation: Invocation) -> RouteAttributes:
    via, dev = invocation.value("via"), invocation.value("dev")
    next_hop = RouteNextHop(via, dev, is_onlink="onlink" in invocation.values)
    return RouteAttributes(
        invocation.value("type") or "unicast",
        (next_hop,) if via or dev else (),
        int(invocation.value("metric") or 0),
        int(invocation.value("tag") or 0),
        tuple(
            (word, " ".join(invocation.values[word]))
            for word in KERNEL_ATTRIBUTES
            if word in invocation.values
        ),
    )


def _packed(prefix: str) -> tuple[bytes, int]:
    import socket  # loaded already wherever a request is sent

    address, _, length = prefix.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address), int(length)


def _import_routes(invocation: Invocation) -> Request:
    replaces = "replace" in invocation.values
    return RouteChange(
        RouteOperation.REPLACE if replaces else RouteOperation.ADD,
        (),
        lease=lease_of(invocation),
        owner=invocation.value("owner") or "",
        table=invocation.value("table") or "",
    )


def _renew_routes(invocation: Invocation) -> Request:
    return RouteRenew(float(invocation.value("lease") or 0), invocation.value("owner") or "")


_LEASE = Keyword(
    "lease",
    ValueKind.LEASE,
    "Remove the route after this time unless renewed, or when the `session` ends",
)
_TABLE = Keyword("table", ValueKind.TABLE, "The table, instead of the main one")
_OWNER = Keyword("owner", ValueKind.OWNER, "A name that distinguishes several owners of one user")
_ATTRIBUTE_WORDS = (
    Keyword("src", ValueKind.ADDRESS, "Source address of the host's own packets; waits for it"),
    *(
        Keyword(word, ValueKind.ATTRIBUTE, help_text)
        for word, help_text in (
            ("tos", "Only packets with this TOS, such as 0x10"),
            ("scope", "Scope of the destination: `global`, `site`, `link`, `host` or a number"),
            ("realm", "Realm of IPv4 routes: `[FROM/]TO`"),
            ("mtu", "MTU of the path in bytes; `lock` before it keeps the kernel from lowering it"),
            ("advmss", "Largest TCP segment to advertise, in bytes"),
            ("window", "Largest TCP window to advertise, in bytes"),
            ("initcwnd", "Initial TCP congestion window, in segments"),
            ("initrwnd", "Initial TCP receive window, in segments"),
            ("hoplimit", "Hop limit of packets"),
            ("rto_min", "Shortest retransmission timeout of TCP, such as 200ms"),
            ("quickack", "1: TCP acknowledges at once"),
            ("congctl", "TCP congestion control by name; `lock` keeps programs from changing it"),
            ("features", "`ecn`: explicit congestion notification"),
            ("pref", "Preference of IPv6 routes: `low`, `medium` or `high`"),
        )
    ),
)
_ROUTE_WORDS: tuple[Argument, ...] = (
    Positional("prefix", ValueKind.PREFIX, "The destination", is_required=True),
    Keyword("via", ValueKind.ADDRESS, "The gateway"),
    Keyword("dev", ValueKind.INTERFACE, "The interface; required for a link-local `via`"),
    Flag("onlink", "Treat `via` as reachable on `dev` even if no subnet of `dev` contains it"),
    Keyword(
        "type",
        ValueKind.TYPE,
        "`unicast`, `local` and `broadcast` with `dev`, or how packets are rejected",
    ),
    Keyword("metric", ValueKind.NUMBER, "Decides between injected routes; lower wins"),
    Keyword("tag", ValueKind.NUMBER, "A mark that policy can match"),
    *_ATTRIBUTE_WORDS,
    _TABLE,
    _LEASE,
    _OWNER,
)

ROUTE = Branch(
    "route",
    "Inject routes, and renew or remove them",
    (
        Leaf(
            "add",
            "Inject a route; refused if the same owner has one for that prefix",
            "route add 192.0.2.1/32 dev eth0 lease 30s",
            Role.ADMIN,
            Command(_change_route(RouteOperation.ADD)),
            _ROUTE_WORDS,
        ),
        Leaf(
            "replace",
            "Inject a route in place of the owner's own one; renews its lease",
            "route replace 203.0.113.0/24 via 10.0.0.2 metric 10 tag 7",
            Role.ADMIN,
            Command(_change_route(RouteOperation.REPLACE)),
            _ROUTE_WORDS,
        ),
        Leaf(
            "delete",
            "Remove an injected route",
            "route delete 192.0.2.1/32",
            Role.ADMIN,
            Command(_change_route(RouteOperation.DELETE)),
            (
                Positional("prefix", ValueKind.PREFIX, "The destination", is_required=True),
                Keyword("owner", ValueKind.OWNER, "The owner, as `show routes` prints it"),
                _TABLE,
            ),
        ),
        Leaf(
            "import",
            "Inject the routes of a file of `ip route`, `ip -j route` or `ip route save`; - is "
            "standard input",
            "route import routes.txt replace owner batch",
            Role.ADMIN,
            Import(_import_routes),
            (
                Positional("file", ValueKind.FILE, "The file", is_required=True),
                Flag("replace", "Replace the owner's routes, instead of refusing"),
                _TABLE,
                _LEASE,
                _OWNER,
            ),
        ),
        Leaf(
            "renew",
            "Renew the timed leases of an owner",
            "route renew lease 30s",
            Role.ADMIN,
            Command(_renew_routes),
            (
                Keyword("lease", ValueKind.DURATION, "The lease from now on", is_required=True),
                _OWNER,
            ),
        ),
    ),
)
