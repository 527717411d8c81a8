"""The same statements stand in one place only.

Two runs of statements are the same when their syntax trees are: formatting and comments do not
count, names do. A run counts from NODES_MIN nodes of the tree on, which is about five lines.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.meta.test_layering import MODULES

NODES_MIN = 45

ALLOWED: dict[frozenset[str], str] = {
    frozenset({"routed.parent.socket_filters", "routed.sandbox.seccomp"}): (
        "a program of classic BPF for the kernel; the sandbox imports nothing of ours"
    ),
}
"""Places that may say the same, and why."""


def blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements below a function."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                for field in ("body", "orelse", "finalbody", "handlers"):
                    found = getattr(node, field, None)
                    if isinstance(found, list) and found and isinstance(found[0], ast.stmt):
                        yield found


def runs(block: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    """The shortest runs of statements that are large enough, one from each statement on."""
    sizes = [sum(1 for _ in ast.walk(statement)) for statement in block]
    for first in range(len(block)):
        size, last = 0, first
        while last < len(block) and size < NODES_MIN:
            size += sizes[last]
            last += 1
        if size >= NODES_MIN and not isinstance(block[first], ast.Import | ast.ImportFrom):
            text = "\n".join(ast.dump(statement) for statement in block[first:last])
            yield text, block[first].lineno


def test_no_statements_stand_in_two_places() -> None:
    places: defaultdict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        seen: set[int] = set()
        for block in blocks(ast.parse(path.read_text(encoding="utf-8"))):
            if id(block) not in seen:
                seen.add(id(block))
                for text, line in runs(block):
                    places[text].add(f"{module}:{line}")
    double = {frozenset(where) for where in places.values() if len(where) > 1}
    named = {frozenset(place.split(":")[0] for place in where): where for where in double}
    unexpected = {modules: where for modules, where in named.items() if modules not in ALLOWED}
    assert not unexpected, sorted(sorted(where) for where in unexpected.values())
    assert set(ALLOWED) <= set(named), "a line of ALLOWED is not needed any more"
