"""What a reload would do, piece by piece: routes, adjacencies and sockets, announcements, access.

Pure. `diff.py` says what differs in the file; this says what would happen because of it:

    kernel      install 10.9.4.0/24 via 192.0.2.1 dev eth0
    adjacency   eth0: cost 10 -> 77, 1 neighbor stays
    socket      eth1: closed, 2 neighbors are told goodbye

What a static route means for the kernel is said of the route itself: another candidate may hold the
prefix, as `show routes` tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from routed.config.schema import Config, InterfaceConfig, StaticConfig, StaticType

__all__ = ["LinkPlan", "plan"]


class LinkPlan(NamedTuple):
    """One link, before and after."""

    ifname: str
    before: InterfaceConfig | None
    """The entry that rules NUP there now; None when it does not run."""
    after: InterfaceConfig | None
    has_socket: bool
    """Whether NUP has a socket there now."""


def plan(old: Config, new: Config, links: Sequence[LinkPlan]) -> list[str]:
    """Every consequence, a line each; empty when there is none."""
    return [
        *_kernel(old, new),
        *_links(links),
        *_announcements(old, new),
        *_rest(old, new),
    ]


def _kernel(old: Config, new: Config) -> Iterator[str]:
    if old.fib.table_id != new.fib.table_id or old.fib.priority != new.fib.priority:
        yield (
            f"kernel      every route of ours moves to table {new.fib.table_id}, "
            f"priority {new.fib.priority}"
        )
    before = {_identity(static): static for static in old.static}
    after = {_identity(static): static for static in new.static}
    for identity, static in after.items():
        if identity not in before:
            yield f"kernel      install {static.prefix} {_target(static)}"
        elif _target(static) != _target(before[identity]):
            yield f"kernel      replace {static.prefix} {_target(static)}"
    for identity, static in before.items():
        if identity not in after:
            yield f"kernel      remove {static.prefix} {_target(static)}"


def _identity(static: StaticConfig) -> tuple[object, ...]:
    return static.prefix, static.distance, static.metric


def _target(static: StaticConfig) -> str:
    if static.type is not StaticType.UNICAST:
        return str(static.type.value)
    return ", ".join(map(str, static.gateways))


def _links(links: Sequence[LinkPlan]) -> Iterator[str]:
    for link in links:
        if link.before == link.after:
            continue
        if link.after is None:
            yield f"adjacency   {link.ifname}: ends, neighbors are told goodbye"
            if link.has_socket:
                yield f"socket      {link.ifname}: closed"
        elif link.before is None:
            yield f"adjacency   {link.ifname}: begins"
            yield f"socket      {link.ifname}: opened"
        else:
            yield f"adjacency   {link.ifname}: {_entry_changes(link.before, link.after)}, stays up"


def _entry_changes(before: InterfaceConfig, after: InterfaceConfig) -> str:
    changes = [
        f"{name} {getattr(before, name)} -> {getattr(after, name)}"
        for name in ("cost", "hello_s", "multiplier")
        if getattr(before, name) != getattr(after, name)
    ]
    return ", ".join(changes) or "other options change"


def _announcements(old: Config, new: Config) -> Iterator[str]:
    if old.redistribute != new.redistribute:
        yield "announced   redistribution changes: neighbors are told the difference"


def _rest(old: Config, new: Config) -> Iterator[str]:
    if old.management != new.management:
        yield "management  who may look and change is judged anew, also for open sessions"
    if old.log != new.log:
        yield "log         level, format or file change"
