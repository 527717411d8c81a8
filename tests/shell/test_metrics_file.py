"""The systemd unit for the textfile collector writes a complete file or none."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fake_views import METRICS

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "configs" / "prometheus" / "routed-textfile.service"


def run_unit(folder: Path, socket_path: Path) -> int:
    """Run the command of the unit with this folder and this socket. Returns its exit status."""
    text = UNIT.read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", text, re.MULTILINE)
    routectl = f"{sys.executable} -m routectl -s {shlex.quote(str(socket_path))}"
    script = command.replace("/usr/bin/routectl", routectl)
    script = script.replace("/var/lib/prometheus/node-exporter", shlex.quote(str(folder)))
    assert script.count(str(folder)) == script.count(str(socket_path)) == 1
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["/bin/sh", "-c", script], env=environment, check=False).returncode


def test_the_file_has_the_metrics_and_is_removed_when_the_daemon_is_gone(tmp_path: Path) -> None:
    folder, socket_path = tmp_path / "textfiles", tmp_path / "routed.sock"
    folder.mkdir()
    with (
        closing(FakeDaemon()) as daemon,
        serving(socket_path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
    ):
        assert run_unit(folder, socket_path) == 0
        assert [path.name for path in folder.iterdir()] == ["routed.prom"]
        assert (folder / "routed.prom").read_text(encoding="utf-8") == METRICS
    assert run_unit(folder, socket_path) == 1
    assert list(folder.iterdir()) == [], "an old file would look like a living daemon"
