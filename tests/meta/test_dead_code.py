"""Code that nothing uses goes: vulture finds it, and what it cannot see is listed with a reason."""

from __future__ import annotations

from pathlib import Path

from vulture import Vulture

from tests.meta.test_layering import PACKAGES, ROOT

CONFIDENCE = 60
"""Percent: vulture's figure for a function, class, variable or attribute that has no use."""

LIST = Path(__file__).with_name("unused.txt")


def test_what_nothing_uses_is_listed() -> None:
    vulture = Vulture()
    vulture.scavenge([str(ROOT / folder) for folder in (*PACKAGES, "tests", "netns-lab", "docs")])
    unused = {
        f"{Path(item.filename).relative_to(ROOT)}:{item.name}"
        for item in vulture.get_unused_code(min_confidence=CONFIDENCE)
        if Path(item.filename).relative_to(ROOT).parts[0] in PACKAGES
    }
    rows = (line.split(None, 1) for line in LIST.read_text(encoding="utf-8").splitlines())
    reasons = {row[0]: row[1] for row in rows if row and row[0] != "#"}
    assert sorted(unused - reasons.keys()) == [], "used by nothing: remove it"
    assert sorted(reasons.keys() - unused) == [], "used, or gone: remove its line"
