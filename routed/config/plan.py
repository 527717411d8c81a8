"""The effects of a reload as text: on the kernel, adjacencies, sockets, policy and access.

Pure. `diff.py` lists the options that differ; this module lists the consequences:

    kernel      install 10.9.4.0/24 via 192.0.2.1 dev eth0
    adjacency   eth0: cost 10 -> 77, stays up
    socket      eth1: closed

The lines about static routes regard each route by itself: another candidate for its prefix may be
better (see `show routes`).

Invariants:
    Any difference that a reload applies causes at least one line; a test changes each option.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from routed.config.schema import Config, InterfaceConfig, StaticConfig, StaticType

__all__ = ["LinkPlan", "plan"]


class LinkPlan(NamedTuple):
    """The configuration of NUP on one link, before and after the reload."""

    ifname: str
    before: InterfaceConfig | None
    """The present entry of `interfaces`; None if NUP does not run on the link."""
    after: InterfaceConfig | None
    """The new entry; None if NUP will not run on the link."""
    has_socket: bool
    """Whether NUP has a socket on the link at present."""


def plan(old: Config, new: Config, links: Sequence[LinkPlan]) -> list[str]:
    """List the consequences of a reload, one line each; empty if there are none.

    Args:
        old: the configuration in force.
        new: the configuration that would replace it.
        links: the links on which NUP runs under either of them.
    """
    return [
        *_kernel(old, new),
        *_rules(old, new),
        *_links(links),
        *_absent_links(old, new, links),
        *_bfd(old, new),
        *_keys(old, new),
        *_policy(old, new),
        *_rest(old, new),
    ]


def _kernel(old: Config, new: Config) -> Iterator[str]:
    if old.fib.table_id != new.fib.table_id or old.fib.priority != new.fib.priority:
        yield (
            f"kernel      all of the daemon's routes move to table {new.fib.table_id}, "
            f"priority {new.fib.priority}"
        )
    if old.filters.kernel != new.filters.kernel:
        yield "kernel      filters.kernel changes: routes are installed and removed accordingly"
    before = {_identity(static): static for static in old.static}
    after = {_identity(static): static for static in new.static}
    for identity, static in after.items():
        if identity not in before:
            yield f"kernel      install {static.prefix} {_target(static)}"
        elif _target(static) != _target(before[identity]):
            yield f"kernel      replace {static.prefix} {_target(static)}"
        elif static != before[identity]:
            yield f"announced   {static.prefix} with tag {static.tag}, where it is announced"
    for identity, static in before.items():
        if identity not in after:
            yield f"kernel      remove {static.prefix} {_target(static)}"


def _identity(static: StaticConfig) -> tuple[object, ...]:
    return static.prefix, static.distance, static.metric


def _target(static: StaticConfig) -> str:
    words = [] if static.type is StaticType.UNICAST else [static.type.value]
    if static.gateways:
        words.append(", ".join(map(str, static.gateways)))
    if static.kernel_attributes is not None:
        words.append(str(static.kernel_attributes))
    return " ".join(words)


def _rules(old: Config, new: Config) -> Iterator[str]:
    before = dict.fromkeys(rule for entry in old.rules for rule in entry.rules)
    after = dict.fromkeys(rule for entry in new.rules for rule in entry.rules)
    for rule in after:
        if rule not in before:
            yield f"kernel      add rule {rule} ({rule.family.name})"
    for rule in before:
        if rule not in after:
            yield f"kernel      remove rule {rule} ({rule.family.name})"


def _links(links: Sequence[LinkPlan]) -> Iterator[str]:
    for link in links:
        if link.before == link.after:
            continue
        if link.after is None:
            yield f"adjacency   {link.ifname}: ends with a GOODBYE to the neighbors"
            if link.has_socket:
                yield f"socket      {link.ifname}: closed"
        elif link.before is None:
            yield f"adjacency   {link.ifname}: begins"
            yield f"socket      {link.ifname}: opened"
        else:
            yield f"adjacency   {link.ifname}: {_entry_changes(link.before, link.after)}, stays up"


def _bfd(old: Config, new: Config) -> Iterator[str]:
    """Yield the sessions that begin, end or change; another address or link ends a session."""
    before = {session.name: session for session in old.bfd.sessions}
    after = {session.name: session for session in new.bfd.sessions}
    for name, session in after.items():
        if name not in before:
            yield f"bfd         {name}: begins, with {session.peer}"
        elif before[name].identity != session.identity:
            yield f"bfd         {name}: ends, and begins with {session.peer}"
        elif session != before[name]:
            yield f"bfd         {name}: other options, stays up"
    for name in before:
        if name not in after:
            yield f"bfd         {name}: ends with AdminDown"
    if old.bfd.relearn_s != new.bfd.relearn_s:
        yield f"bfd         relearn {new.bfd.relearn_s:g}s from now on"


def _absent_links(old: Config, new: Config, links: Sequence[LinkPlan]) -> Iterator[str]:
    """Yield the changed entries of `interfaces` that match no present link."""
    present = {entry for link in links for entry in (link.before, link.after)}
    before = {entry.pattern: entry for entry in old.interfaces}
    for entry in new.interfaces:
        if entry != before.get(entry.pattern) and entry not in present:
            yield f"adjacency   {entry.pattern}: no such interface now; applies if one appears"
    for pattern, entry in before.items():
        if entry not in present and all(pattern != other.pattern for other in new.interfaces):
            yield f"adjacency   {pattern}: no such interface now; no longer applies if one appears"


def _entry_changes(before: InterfaceConfig, after: InterfaceConfig) -> str:
    changes = [
        f"{name} {getattr(before, name)} -> {getattr(after, name)}"
        for name in ("cost", "hello_s", "multiplier")
        if getattr(before, name) != getattr(after, name)
    ]
    return ", ".join(changes) or "other options change"


def _keys(old: Config, new: Config) -> Iterator[str]:
    before = {key_set.name: key_set for key_set in old.keys}
    after = {key_set.name: key_set for key_set in new.keys}
    for name in (*after, *(name for name in before if name not in after)):
        if before.get(name) == after.get(name):
            continue
        verb = "gone" if name not in after else "changed" if name in before else "new"
        yield f"adjacency   keys {name!r} are {verb}: their interfaces sign and verify accordingly"


def _policy(old: Config, new: Config) -> Iterator[str]:
    """Yield the changes of filters, imported routes, redistribution and summaries."""
    if old.learn != new.learn:
        yield "learned     `learn` changes: the kernel's routes are read again"
    if old.filters.imports != new.filters.imports:
        yield "learned     filters.import changes: learned routes are evaluated again"
    if old.allow_martians != new.allow_martians:
        yield "learned     allow_martians changes: learned routes are evaluated again"
    if old.filters.exports != new.filters.exports:
        yield "announced   filters.export changes: the differences are advertised"
    if old.redistribute != new.redistribute:
        yield "announced   redistribution changes: the differences are advertised"
    before = {summary.prefix: summary for summary in old.summaries}
    after = {summary.prefix: summary for summary in new.summaries}
    for prefix, summary in after.items():
        if before.get(prefix) != summary:
            yield f"announced   summary {prefix} {'changes' if prefix in before else 'begins'}"
    for prefix in before:
        if prefix not in after:
            yield f"announced   summary {prefix} ends"


def _rest(old: Config, new: Config) -> Iterator[str]:
    if old.management != new.management:
        yield "management  roles are evaluated again, also for open sessions"
    if old.metrics != new.metrics:
        if old.metrics.listen is not None:
            yield f"socket      metrics: {old.metrics.listen} closed"
        if new.metrics.listen is not None:
            yield f"socket      metrics: {new.metrics.listen} opened"
    if old.dataplane.interfaces != new.dataplane.interfaces:
        names = ", ".join(new.dataplane.interfaces)
        yield f"dataplane   traffic is counted on {names or 'no interface'}"
    if old.log != new.log:
        yield "log         level, format or file change"
    if old.fib.on_exit is not new.fib.on_exit:
        yield f"fib         at the next stop: {new.fib.on_exit.value}"
    if old.fib.resync_s != new.fib.resync_s:
        yield f"fib         the kernel table is read every {new.fib.resync_s:g} s"
    if old.fib.carrier_check_s != new.fib.carrier_check_s:
        period_s = new.fib.carrier_check_s
        how = "no longer" if period_s is None else f"every {period_s:g} s"
        yield f"fib         carriers are polled {how}"
