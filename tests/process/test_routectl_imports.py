"""The imports of a one-shot routectl: the budget of its start, in a real process.

Importing trio or prompt-toolkit alone takes longer than the whole command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving

FORBIDDEN = {"trio", "pyroute2", "prompt_toolkit", "asyncio", "yaml", "routed"}
ONLY_WHEN_NEEDED = {"ipaddress", "difflib", "shlex", "json", "importlib.metadata"}


PLAIN_SHOW = {
    "ipc", "ipc.quick", "routectl", "routectl.quick", "routectl.quick_table", "routectl.render",
    "routectl.render.text", "routectl.render.views", "socket", "msgpack",
}  # fmt: skip
"""The imports of the quick path, ours and those of packages, beside small parts of the standard
library.
"""

TOO_SLOW_FOR_A_SHOW = {
    "argparse", "dataclasses", "inspect", "typing", "json", "tempfile", "ipc.control", "ipc.codec",
    "routectl.cli", "routectl.command_line", "routectl.grammar",
}  # fmt: skip


def modules_of(*arguments: str) -> set[str]:
    """Return the modules that an interpreter imports, by its own report."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip() for line in lines}


def imported_by(path: Path, *arguments: str) -> set[str]:
    """Return the modules that a command adds to a bare interpreter (which may come with an
    installer's own hooks).
    """
    return modules_of("-m", "routectl", "-s", str(path), *arguments) - modules_of("-c", "pass")


@pytest.mark.parametrize("what", ["status", "neighbors", "routes", "fib"])
def test_a_plain_show_has_a_budget(tmp_path: Path, what: str) -> None:
    path = tmp_path / "routed.sock"
    access = AccessList(admin_uids=frozenset({os.getuid()}))
    with closing(FakeDaemon()) as daemon, serving(path, daemon, access):
        imported = imported_by(path, "show", what)
    assert imported >= PLAIN_SHOW
    assert not imported & TOO_SLOW_FOR_A_SHOW
    others = {module.partition(".")[0] for module in imported} - sys.stdlib_module_names
    assert others == {"ipc", "routectl", "msgpack"}


@pytest.mark.parametrize(
    "arguments", [["show", "neighbors"], ["show", "routes"], ["show", "status"], ["reload"]]
)
def test_a_one_shot_command_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "routed.sock"
    access = AccessList(admin_uids=frozenset({os.getuid()}))
    with closing(FakeDaemon()) as daemon, serving(path, daemon, access):
        imported = imported_by(path, *arguments)
    packages = {module.partition(".")[0] for module in imported}
    assert "msgpack" in packages
    assert not packages & FORBIDDEN
    assert not imported & ONLY_WHEN_NEEDED


def test_json_and_addresses_import_only_their_own_modules(tmp_path: Path) -> None:
    path = tmp_path / "routed.sock"
    access = AccessList(admin_uids=frozenset({os.getuid()}))
    with closing(FakeDaemon()) as daemon, serving(path, daemon, access):
        imported = imported_by(path, "show", "route", "10.1.2.3", "--json")
    assert imported & ONLY_WHEN_NEEDED <= {"ipaddress", "json"}
    assert "json" in imported
    assert not {module.partition(".")[0] for module in imported} & FORBIDDEN
