"""The C extensions are optional: `--version` shows which ones are present, and all works without a
compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipc.extension import implementation, native
from routed.fib.routes import extension as kernel_tables
from routed.snapshot.parts import native_parts

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


def test_version_shows_which_implementations_of_the_fib_are_used() -> None:
    searched, written, tables = (
        "Python" if half is None else "C" for half in (native, native_parts, kernel_tables.native)
    )
    assert version().endswith(
        f"(FIB: searched in {searched}, written in {written}; kernel tables in {tables})"
    )
    assert implementation() == ("pure Python" if native is None else "C extension")
    missing = "import sys; " + "".join(
        f"sys.modules['{name}'] = None; "
        for name in ("ipc._search", "routed.snapshot._writer", "routed.fib.routes._routes")
    )
    assert version(missing).endswith(
        "(FIB: searched in Python, written in Python; kernel tables in Python)"
    )


@pytest.mark.parametrize(
    ("package", "module", "said"),
    [
        ("ipc", "_search", "searched in Python,"),
        ("routed.snapshot", "_writer", "written in Python;"),
        ("routed.fib.routes", "_routes", "tables in Python)"),
    ],
)
def test_an_extension_with_another_layout_is_not_used(package: str, module: str, said: str) -> None:
    other = (
        f"import sys, types, {package}; other = types.ModuleType('{package}.{module}'); "
        f"other.LAYOUT_VERSION = other.INTERFACE_VERSION = 0; {package}.{module} = other; "
        f"sys.modules['{package}.{module}'] = other; "
    )
    assert said in version(other)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["cc", "false"])
def test_a_build_succeeds_with_a_compiler_and_without(tmp_path: Path, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} on this machine")
    shutil.copytree(
        ROOT / "ipc", tmp_path / "ipc", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for package in ("routed", "routectl"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build"],
        cwd=tmp_path,
        env=os.environ | {"CC": compiler},
        capture_output=True,
        check=True,
    )
    (built,) = (tmp_path / "build").glob("lib*")
    assert (built / "ipc" / "snapshot.py").is_file()
    assert (built / "ipc" / "native" / "fib_snapshot.h").is_file()
    assert (built / "routed" / "fib" / "routes" / "_routes.pyi").is_file()
    for name in ("ipc/_search*.so", "routed/fib/routes/_routes*.so", "routed/snapshot/_writer*.so"):
        assert bool(list(built.glob(name))) == (compiler == "cc")
