"""The engine has no files once it is confined, so none of its modules may import late."""

from __future__ import annotations

import ast

import pytest

from tests.meta.test_layering import MODULES, imports_of


def _engine_modules() -> list[str]:
    """Everything of ours that `routed.engine.main` imports, directly or not."""
    found: set[str] = set()
    waiting = ["routed.engine.main"]
    while waiting:
        module = waiting.pop()
        if module not in MODULES or module in found:
            continue
        found.add(module)
        waiting += imports_of(MODULES[module])
    return sorted(found)


@pytest.mark.parametrize("module", _engine_modules())
def test_a_module_of_the_engine_imports_at_its_top_only(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    late = [
        f"line {node.lineno}"
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not late, f"{module} imports inside a function, which the sandbox refuses: {late}"
