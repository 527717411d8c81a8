"""What `make test` runs is everything: the order of the folders leaves none out."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_folder_with_tests_has_its_place_in_the_order() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ordered = document["tool"]["pytest"]["ini_options"]["testpaths"]
    with_tests = {
        "/".join(path.relative_to(ROOT).parts[:2]) for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert sorted(ordered) == sorted(with_tests)
