"""Who logs what: an event that the engine logs is declared as the engine's, for the parent ends an
engine that logs any other."""

from __future__ import annotations

import ast
import functools

import pytest

from routed.log.events import EVENTS
from tests.meta.test_layering import MODULES, imports_of


def loaded_by(root: str) -> set[str]:
    """A module and all that it imports of ours, directly or not."""
    found, waiting = set(), [root]
    while waiting:
        module = waiting.pop()
        if module in MODULES and module not in found:
            found.add(module)
            waiting += imports_of(MODULES[module])
    return found


@functools.cache
def events_in(module: str) -> frozenset[str]:
    """Every declared event that a module names."""
    return frozenset(
        node.value
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in EVENTS
    )


ENGINE = loaded_by("routed.engine.main") - {"routed.log.events"}
WORDS = {"ready", "starting", "stopping", "stopped"}
"""Events whose names are words that stand for something else elsewhere."""


@pytest.mark.parametrize("module", sorted(ENGINE))
def test_what_the_engine_logs_is_declared_as_the_engines(module: str) -> None:
    logged = {name for name in events_in(module) - WORDS if not EVENTS[name].is_engines}
    assert not logged, f"{module}, which the engine loads, logs {logged}"


def test_what_is_declared_as_the_engines_is_logged_there() -> None:
    logged: set[str] = set().union(*(events_in(module) for module in ENGINE))
    assert {name for name, spec in EVENTS.items() if spec.is_engines} <= logged
