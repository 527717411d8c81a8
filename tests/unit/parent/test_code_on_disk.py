"""Whether the program was replaced while it ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from routed.parent.engine_process.code_on_disk import CodeOnDisk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for package in ("ipc", "routed/rib"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "one.py").write_text("one = 1\n")
    (tmp_path / "routed" / "note.txt").write_text("no code\n")
    return tmp_path


def test_an_unchanged_program_is_the_same(root: Path) -> None:
    code = CodeOnDisk(root)
    (root / "routed" / "note.txt").write_text("other\n")
    assert not code.has_changed()


def test_other_new_and_missing_files_are_seen(root: Path) -> None:
    code = CodeOnDisk(root)
    path = root / "routed" / "rib" / "one.py"
    path.write_text("two = 22\n")
    assert code.has_changed()
    path.write_text("one = 1\n")
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert code.has_changed()
    assert not CodeOnDisk(root).has_changed()
    (root / "ipc" / "new.py").write_text("")
    assert CodeOnDisk(root)._look() != code._before


def test_this_program_is_found() -> None:
    assert len(CodeOnDisk()._before) > 100
