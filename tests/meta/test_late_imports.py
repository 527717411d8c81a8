"""The engine has no files once it is confined, so none of its modules may import late."""

from __future__ import annotations

from tests.meta.test_layering import MODULES, imports_of, source_of


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


def test_modules_of_the_engine_import_at_their_tops_only() -> None:
    """The sandbox refuses an import inside a function. Lines by module."""
    modules = _engine_modules()
    assert "routed.nup.instance" in modules
    late = {module: source_of(MODULES[module]).late_imports for module in modules}
    assert {module: lines for module, lines in late.items() if lines} == {}
