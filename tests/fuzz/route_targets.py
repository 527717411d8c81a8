"""Fuzz targets of routes and rules that other programs wrote: files of iproute2, and the tables of
a kernel that become a configuration."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import struct
from collections.abc import Iterator

from routectl.iproute import LineError, is_kernel_route, join_lines, read_route
from routectl.saved_routes import UNREADABLE, read_lines
from routed.config.load import load_text
from routed.fib.rule_codec import (
    RULE_MESSAGES,
    InexpressibleRuleError,
    decode_rule,
    encode_rule,
    read_rule,
)
from routed.kernel_import.document import Found, ImportChoice, write_document
from routed.kernel_import.entries import Surroundings
from routed.metrics.exposition import Form, choose_form
from routed.model.prefix import Family, Prefix
from routed.model.rule import Masked, PolicyRule, PortRange, Realms, RuleAction, UidRange
from routed.netlink.message import (
    RTM_NEWROUTE,
    NetlinkDecodeError,
    NetlinkMessage,
    pack_attribute,
    pack_message,
    pack_u32_attribute,
    split_messages,
)
from routed.netlink.route_message import decode_route_message, route_words
from tests.fakes.route_messages import RouteForm, saved_file
from tests.fuzz.target import Target

__all__ = ["ROUTE_TARGETS"]


# --- files


def _saved(data: bytes) -> None:
    """Read a file of `ip route save` or `ip -j route`: each line is a route or a reason."""
    unit, lines = read_lines(io.BufferedReader(io.BytesIO(data)))
    if unit == "line":
        return  # text, passed through: the target `import_line`
    for line in lines:
        assert b"\n" not in line
        if line.startswith(UNREADABLE):
            line.decode()
            continue
        with contextlib.suppress(LineError, UnicodeDecodeError):
            text = join_lines(line.decode())
            if not is_kernel_route(text):
                read_route(text)


def _payloads() -> list[bytes]:
    metrics = (
        pack_u32_attribute(2, 1400) + pack_attribute(16, b"cubic\0") + pack_u32_attribute(1, 4)
    )
    everything = (
        pack_attribute(7, b"\xc0\0\2\1"),
        pack_attribute(8, metrics),
        pack_u32_attribute(11, 5 << 16 | 6),
        pack_attribute(12, struct.pack("=IIi", 0, 0, 3000) + bytes(20)),
        pack_attribute(20, b"\1"),
        pack_attribute(21, struct.pack("=H", 6)),
    )
    return [
        RouteForm("10.0.0.0/8", "192.0.2.1", 1).payload(),
        RouteForm("10.2.0.0/16", "fe80::1", 1, priority=7, tos=4, extra=everything).payload(),
        RouteForm("2001:db8::/32", "fe80::1", 1, priority=1024, table=1000).payload(),
        RouteForm("10.1.0.0/16", kind=6).payload(),
        RouteForm("0.0.0.0/0", hops=(("192.0.2.1", 1, 3), ("192.0.2.2", 1, 256))).payload(),
        RouteForm("10.3.0.0/16", None, 1, protocol=2, extra=(pack_u32_attribute(30, 7),)).payload(),
    ]


def _saved_files() -> Iterator[bytes]:
    yield saved_file(_payloads())
    for payload in _payloads():
        yield saved_file([payload])
    routes: list[dict[str, object]] = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "lo", "metric": 5, "flags": ["onlink"]},
        {"type": "blackhole", "dst": "10.0.0.0/8", "table": "100", "protocol": "static"},
        {"dst": "10.1.0.0/16", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "lo",
         "metrics": [{"mtu": 1400}]},
        {"dst": "10.2.0.0/16", "nhid": 7, "nexthops": [{"gateway": "192.0.2.1", "dev": "lo"}]},
    ]  # fmt: skip
    yield json.dumps(routes).encode()
    for route in routes:
        yield json.dumps([route], indent=1).encode()


# --- the tables of a kernel


def _messages(data: bytes) -> list[NetlinkMessage]:
    with contextlib.suppress(NetlinkDecodeError):
        return list(split_messages(data))
    return []


def _route_message(data: bytes) -> None:
    """Decode every attribute of a route: the result is one line, or an error of the message."""
    with contextlib.suppress(NetlinkDecodeError):
        route = decode_route_message(data)
        if route is not None:
            line = route_words(route, "eth{}".format)
            assert line.isprintable()


def _rule(data: bytes) -> None:
    """Decode a rule, and write it: it must decode to the same rule."""
    for message in _messages(data):
        try:
            seen = read_rule(message)
        except (NetlinkDecodeError, InexpressibleRuleError):
            continue
        if seen is None:
            continue
        again = encode_rule(seen.rule, seen.protocol, 1, is_removal=False)
        (message_again,) = split_messages(again)
        found = decode_rule(message_again)
        assert found is None or found.rule == seen.rule


@functools.cache
def _rules() -> tuple[bytes, ...]:
    plain = PolicyRule(Family.IPV4, 1000, RuleAction.LOOKUP, 100)
    plain6 = PolicyRule(Family.IPV6, 1000, RuleAction.LOOKUP, 100)
    rules = [
        plain._replace(source=Prefix.parse("10.0.0.0/8"), destination=Prefix.parse("0.0.0.0/0")),
        plain._replace(iif="eth0", oif="eth1", fwmark=1, fwmask=255, tos=4, is_inverted=True),
        plain._replace(uids=UidRange(1, 2), ip_protocol=6, tunnel_id=9, realms=Realms(1, 2)),
        plain._replace(source_ports=PortRange(1, 9), destination_ports=PortRange(8, 8, 0xFF)),
        plain._replace(dscp=Masked(8, 0x38), suppress_prefix_len=0, suppress_group=3),
        plain6._replace(flow_label=Masked(5, 0xFF), source=Prefix.parse("2001:db8::/32")),
        plain._replace(action=RuleAction.GOTO, table_id=0, goto_priority=2000),
        plain._replace(table_id=0, is_l3mdev=True),
        plain._replace(action=RuleAction.PROHIBIT, table_id=0),
    ]
    return tuple(encode_rule(rule, 4, 1, is_removal=False) for rule in rules)


def _kernel_import(data: bytes) -> None:
    """Convert the tables of a kernel to a configuration: it must load."""
    messages = _messages(data)
    found = Found(
        [each.payload for each in messages if each.type == RTM_NEWROUTE],
        [each for each in messages if each.type in RULE_MESSAGES],
        Surroundings(254, "eth{}".format, {}),
        (),
    )
    with contextlib.suppress(NetlinkDecodeError):
        load_text(write_document(found, ImportChoice(frozenset({3, 4, 16}), 254)))


def _kernel_tables() -> Iterator[bytes]:
    routes = [pack_message(RTM_NEWROUTE, 2, 1, payload) for payload in _payloads()]
    yield b"".join(routes)
    yield b"".join(_rules())
    yield from routes
    yield from _rules()


# --- scrapers


def _accept(data: bytes) -> None:
    """Read the Accept header of a scraper."""
    assert choose_form(data.decode("latin-1")) in Form


def _accepts() -> Iterator[bytes]:
    yield b"application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5,*/*;q=0.1"
    yield b"text/plain"


ROUTE_TARGETS: dict[str, Target] = {
    "saved_routes": Target(_saved, _saved_files, 8192),
    "route_message": Target(_route_message, lambda: iter(_payloads()), 1024),
    "policy_rule": Target(_rule, lambda: iter(_rules()), 1024),
    "kernel_import": Target(_kernel_import, _kernel_tables, 4096),
    "scrape_accept": Target(_accept, _accepts, 512),
}
