"""Who logs what: an event that the engine logs is declared as the engine's, for the parent ends an
engine that logs any other."""

from __future__ import annotations

import ast
import functools

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


@functools.cache
def engine_modules() -> frozenset[str]:
    """The modules of ours that the engine loads."""
    return frozenset(loaded_by("routed.engine.main") - {"routed.log.events"})


WORDS = {"ready", "starting", "stopping", "stopped"}
"""Events whose names are words that stand for something else elsewhere."""


def test_events_that_the_engine_logs_are_declared_as_the_engine_s() -> None:
    logged = {
        (module, name)
        for module in engine_modules()
        for name in events_in(module) - WORDS
        if not EVENTS[name].is_engines
    }
    assert logged == set()


def test_events_that_are_declared_as_the_engine_s_are_logged_there() -> None:
    logged: set[str] = set().union(*(events_in(module) for module in engine_modules()))
    assert {name for name, spec in EVENTS.items() if spec.is_engines} <= logged
