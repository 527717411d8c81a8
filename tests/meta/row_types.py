"""The files that describe the rows of `--json`, generated from the view classes.

    ipc/rows.py         a TypedDict for each view, for programs that use `routed.client`
    docs/json.md        every key with its type and meaning

A view's field names are the keys, its annotations their types, and the string below a field its
meaning. `pytest tests/meta/test_row_types.py --update-golden` writes the files.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from routed.control.changes import ChangeView
from routed.control.rows import plain
from routed.control.traffic import TRAFFIC_VIEW_CLASSES
from routed.control.views import VIEW_CLASSES
from routed.model.plan_step import PlanStep
from routed.model.prefix import Address, Prefix
from routed.model.rule import PolicyRule

__all__ = ["COMMANDS", "GENERATED", "ROOT"]

ROOT = Path(__file__).resolve().parents[2]
LINE_LENGTH = 100

COMMANDS = {
    "StatusView": "show status",
    "NeighborView": "show neighbors",
    "InterfaceView": "show interfaces",
    "RouteView": "show routes, show route",
    "FibView": "show fib",
    "NupRouteView": "show nup routes",
    "TopologyView": "topology",
    "ExplainView": "explain",
    "NextHopObjectView": "show nexthops",
    "RuleView": "show rules",
    "BfdSessionView": "show bfd sessions, show bfd session",
    "ProbeView": "show probes, show probe",
    "ProtocolView": "show protocol",
    "ConfigView": "show config",
    "CounterView": "show counters",
    "LogView": "show log",
    "MemoryView": "show memory",
    "MetricLineView": "show metrics",
    "DataplaneInterfaceView": "show dataplane interfaces",
    "DataplaneProgramView": "show dataplane programs",
    "InterfaceTrafficView": "show traffic interfaces",
    "ProtocolTrafficView": "show traffic protocols",
    "PacketSizeView": "show traffic packet-sizes",
    "RouteTrafficView": "show traffic routes",
    "RouteRateView": "show traffic route",
    "FlowTrafficView": "show traffic flows",
    "HostTrafficView": "show traffic hosts",
    "PortTrafficView": "show traffic ports",
    "ExportView": "show export",
    "ChangeView": "monitor",
    "PlanStep": "reload plan",
}
"""The commands whose rows have the keys of a view."""

ADDED = {
    "ExplainView": (
        ("kernel", "dict[str, object] | None", "Answer of the kernel; null if it was not queried."),
        ("agrees", "bool | None", "Whether the kernel forwards as routed has decided."),
        ("agreement", "str", "The difference in words. Absent if the kernel was not queried."),
        ("kernel_error", "str", "Reason why it was not. Absent otherwise."),
    ),
    "ChangeView": (("at", "str", "Time of arrival, ISO 8601 with milliseconds."),),
}
"""Keys that routectl adds; rows of `routed.client` do not have them."""

_ORDER = {name: number for number, name in enumerate(COMMANDS)}
_CLASSES = sorted(
    {*VIEW_CLASSES, *TRAFFIC_VIEW_CLASSES, ChangeView, PlanStep},
    key=lambda view_class: _ORDER[view_class.__name__],
)


def row_name(view_class: type) -> str:
    """The name of the TypedDict of a view."""
    return view_class.__name__.removesuffix("View") + "Row"


def type_text(kind: Any) -> str:
    """A field's type as it is in a row."""
    if kind in (bool, int, float, str):
        return str(kind.__name__)
    if kind in (Prefix, Address, PolicyRule):
        return "str"
    if typing.get_origin(kind) is dict:
        return f"dict[{', '.join(map(type_text, typing.get_args(kind)))}]"
    if kind is dict or kind is object:
        return "dict[str, object]" if kind is dict else "object"
    if isinstance(kind, types.UnionType):
        members = [type_text(each) for each in kind.__args__ if each is not types.NoneType]
        return f"{members[0]} | None"
    if typing.get_origin(kind) is tuple:
        return f"list[{type_text(typing.get_args(kind)[0])}]"
    if issubclass(kind, enum.Enum):
        return f"Literal[{', '.join(quoted(str(plain(member))) for member in kind)}]"
    return row_name(kind)


def quoted(text: str) -> str:
    """Text as Python source with the quotes that ruff prefers."""
    return f'"{text}"'


@cache
def meanings(view_class: type) -> dict[str, str]:
    """The string below each field, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(view_class))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for statement in definition.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=field)):
                name = field
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                found[name] = " ".join(text.split())
            case _:
                name = ""
    return found


def fields_of(view_class: type) -> list[tuple[str, str, str]]:
    """Key, type and meaning of each field."""
    hints = typing.get_type_hints(view_class)
    return [
        (field.name, type_text(hints[field.name]), meanings(view_class).get(field.name, ""))
        for field in dataclasses.fields(view_class)
    ]


def is_part(kind: type) -> bool:
    """Whether a type is a view, not a value with a text of its own."""
    return dataclasses.is_dataclass(kind) and not issubclass(kind, Prefix | Address | PolicyRule)


def parts_of(view_class: type) -> Iterator[type]:
    """The views inside a view, each before the one that needs it."""
    for kind in typing.get_type_hints(view_class).values():
        members = typing.get_args(kind) if not isinstance(kind, type) else (kind,)
        for member in members:
            if isinstance(member, type) and is_part(member):
                yield from parts_of(member)
                yield member


def all_classes() -> list[type]:
    """Every view, those inside others first."""
    return list(
        dict.fromkeys(
            each for view_class in _CLASSES for each in (*parts_of(view_class), view_class)
        )
    )


_HEAD = '''"""The rows of `routed.client`, for type checkers. Generated; do not edit.

    pytest tests/meta/test_row_types.py --update-golden

They are those of the daemon's views; docs/json.md has the meaning of each key. A daemon that is
older than this library lacks the newest keys; keys are only added.
"""

from __future__ import annotations

from typing import Literal, TypedDict

'''


def module_text() -> str:
    """The text of ipc/rows.py."""
    classes = all_classes()
    names = sorted(row_name(view_class) for view_class in classes)
    lines = [_HEAD + "__all__ = [", *packed(map(quoted, names)), "]  # fmt: skip", ""]
    for view_class in classes:
        name = row_name(view_class)
        fields = (f"{quoted(key)}: {text}" for key, text, _ in fields_of(view_class))
        lines.append(f"{name} = TypedDict({quoted(name)}, {{")
        lines += [*packed(fields), "})  # fmt: skip", quoted_docstring(view_class), ""]
    return "\n".join(lines)


def packed(items: Iterable[str]) -> Iterator[str]:
    """Lines with as many items as fit."""
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > LINE_LENGTH and line.strip():
            yield line
            line = "   "
        line += f" {item},"
    yield line


def quoted_docstring(view_class: type) -> str:
    """The summary of a view, as the docstring of its TypedDict."""
    return f'"""{(view_class.__doc__ or "").strip().splitlines()[0]}"""'


_PAGE_HEAD = """# Rows in JSON

Each command of `routectl` with `--json` prints `{"version": 1, "data": [ROW, ...]}`. These are the
keys of the rows, with their types in the words of Python and their meaning. Keys are only added,
and no key changes its type or meaning while `version` stays; a script ignores keys that it does
not need. `None` is `null`: not known, or it does not apply. Addresses and prefixes are texts.

`routed.client` has the same types for programs: `NeighborRow` for a row of `show neighbors`, and so
on, so that a type checker finds a misspelt key.

```python
from routed.client import Client, NeighborRow


def slow(neighbors: list[NeighborRow]) -> list[str]:
    return [row["interface"] for row in neighbors if (row["rtt_ms"] or 0.0) > 20.0]


with Client() as routed:
    print(slow(routed.neighbors()))
```

This page and `ipc/rows.py` are generated from the daemon's views by
`pytest tests/meta/test_row_types.py --update-golden`. [routectl.md](routectl.md) explains values
that several commands share; [doctor.md](doctor.md) has the keys of `doctor`.
"""


def page_text() -> str:
    """The text of docs/json.md."""
    lines = [_PAGE_HEAD]
    shown = set[type]()
    for view_class in _CLASSES:
        lines += [f"## {COMMANDS[view_class.__name__]}", "", *_table(view_class), ""]
        for part in dict.fromkeys(parts_of(view_class)):
            if part not in shown:
                shown.add(part)
                lines += [*_table(part), ""]
    return "\n".join(lines)


def _table(view_class: type) -> Iterator[str]:
    yield f"{(view_class.__doc__ or '').strip().splitlines()[0]} `{row_name(view_class)}`"
    yield ""
    yield "| key | type | meaning |"
    yield "| --- | --- | --- |"
    for key, text, meaning in (*fields_of(view_class), *ADDED.get(view_class.__name__, ())):
        cells = key, text.replace("|", "\\|"), meaning.replace("|", "\\|")
        yield "| `{}` | `{}` | {} |".format(*cells)


GENERATED: dict[str, Callable[[], str]] = {"ipc/rows.py": module_text, "docs/json.md": page_text}
