"""python -m routectl.generate: write what is made from the command tree.

    docs/routectl.1             the manual page
    routectl/quick_table.py     the plain commands, for `routectl/quick.py`

A test fails while a file differs from what would be written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ipc.control import REQUEST_TYPES
from routectl.commands import TREE
from routectl.grammar import Ask, Fields, Flag, Keyword, Leaf, Positional, leaves
from routectl.manual import manual_page
from routectl.render import views

__all__ = ["GENERATED", "main"]

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Write every file whose content is not as it should be."""
    for name, make in GENERATED.items():
        path = ROOT / name
        text = make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}\n")
    return 0


def quick_table() -> str:
    """The commands that ask with plain fields and show a form."""
    rows = [
        row
        for words, leaf in leaves(TREE)
        if isinstance(leaf.action, Ask) and (row := _quick_row(words, leaf)) is not None
    ]
    return _QUICK_HEAD.format(branches=_branches()) + "".join(rows) + "}  # fmt: skip\n"


def _branches() -> str:
    """The words that may follow each beginning of a command."""
    children: dict[tuple[str, ...], dict[str, None]] = {}
    for words, _ in leaves(TREE):
        for length in range(len(words)):
            children.setdefault(words[:length], {})[words[length]] = None
    return "".join(
        f"    {_literal(before)}: {_literal(tuple(words))},\n" for before, words in children.items()
    )


_QUICK_HEAD = '''"""Made by `python -m routectl.generate` from the command tree; not to be edited.

Words: how many they are, request type, where its fields come from, positionals, keywords, flags,
the form. A field ending in ? says whether a flag was given; @family is the option -4 or -6.
"""

from __future__ import annotations

__all__ = ["BRANCHES", "COMMANDS"]

_Names = tuple[str, ...]

BRANCHES: dict[_Names, _Names] = {{
{branches}}}  # fmt: skip
"""What may follow the words of a command that is not complete."""

COMMANDS: dict[_Names, tuple[int, int, _Names, _Names, _Names, _Names, str]] = {{
'''


def _quick_row(words: tuple[str, ...], leaf: Leaf) -> str | None:
    match leaf.action:
        case Ask(Fields(request_class, sources), form):
            pass
        case _:
            return None
    required = [
        argument.name
        for argument in leaf.arguments
        if not isinstance(argument, Flag) and argument.is_required
    ]
    if required or len(words) > 2:
        return None  # the full way says what is missing
    names = {
        kind: tuple(argument.name for argument in leaf.arguments if isinstance(argument, kind))
        for kind in (Positional, Keyword, Flag)
    }
    form_name = next(name for name in views.__all__ if getattr(views, name) is form)
    request_type = int(REQUEST_TYPES[request_class])
    row = (len(words), request_type, sources, *names.values(), form_name)
    return f"    {_literal(words)}: {_literal(row)},\n"


def _literal(value: object) -> str:
    """A tuple of plain values as the formatter would write it on a line."""
    if isinstance(value, tuple):
        inside = ", ".join(_literal(item) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return f'"{value}"' if isinstance(value, str) else str(value)


GENERATED: dict[str, Callable[[], str]] = {
    "routectl/quick_table.py": quick_table,
    "docs/routectl.1": manual_page,
}

if __name__ == "__main__":
    sys.exit(main())
