"""The command `routed --import-kernel`: its options, its output file, and its exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 60.0


def routed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "routed", *words],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def test_the_configuration_of_this_machine_passes_the_check(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    words = ["--import-kernel", "--protocols", "boot,static,kernel", "--output", str(path)]
    done = routed(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = routed("--check", "-c", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert routed(*words[:3]).stdout == path.read_text(encoding="utf-8")


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("mine")
    done = routed("--import-kernel", "--output", str(path))
    assert (done.returncode, done.stderr) == (5, f"routed: {path}: File exists\n")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--import-kernel", "--protocols", "boot,odd"], "got 'odd'"),
        (["--import-kernel", "--table", "local"], "the local table belongs to the kernel"),
        (["--import-kernel", "--table", "0"], "a table number from 1 to 4294967295"),
        (["--table", "main"], "--protocols, --table and --output need --import-kernel"),
        (["--check", "--output", "x"], "--protocols, --table and --output need --import-kernel"),
    ],
)
def test_a_wrong_option_is_named(words: list[str], complaint: str) -> None:
    done = routed(*words)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stdout == ""
