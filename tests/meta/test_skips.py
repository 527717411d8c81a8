"""Every reason to leave a test out can be checked, and where it does not hold the test is due."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.skips import EXCUSES, is_excused

TESTS = Path(__file__).resolve().parents[1]
NOT_OURS_TO_CHECK = {"privilege.probe().reason", "reason"}
"""Computed: of `root` tests, for which CI takes no excuse but the kernel's."""


def reasons() -> Iterator[tuple[str, str]]:
    """(file, reason) of every skip; what is filled in at run time is written as `cc`."""
    for path in sorted(TESTS.rglob("*.py")):
        if path in (TESTS / "conftest.py", TESTS / "skips.py"):
            continue
        text = path.read_text(encoding="utf-8")
        if "pytest.skip" not in text and "pytest.mark.skipif" not in text:
            continue  # most files: they need not be parsed
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "pytest.skip":
                yield path.name, _text(node.args[0])
            elif called == "pytest.mark.skipif":
                (reason,) = [key.value for key in node.keywords if key.arg == "reason"]
                yield path.name, _text(reason)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "cc" for part in node.values
        )
    return ast.unparse(node)


REASONS = sorted(set(reasons()))


def test_there_are_skips_to_look_at() -> None:
    assert len(REASONS) >= 12


@pytest.mark.parametrize(("file", "reason"), REASONS)
def test_a_reason_can_be_checked(file: str, reason: str) -> None:
    if reason in NOT_OURS_TO_CHECK:
        return
    rules = [pattern for pattern in EXCUSES if re.fullmatch(pattern, reason)]
    assert rules, f"{file}: no rule of tests/skips.py knows {reason!r}"


def test_what_is_there_is_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for reason in (
        "the C extension is not built (it is where a C compiler is)",
        "no C compiler (cc) on this machine",
        "tmux or less is not installed (Debian packages of these names)",
        "needs root to act as another user",
        "it did not feel like it",
    ):
        assert not is_excused(reason), reason
    monkeypatch.setattr("shutil.which", lambda tool: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert is_excused("the C extension is not built (it is where a C compiler is)")
    assert is_excused("fish is not installed")
    assert is_excused("needs root: makes a network namespace")
    assert is_excused("this kernel lacks WireGuard")
    assert not is_excused("it did not feel like it")
