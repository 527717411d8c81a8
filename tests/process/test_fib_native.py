"""The C extensions are optional: what is there is said, and without a compiler all goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipc.fib_native import implementation, native
from routed.fib import native as kernel_tables

ROOT = Path(__file__).resolve().parents[2]
PRINT_VERSION = "from routed.cli import main; main(['--version'])"


def version(prelude: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", prelude + PRINT_VERSION],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.strip()


def test_version_says_which_half_searches_the_fib() -> None:
    tables = kernel_tables.implementation()
    assert version().endswith(f"(FIB: {implementation()}, kernel tables: {tables})")
    assert implementation() == ("pure Python" if native is None else "C extension")
    assert tables == ("pure Python" if kernel_tables.native is None else "C extension")
    missing = "import sys; sys.modules['ipc._fib'] = None; "
    assert "(FIB: pure Python, " in version(missing)
    missing = "import sys; sys.modules['routed.fib._native'] = None; "
    assert version(missing).endswith(", kernel tables: pure Python)")


def test_an_extension_of_another_layout_is_not_used() -> None:
    other = (
        "import sys, types, ipc; ipc._fib = types.ModuleType('ipc._fib'); "
        "ipc._fib.LAYOUT_VERSION = 0; sys.modules['ipc._fib'] = ipc._fib; "
    )
    assert "(FIB: pure Python, " in version(other)
    other = (
        "import sys, types, routed.fib; routed.fib._native = types.ModuleType('_native'); "
        "routed.fib._native.INTERFACE_VERSION = 0; "
        "sys.modules['routed.fib._native'] = routed.fib._native; "
    )
    assert version(other).endswith(", kernel tables: pure Python)")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["cc", "false"])
def test_a_build_succeeds_with_a_compiler_and_without(tmp_path: Path, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} on this machine")
    shutil.copytree(ROOT / "ipc", tmp_path / "ipc", ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for package in ("routed", "routectl"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.so"))
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build"],
        cwd=tmp_path,
        env=os.environ | {"CC": compiler},
        capture_output=True,
        check=True,
    )
    (built,) = (tmp_path / "build").glob("lib*")
    assert (built / "ipc" / "snapshot.py").is_file()
    assert (built / "ipc" / "fib_snapshot.h").is_file()
    assert (built / "routed" / "fib" / "_native.pyi").is_file()
    assert bool(list((built / "ipc").glob("_fib*.so"))) == (compiler == "cc")
    assert bool(list((built / "routed" / "fib").glob("_native*.so"))) == (compiler == "cc")
