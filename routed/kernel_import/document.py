"""A routes.yaml from what a kernel holds, with a comment for each thing that was left out.

    routes, rules --entries--> StaticConfig, RuleConfig --check--> text that `--check` accepts
                          |                               |
                          +------- reasons ---------------+--> comments

Invariants:
    The text loads: an entry that the checks of a configuration refuse becomes a comment with their
    message.
Bounds: LEFT_OUT_MAX comments; of more only the number is written.
"""

from __future__ import annotations

import pwd
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from routed.config.check import Draft, find_problems
from routed.config.load import ConfigError, load_text
from routed.config.rules import RuleConfig
from routed.config.schema import FibConfig, StaticConfig
from routed.config.table_scalars import table
from routed.config.written import written_item
from routed.fib.rule_codec import InexpressibleRuleError, read_rule
from routed.kernel_import.entries import (
    UNPRINTABLE,
    InexpressibleError,
    Surroundings,
    rule_entries,
    static_entry,
)
from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.rule import PolicyRule
from routed.netlink.message import NetlinkMessage
from routed.netlink.route_message import RouteMessage, decode_route_message, route_words

__all__ = ["Found", "ImportChoice", "write_document"]

LEFT_OUT_MAX = 1000

_KERNEL_PROTOCOL = 2
_UNSPEC_PROTOCOL = 0
"""The protocol of rules that `ip rule add` writes."""
_FREE_UID = 61698
"""A user id without a name, for a system that has no user `routed` yet."""


class ImportChoice(NamedTuple):
    """What the command line asks for."""

    protocols: frozenset[int]
    """Protocols of the routes and rules to import."""
    table_id: int
    """The table that the configuration is to manage."""


class Found(NamedTuple):
    """What the kernel holds."""

    routes: Sequence[bytes]
    """Payloads of RTM_NEWROUTE."""
    rules: Sequence[NetlinkMessage]
    around: Surroundings
    addresses: Sequence[tuple[int, InterfaceAddress]]
    """Each with the index of its link."""


class _Draft:
    """Entries on their way into the file, and what was left out."""

    def __init__(self) -> None:
        """Start without entries."""
        self.statics: list[StaticConfig] = []
        self.rules: list[RuleConfig] = []
        self.left_out: list[str] = []
        """A line for each route or rule: what it is, and why."""
        self.others: Counter[tuple[int, int]] = Counter()
        """Number of routes that were not chosen, by protocol and table."""


def write_document(found: Found, choice: ImportChoice) -> str:
    """Write a configuration.

    Args:
        found: what the kernel holds.
        choice: what to import of it.

    Returns:
        The text of a file. `load_text` accepts it.

    Raises:
        NetlinkDecodeError: a message of the kernel is malformed.

    Cost: about 100 us for each imported route.
    """
    draft = _Draft()
    _add_routes(draft, found, choice)
    _take_out(draft, list(_tos_problems(draft.statics)))
    _add_rules(draft, found.rules, choice)
    head = "".join(f"{line}\n" for line in _head(found, choice))
    while True:
        _take_out(draft, find_problems(_checkable(draft)))
        text = head + "".join(f"{line}\n" for line in _body(draft))
        try:
            load_text(text)
        except ConfigError as error:
            before = len(draft.left_out)
            _take_out(draft, [(problem.path, problem.message) for problem in error.problems])
            if len(draft.left_out) == before:
                raise  # not about an entry: an error of this module
        else:
            return text


def _add_routes(draft: _Draft, found: Found, choice: ImportChoice) -> None:
    for payload in found.routes:
        route = decode_route_message(payload)
        if route is None or route.is_cloned:
            continue
        if route.protocol not in choice.protocols:
            draft.others[route.protocol, route.table_id] += 1
            continue
        try:
            draft.statics.append(static_entry(route, found.around))
        except InexpressibleError as error:
            draft.left_out.append(_route_comment(route, found.around, str(error)))


def _tos_problems(statics: Sequence[StaticConfig]) -> Iterator[tuple[str, str]]:
    """Find routes for one TOS whose prefix has a route for other packets, too: of all routes of a
    prefix, the daemon installs one."""
    by_prefix: dict[Prefix, set[str | None]] = {}
    for static in statics:
        by_prefix.setdefault(static.prefix, set()).add(_tos_of(static))
    for index, static in enumerate(statics):
        if _tos_of(static) is not None and len(by_prefix[static.prefix]) > 1:
            yield (
                f"static[{index}]",
                "the prefix has a route for other packets, too: use a policy rule with `tos`",
            )


def _tos_of(static: StaticConfig) -> str | None:
    return None if static.attributes is None else static.attributes.tos


def _route_comment(route: RouteMessage, around: Surroundings, reason: str) -> str:
    return f"route {route_words(route, around.name_of)}: {reason}"


def _add_rules(draft: _Draft, messages: Iterable[NetlinkMessage], choice: ImportChoice) -> None:
    chosen: list[PolicyRule] = []
    for message in messages:
        try:
            seen = read_rule(message)
        except InexpressibleRuleError as error:
            draft.left_out.append(f"a rule: {error}")
            continue
        if seen is None or seen.protocol == _KERNEL_PROTOCOL or _is_kernels(seen.rule):
            continue
        if seen.protocol not in choice.protocols and seen.protocol != _UNSPEC_PROTOCOL:
            draft.left_out.append(f"rule {seen.rule}: of protocol {seen.protocol}")
        elif not all(name is None or name.isprintable() for name in (seen.rule.iif, seen.rule.oif)):
            draft.left_out.append(f"rule {seen.rule}: {UNPRINTABLE}")
        else:
            chosen.append(seen.rule)
    draft.rules = rule_entries(chosen)


def _is_kernels(rule: PolicyRule) -> bool:
    """Whether it is one of the rules that every kernel has."""
    return any(
        rule == PolicyRule(rule.family, priority, table_id=table_id)
        for priority, table_id in ((0, 255), (32766, 254), (32767, 253))
    )


def _checkable(draft: _Draft) -> Draft:
    values: dict[str, Any] = {"static": draft.statics, "rules": draft.rules, "fib": FibConfig()}
    return Draft.of(values, "routes.yaml")


_ENTRY = re.compile(r"(static|rules)\[([0-9]+)\]")


def _take_out(draft: _Draft, problems: Iterable[tuple[str, str]]) -> None:
    """Move entries with problems to the comments; the first problem of each is the reason."""
    reasons: dict[tuple[str, int], str] = {}
    for path, message in problems:
        if found := _ENTRY.match(path):
            reasons.setdefault((found[1], int(found[2])), message)
    lists: dict[str, list[Any]] = {"static": draft.statics, "rules": draft.rules}
    for (section, index), message in reasons.items():
        item = lists[section][index]
        draft.left_out.append(f"{section} {written_item(type(item), item)}: {message}")
    for section, items in lists.items():
        items[:] = [item for at, item in enumerate(items) if (section, at) not in reasons]


def _head(found: Found, choice: ImportChoice) -> Iterator[str]:
    names = ", ".join(map(str, sorted(choice.protocols)))
    yield "# Written by `routed --import-kernel` from the routes and rules of this machine"
    yield f"# (protocols {names})."
    yield "#"
    yield "# The daemon adds these routes to those that exist, with the protocol number and the"
    yield "# priority of `fib` (205). It changes no route and no rule of others: an original with a"
    yield "# lower metric forwards until it is removed (`routectl show fib`). Remove the originals"
    yield "# where they are configured, once `show fib` has all of these. See docs/import.md."
    router_id, origin = _router_id(found)
    yield f"router_id: {router_id}  # {origin}"
    try:
        pwd.getpwnam("routed")
    except KeyError:
        yield f"user: {_FREE_UID}  # there is no user `routed` here: create it, remove this line"
    if choice.table_id != FibConfig().table_id:
        yield f"fib: {{table: {table.write(choice.table_id)}}}"


def _router_id(found: Found) -> tuple[Address, str]:
    """Choose the lowest IPv4 address that other machines can reach."""
    usable = sorted(
        (entry.address.addr_bits, ifindex)
        for ifindex, entry in found.addresses
        if entry.address.family is Family.IPV4
        and not (entry.address.is_loopback or entry.address.is_link_local)
    )
    if not usable:
        return Address.parse("0.0.0.1"), "this machine has no IPv4 address: choose a unique number"
    bits, ifindex = usable[0]
    name = _printable(found.around.name_of(ifindex))
    return Address(Family.IPV4, bits), f"the lowest address of this machine, on {name}"


def _body(draft: _Draft) -> Iterator[str]:
    for section, items in (("static", draft.statics), ("rules", draft.rules)):
        if items:
            yield f"{section}:"
        for item in items:
            yield f"  - {written_item(type(item), item)}"
    if draft.others:
        yield "# Routes that were not chosen (--protocols), by protocol and table:"
    for (protocol, table_id), count in sorted(draft.others.items()):
        yield f"#   protocol {protocol}, table {table.write(table_id)}: {count}"
    if draft.left_out:
        yield "# Left out:"
    for line in draft.left_out[:LEFT_OUT_MAX]:
        yield f"#   {_printable(line)}"
    if len(draft.left_out) > LEFT_OUT_MAX:
        yield f"#   and {len(draft.left_out) - LEFT_OUT_MAX} more"


def _printable(text: str) -> str:
    """Escape what a configuration may not contain, such as bytes of an interface name."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
