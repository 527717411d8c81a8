"""The kernel's switch for nexthop objects: read, switched off, and what stands in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.fib.compat_mode import CompatMode


def switch(path: Path, text: str) -> CompatMode:
    path.write_text(text, encoding="ascii")
    return CompatMode(path)


@pytest.mark.parametrize(("text", "value"), [("0\n", 0), ("1\n", 1), ("what?\n", None)])
def test_it_is_read(tmp_path: Path, text: str, value: int | None) -> None:
    assert switch(tmp_path / "mode", text).value == value


def test_it_is_switched_off(tmp_path: Path) -> None:
    mode = switch(tmp_path / "mode", "1\n")
    assert mode.switch_off() == ""
    assert mode.value == 0


def test_a_kernel_without_it_has_no_value(tmp_path: Path) -> None:
    assert CompatMode(tmp_path / "none" / "mode").value is None


def test_what_may_not_be_written_says_why(tmp_path: Path) -> None:
    assert CompatMode(tmp_path).switch_off() == "Is a directory"
