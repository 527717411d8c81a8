"""Every test that a page names is there: a table of findings is worth nothing otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def named() -> Iterator[tuple[str, str, str]]:
    for page in sorted((ROOT / "docs").glob("*.md")):
        for path, test in NAMED.findall(page.read_text(encoding="utf-8")):
            yield page.name, path, test


TESTS = sorted(set(named()))


def test_there_are_tests_to_look_for() -> None:
    assert len(TESTS) > 60


@pytest.mark.parametrize(("page", "path", "test"), TESTS)
def test_a_named_test_is_there(page: str, path: str, test: str) -> None:
    file = ROOT / path
    assert file.is_file(), f"docs/{page} names {path}"
    if test:
        assert f"def {test}(" in file.read_text(encoding="utf-8"), f"docs/{page} names {test}"
