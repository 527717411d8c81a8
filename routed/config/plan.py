"""The effects of a reload, step by step: on the kernel, adjacencies, sockets, policy and access.

Pure. `diff.py` lists the options that differ; this module lists the consequences:

    kernel      install 10.9.4.0/24 via 192.0.2.1 dev eth0
    adjacency   eth0: cost 10 -> 77, stays up
    socket      eth1: closed

The steps of static routes regard each route by itself: another candidate for its prefix may be
better (see `show routes`).

Invariants:
    Any difference that a reload applies causes at least one step; a test changes each option.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from routed.config.schema import Config, InterfaceConfig, StaticConfig, StaticType
from routed.model.plan_step import PlanStep, route_step

__all__ = ["LinkPlan", "plan", "reload_steps"]


class LinkPlan(NamedTuple):
    """The configuration of NUP on one link, before and after the reload."""

    ifname: str
    before: InterfaceConfig | None
    """The present entry of `interfaces`; None if NUP does not run on the link."""
    after: InterfaceConfig | None
    """The new entry; None if NUP will not run on the link."""
    has_socket: bool
    """Whether NUP has a socket on the link at present."""


def plan(old: Config, new: Config, links: Sequence[LinkPlan]) -> list[PlanStep]:
    """List the consequences of a reload; empty if there are none.

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
        *_probes(old, new),
        *_keys(old, new),
        *_policy(old, new),
        *_rest(old, new),
    ]


def reload_steps(secrets: Iterable[str], needs_restart: Iterable[str]) -> Iterator[PlanStep]:
    """Yield what the two configurations alone do not show.

    Args:
        secrets: descriptions of secrets that differ in their files.
        needs_restart: options that differ and that no reload changes.
    """
    for change in secrets:
        yield _change("secrets", f"adjacency   {change}: links sign and verify accordingly")
    for key in needs_restart:
        yield PlanStep("restart", key, None, None, f"{key} changes at the next restart only")


def _kernel(old: Config, new: Config) -> Iterator[PlanStep]:
    if old.fib.table_id != new.fib.table_id or old.fib.priority != new.fib.priority:
        before, after = (
            f"table {fib.table_id}, priority {fib.priority}" for fib in (old.fib, new.fib)
        )
        text = f"kernel      all of the daemon's routes move to {after}; the old ones go last"
        yield PlanStep("move", "routes", before, after, text)
    yield from _tables(old, new)
    if old.filters.kernel != new.filters.kernel:
        text = "kernel      filters.kernel changes: routes are installed and removed accordingly"
        yield _change("filters.kernel", text)
    routes_before = {_identity(static): static for static in old.static}
    routes_after = {_identity(static): static for static in new.static}
    for identity, static in routes_after.items():
        name, target = _name(static), _target(static)
        former = routes_before.get(identity)
        if former is None:
            yield route_step("install", name, None, target)
        elif target != _target(former):
            yield route_step("replace", name, _target(former), target)
        elif static != former:
            text = f"announced   {static.prefix} with tag {static.tag}, where it is announced"
            yield PlanStep("change", name, f"tag {former.tag}", f"tag {static.tag}", text)
    for identity, static in routes_before.items():
        if identity not in routes_after:
            yield route_step("remove", _name(static), _target(static), None)


def _name(static: StaticConfig) -> str:
    return f"route {static.prefix}" + ("" if static.table is None else f" table {static.table}")


def _tables(old: Config, new: Config) -> Iterator[PlanStep]:
    """Yield the tables that begin, end or get another number."""
    before = {entry.name: entry for entry in old.tables}
    after = {entry.name: entry for entry in new.tables}
    for name, entry in after.items():
        if name not in before:
            text = f"kernel      table {name}: the daemon has routes in it from now on"
            yield PlanStep("begin", f"table {name}", None, str(entry.table_id), text)
        elif entry.table_id != before[name].table_id:
            former, now = str(before[name].table_id), str(entry.table_id)
            text = f"kernel      table {name}: its routes move from {former} to {now}"
            yield PlanStep("move", f"table {name}", former, now, text)
        elif entry != before[name]:
            yield _change(f"table {name}", f"kernel      table {name}: written in another way")
    for name, entry in before.items():
        if name not in after:
            text = f"kernel      table {name}: the daemon's routes in it are removed"
            yield PlanStep("end", f"table {name}", str(entry.table_id), None, text)


def _identity(static: StaticConfig) -> tuple[object, ...]:
    return static.table, static.prefix, static.distance, static.metric


def _target(static: StaticConfig) -> str:
    words = [] if static.type is StaticType.UNICAST else [static.type.value]
    if static.gateways:
        words.append(", ".join(map(str, static.gateways)))
    if static.kernel_attributes is not None:
        words.append(str(static.kernel_attributes))
    return " ".join(words)


def _rules(old: Config, new: Config) -> Iterator[PlanStep]:
    before = dict.fromkeys(rule for entry in old.rules for rule in entry.rules)
    after = dict.fromkeys(rule for entry in new.rules for rule in entry.rules)
    for rule in after:
        if rule not in before:
            text = f"kernel      add rule {rule} ({rule.family.label})"
            yield PlanStep("add", f"rule {rule}", None, rule.family.name.lower(), text)
    for rule in before:
        if rule not in after:
            text = f"kernel      remove rule {rule} ({rule.family.label})"
            yield PlanStep("remove", f"rule {rule}", rule.family.name.lower(), None, text)


def _links(links: Sequence[LinkPlan]) -> Iterator[PlanStep]:
    for link in links:
        if link.before == link.after:
            continue
        name, socket = f"adjacency {link.ifname}", f"socket {link.ifname}"
        if link.after is None:
            text = f"adjacency   {link.ifname}: ends with a GOODBYE to the neighbors"
            yield PlanStep("end", name, None, None, text)
            if link.has_socket:
                yield PlanStep("close", socket, None, None, f"socket      {link.ifname}: closed")
        elif link.before is None:
            yield PlanStep("begin", name, None, None, f"adjacency   {link.ifname}: begins")
            yield PlanStep("open", socket, None, None, f"socket      {link.ifname}: opened")
        else:
            yield _entry_step(name, link.ifname, link.before, link.after)


def _bfd(old: Config, new: Config) -> Iterator[PlanStep]:
    """Yield the sessions that begin, end or change; another address or link ends a session."""
    before = {session.name: session for session in old.bfd.sessions}
    after = {session.name: session for session in new.bfd.sessions}
    for name, session in after.items():
        subject, peer = f"bfd {name}", str(session.peer)
        if name not in before:
            text = f"bfd         {name}: begins, with {session.peer}"
            yield PlanStep("begin", subject, None, peer, text)
        elif before[name].identity != session.identity:
            text = f"bfd         {name}: ends, and begins with {session.peer}"
            yield PlanStep("replace", subject, str(before[name].peer), peer, text)
        elif session != before[name]:
            yield _change(subject, f"bfd         {name}: other options, stays up")
    for name, session in before.items():
        if name not in after:
            text = f"bfd         {name}: ends with AdminDown"
            yield PlanStep("end", f"bfd {name}", str(session.peer), None, text)
    if old.bfd.relearn_s != new.bfd.relearn_s:
        text = f"bfd         relearn {new.bfd.relearn_s:g}s from now on"
        former, now = f"{old.bfd.relearn_s:g}s", f"{new.bfd.relearn_s:g}s"
        yield PlanStep("change", "bfd.relearn", former, now, text)


def _probes(old: Config, new: Config) -> Iterator[PlanStep]:
    """Yield the probes that begin, end or change; another target or socket makes another probe."""
    before = {probe.name: probe for probe in old.probes}
    after = {probe.name: probe for probe in new.probes}
    for name, probe in after.items():
        subject, kind = f"probe {name}", probe.kind.value
        if name not in before:
            text = f"probe       {name}: begins, of kind {kind}"
            yield PlanStep("begin", subject, None, kind, text)
        elif before[name].identity != probe.identity:
            text = f"probe       {name}: begins again, of kind {kind}"
            yield PlanStep("replace", subject, before[name].kind.value, kind, text)
        elif probe != before[name]:
            yield _change(subject, f"probe       {name}: other options, keeps its state")
    for name, probe in before.items():
        if name not in after:
            text = f"probe       {name}: ends"
            yield PlanStep("end", f"probe {name}", probe.kind.value, None, text)


def _absent_links(old: Config, new: Config, links: Sequence[LinkPlan]) -> Iterator[PlanStep]:
    """Yield the changed entries of `interfaces` that match no present link."""
    present = {entry for link in links for entry in (link.before, link.after)}
    before = {entry.pattern: entry for entry in old.interfaces}
    for entry in new.interfaces:
        if entry != before.get(entry.pattern) and entry not in present:
            text = f"adjacency   {entry.pattern}: no such interface now; applies if one appears"
            yield _change(f"interfaces {entry.pattern}", text)
    for pattern, entry in before.items():
        if entry not in present and all(pattern != other.pattern for other in new.interfaces):
            text = f"adjacency   {pattern}: no such interface now; no longer applies if one appears"
            yield _change(f"interfaces {pattern}", text)


def _entry_step(
    name: str, ifname: str, before: InterfaceConfig, after: InterfaceConfig
) -> PlanStep:
    changed = [
        option
        for option in ("cost", "hello_s", "multiplier")
        if getattr(before, option) != getattr(after, option)
    ]
    old, new = (
        ", ".join(f"{option} {getattr(entry, option)}" for option in changed) or None
        for entry in (before, after)
    )
    changes = [
        f"{option} {getattr(before, option)} -> {getattr(after, option)}" for option in changed
    ]
    words = ", ".join(changes) or "other options change"
    return PlanStep("change", name, old, new, f"adjacency   {ifname}: {words}, stays up")


def _change(subject: str, text: str) -> PlanStep:
    """Return the step of a thing that changes in more than one value."""
    return PlanStep("change", subject, None, None, text)


def _keys(old: Config, new: Config) -> Iterator[PlanStep]:
    before = {key_set.name: key_set for key_set in old.keys}
    after = {key_set.name: key_set for key_set in new.keys}
    for name in (*after, *(name for name in before if name not in after)):
        if before.get(name) == after.get(name):
            continue
        verb = "gone" if name not in after else "changed" if name in before else "new"
        action = {"gone": "remove", "changed": "change", "new": "add"}[verb]
        text = f"adjacency   keys {name!r} are {verb}: their interfaces sign and verify accordingly"
        yield PlanStep(action, f"keys {name}", None, None, text)


def _policy(old: Config, new: Config) -> Iterator[PlanStep]:
    """Yield the changes of filters, imported routes, redistribution and summaries."""
    if old.learn != new.learn:
        yield _change("learn", "learned     `learn` changes: the kernel's routes are read again")
    if old.filters.imports != new.filters.imports:
        yield _change(
            "filters.import",
            "learned     filters.import changes: learned routes are evaluated again",
        )
    if old.allow_martians != new.allow_martians:
        yield _change(
            "allow_martians",
            "learned     allow_martians changes: learned routes are evaluated again",
        )
    if old.filters.exports != new.filters.exports:
        yield _change(
            "filters.export", "announced   filters.export changes: the differences are advertised"
        )
    if old.redistribute != new.redistribute:
        yield _change(
            "redistribute", "announced   redistribution changes: the differences are advertised"
        )
    before = {summary.prefix: summary for summary in old.summaries}
    after = {summary.prefix: summary for summary in new.summaries}
    for prefix, summary in after.items():
        if before.get(prefix) != summary:
            action = "change" if prefix in before else "begin"
            text = f"announced   summary {prefix} {action}s"
            yield PlanStep(action, f"summary {prefix}", None, None, text)
    for prefix in before:
        if prefix not in after:
            text = f"announced   summary {prefix} ends"
            yield PlanStep("end", f"summary {prefix}", None, None, text)


def _rest(old: Config, new: Config) -> Iterator[PlanStep]:
    if old.management != new.management:
        yield _change("management", "management  roles are evaluated again, also for open sessions")
    if old.metrics != new.metrics:
        if old.metrics.listen is not None:
            text = f"socket      metrics: {old.metrics.listen} closed"
            yield PlanStep("close", "socket metrics", str(old.metrics.listen), None, text)
        if new.metrics.listen is not None:
            text = f"socket      metrics: {new.metrics.listen} opened"
            yield PlanStep("open", "socket metrics", None, str(new.metrics.listen), text)
    if old.dataplane.interfaces != new.dataplane.interfaces:
        former, names = (
            ", ".join(each.dataplane.interfaces) or "no interface" for each in (old, new)
        )
        text = f"dataplane   traffic is counted on {names}"
        yield PlanStep("change", "dataplane", former, names, text)
    if old.dataplane.flows != new.dataplane.flows:
        yield _change("dataplane", "dataplane   flows end by the new timeouts")
    if old.dataplane.export != new.dataplane.export:
        former, names = (
            ", ".join(str(collector.to) for collector in each.dataplane.export.ipfix) or "nowhere"
            for each in (old, new)
        )
        yield PlanStep("change", "export", former, names, f"export      flows are sent to {names}")
    if old.log != new.log:
        yield _change("log", "log         level, format or file change")
    if old.fib.on_exit is not new.fib.on_exit:
        text = f"fib         at the next stop: {new.fib.on_exit.value}"
        former, now = old.fib.on_exit.value, new.fib.on_exit.value
        yield PlanStep("change", "fib.on_exit", former, now, text)
    if old.fib.resync_s != new.fib.resync_s:
        former, now = f"{old.fib.resync_s:g}s", f"{new.fib.resync_s:g}s"
        text = f"fib         the kernel table is read every {new.fib.resync_s:g} s"
        yield PlanStep("change", "fib.resync", former, now, text)
    if old.fib.carrier_check_s != new.fib.carrier_check_s:
        period_s = new.fib.carrier_check_s
        how = "no longer" if period_s is None else f"every {period_s:g} s"
        yield _change("fib.carrier_check", f"fib         carriers are polled {how}")
