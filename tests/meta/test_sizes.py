"""Whatever is long is listed, and the list only shrinks.

`sizes.txt` has one line for each function over FUNCTION_LINES, class over CLASS_LINES, file over
FILE_LINES (C files too) and constructor with more than PARAMETERS parameters, with its present size
and the reason why it is not divided. Nothing may grow beyond its line, and no new line is added.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.meta.test_layering import MODULES, ROOT

FUNCTION_LINES = 40
"""Of the body, without the docstring."""
CLASS_LINES = 400
FILE_LINES = 450
PARAMETERS = 6

LIST = Path(__file__).with_name("sizes.txt")


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


def constructor_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if function.name != "__init__":
        return 0
    arguments = function.args
    if arguments.vararg or arguments.kwarg:
        return PARAMETERS + 1  # any number
    return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1


def functions(
    tree: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield each function with its name, wherever it stands, except for declarations of types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node, f"{name}.")
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.orelse:
                yield from functions(ast.Module([statement], []), prefix)
        else:
            yield from functions(node, prefix)


def classes(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the classes of a module with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def large() -> dict[str, int]:
    """Sizes by `lines MODULE`, `lines PATH` (C), `class MODULE:CLASS`, `body MODULE:FUNCTION` and
    `parameters MODULE:CLASS`."""
    found: dict[str, int] = {}
    for folder in ("bpf", "ipc", "routed"):
        for path in (ROOT / folder).rglob("*.[ch]"):
            if (lines := path.read_text(encoding="utf-8").count("\n")) > FILE_LINES:
                found[f"lines {path.relative_to(ROOT)}"] = lines
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > FILE_LINES:
            found[f"lines {module}"] = lines
        tree = ast.parse(text)
        for name, lines in classes(tree):
            if lines > CLASS_LINES:
                found[f"class {module}:{name}"] = lines
        for name, function in functions(tree):
            if (lines := body_lines(function)) > FUNCTION_LINES:
                found[f"body {module}:{name}"] = lines
            if (count := constructor_parameters(function)) > PARAMETERS:
                found[f"parameters {module}:{name.removesuffix('.__init__')}"] = count
    return found


def listed() -> dict[str, int]:
    rows = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, what, size, reason = line.split(None, 3)
            assert reason, line
            rows[f"{kind} {what}"] = int(size)
    return rows


def test_a_function_counts_wherever_it_stands() -> None:
    tree = ast.parse(
        "if x:\n class A:\n  class B:\n   def f(self): pass\n  def __init__(self, *a): pass\n"
        "if TYPE_CHECKING:\n def t(): pass\nelse:\n def g():\n  try:\n   def h(): pass\n"
        "  finally: pass\n"
    )
    found = dict(functions(tree))
    assert list(found) == ["A.B.f", "A.__init__", "g", "g.h"]
    assert constructor_parameters(found["A.__init__"]) > PARAMETERS


def test_large_things_are_listed_with_their_present_size() -> None:
    """Larger, or not listed: split it. Smaller or gone: change or remove its line."""
    assert large() == listed()
