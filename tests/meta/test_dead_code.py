"""Code that nothing uses goes: vulture finds it, and what it cannot see is listed with a reason."""

from __future__ import annotations

import ast
from pathlib import Path

from vulture import Vulture

from tests.meta.test_layering import MODULES, PACKAGES, ROOT

CONFIDENCE = 60
"""Percent: vulture's figure for a function, class, variable or attribute that has no use."""

LIST = Path(__file__).with_name("unused.txt")


def test_what_nothing_uses_is_listed() -> None:
    vulture = Vulture()
    vulture.scavenge([str(ROOT / folder) for folder in (*PACKAGES, "tests", "netns-lab", "docs")])
    unused = {
        f"{Path(item.filename).relative_to(ROOT)}:{item.name}"
        for item in vulture.get_unused_code(min_confidence=CONFIDENCE)
        if Path(item.filename).relative_to(ROOT).parts[0] in PACKAGES
    }
    rows = (line.split(None, 1) for line in LIST.read_text(encoding="utf-8").splitlines())
    reasons = {row[0]: row[1] for row in rows if row and row[0] != "#"}
    assert sorted(unused - reasons.keys()) == [], "used by nothing: remove it"
    assert sorted(reasons.keys() - unused) == [], "used, or gone: remove its line"


FOR_TESTS = {
    "ipc.codec.decode_plain": "what `encode_plain` wrote is read by msgpack alone, in ipc/quick.py",
    "routed.control.views.VIEW_CLASSES": "every view has a size, a text form and a JSON form",
    "routed.dataplane.layout.RECORDS_MAX": "compared with the C source and the bytecode",
    "routed.dataplane.programs.ARRAYS": "compared with the compiler's output",
    "routed.dataplane.programs.COMPILER": "only the same compiler gives the same bytecode",
    "routed.engine.config_receiver.CONFIG_MESSAGES": "each is tried in each phase",
    "routed.fib.rule_plan.is_removed_by": "the fake kernel removes as the real one does",
    "routed.model.kernel_attributes.ATTRIBUTE_WORDS": "compared with the options and the client",
    "routed.parent.listeners.close_listener": "the daemon keeps its listeners to its end",
}
"""Exported names that only tests use, and why they are in the product."""

FOR_CLIENTS = {"ipc.rows"}
"""Modules of the public client library whose names are for users' programs (docs/json.md)."""


def test_an_exported_name_is_used() -> None:
    """Vulture takes `__all__` for a use; a name needs one in its own or another module."""
    exported: dict[str, str] = {}
    used: set[str] = set()
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Assign(targets=[ast.Name(id="__all__")], value=names):
                    exported |= {f"{module}.{name}": name for name in ast.literal_eval(names)}
                case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name):
                    used.add(name)
                case ast.alias(name=name):
                    used.add(name)
    unused = {
        name
        for name, short in exported.items()
        if short not in used and name.rpartition(".")[0] not in FOR_CLIENTS
    }
    assert unused == FOR_TESTS.keys()
