"""The difference between two configurations, as text: the changes of a reload, by section.

Pure. The text is part of the answer to the client and of the log. The engine and the parent apply
the new configuration by comparing it with their own state, so nothing depends on this text.

Options that cannot change while the daemon runs are listed separately; they keep their old value
until a restart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ipc.lazy_dataclass import dataclass
from routed.config.options import Option
from routed.config.schema import Config, LearnConfig, RuleConfig, StaticConfig, options_of
from routed.config.written import written_value

__all__ = ["ConfigDelta", "compare"]

T = TypeVar("T")

LINES_MAX = 100
"""The most changes that are listed; the number of the others follows in one line."""
_VALUE_CHARACTERS = 200
"""The most characters shown of a value: a list of filters may be as long as the file."""


@dataclass(frozen=True, slots=True)
class ConfigDelta:
    """The result of a comparison."""

    effective: Config
    """The new configuration, with the old values of the options that only a restart changes."""
    changes: tuple[str, ...]
    """One line of text for each change."""
    needs_restart: tuple[str, ...]
    """Keys of the options that differ and are not applied before a restart."""

    @property
    def is_empty(self) -> bool:
        """Whether a reload would apply no change."""
        return not self.changes


def compare(old: Config, new: Config) -> ConfigDelta:
    """Compare the configuration in force with the one that is to replace it."""
    effective, needs_restart = _keep_fixed(old, new)
    changes = [
        *_scalar_changes("", old, effective, skip=_COMPARED_BY_ITEM),
        *_scalar_changes("bfd.", old.bfd, effective.bfd, skip=("sessions",)),
        *_item_changes("bfd session", old.bfd.sessions, effective.bfd.sessions, lambda e: e.name),
        *_item_changes("probe", old.probes, effective.probes, lambda e: e.name),
        *_item_changes("interface", old.interfaces, effective.interfaces, lambda e: e.pattern),
        *_item_changes("keys", old.keys, effective.keys, lambda e: e.name),
        *_item_changes("table", old.tables, effective.tables, lambda e: e.name),
        *_item_changes("static", old.static, effective.static, _static_identity),
        *_item_changes("learn", old.learn, effective.learn, lambda entry: entry),
        *_item_changes("rule", old.rules, effective.rules, lambda entry: entry),
        *_item_changes("summary", old.summaries, effective.summaries, lambda e: e.prefix),
        *_item_changes("redistribute", old.redistribute, effective.redistribute, lambda e: e),
    ]
    if len(changes) > LINES_MAX:
        more = len(changes) - LINES_MAX
        changes = [*changes[:LINES_MAX], f"and {more} more changes"]
    return ConfigDelta(effective, tuple(changes), tuple(needs_restart))


_COMPARED_BY_ITEM = {
    "interfaces", "keys", "static", "summaries", "rules", "learn", "redistribute", "bfd", "tables",
    "probes",
}  # fmt: skip


def _keep_fixed(old: Config, new: Config) -> tuple[Config, list[str]]:
    """Restore the options that only a restart changes. Returns also the keys that differed."""
    fixed: list[tuple[str, Any, Any]] = [
        ("router_id", old.router_id, new.router_id),
        ("user", old.user, new.user),
        ("sandbox", old.sandbox, new.sandbox),
        ("pid_file", old.pid_file, new.pid_file),
        ("management.socket", old.management.socket, new.management.socket),
        ("fib.protocol", old.fib.protocol, new.fib.protocol),
        ("fib.nexthop_objects", old.fib.nexthop_objects, new.fib.nexthop_objects),
        ("dataplane.routes", old.dataplane.routes, new.dataplane.routes),
        ("dataplane.flows.max", old.dataplane.flows.max, new.dataplane.flows.max),
        ("dataplane.statistics", old.dataplane.statistics, new.dataplane.statistics),
    ]
    effective = dataclasses.replace(
        new,
        router_id=old.router_id,
        user=old.user,
        sandbox=old.sandbox,
        pid_file=old.pid_file,
        management=dataclasses.replace(new.management, socket=old.management.socket),
        dataplane=dataclasses.replace(
            new.dataplane,
            routes=old.dataplane.routes,
            flows=dataclasses.replace(new.dataplane.flows, max=old.dataplane.flows.max),
            statistics=old.dataplane.statistics,
        ),
        fib=dataclasses.replace(
            new.fib, protocol=old.fib.protocol, nexthop_objects=old.fib.nexthop_objects
        ),
    )
    return effective, [key for key, before, after in fixed if before != after]


def _scalar_changes(path: str, old: Any, new: Any, skip: Iterable[str] = ()) -> Iterator[str]:
    for option in options_of(type(new)):
        if option.field in skip:
            continue
        before, after = getattr(old, option.field), getattr(new, option.field)
        if before == after:
            continue
        if dataclasses.is_dataclass(after) and options_of(type(after)):
            yield from _scalar_changes(f"{path}{option.key}.", before, after)
        else:
            yield f"{path}{option.key}: {_as_text(option, before)} -> {_as_text(option, after)}"


def _as_text(option: Option, value: Any) -> str:
    """Format a value as in the file, cut to _VALUE_CHARACTERS."""
    text = "(none)" if value is None else written_value(option, value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[: _VALUE_CHARACTERS - 3]}..."


def _item_changes(
    noun: str, old: tuple[T, ...], new: tuple[T, ...], identity: Callable[[T], Any]
) -> Iterator[str]:
    before = {identity(item): item for item in old}
    after = {identity(item): item for item in new}
    for key, item in before.items():
        if key not in after:
            yield f"{noun} {_label(item)} removed"
    for key, item in after.items():
        if key not in before:
            yield f"{noun} {_label(item)} added"
        elif item != before[key]:
            yield f"{noun} {_label(item)} changed"
    if list(before) != list(after) and before.keys() == after.keys():
        yield f"{noun} order changed"


def _static_identity(static: StaticConfig) -> Any:
    return static.table, static.prefix, static.distance, static.metric


def _label(item: Any) -> str:
    if isinstance(item, StaticConfig) and item.table is not None:
        return f"{item.prefix} table {item.table}"
    for name in ("pattern", "prefix", "name"):
        if hasattr(item, name):
            return str(getattr(item, name))
    if isinstance(item, LearnConfig):
        return f"protocol {item.protocol} table {item.table}"
    if isinstance(item, RuleConfig):
        return str(item.rules[0])
    return str(item.source.value)
