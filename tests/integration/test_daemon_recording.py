"""A daemon's life, recorded through a cut on an authenticated link, and lived through again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import LabBuilder
from tests.integration.test_daemon_keys import OURS, write_keys

pytestmark = pytest.mark.root

DEADLINE_S = 30.0


def test_what_a_daemon_lived_through_is_replayed_to_the_same_outputs(
    build_lab: LabBuilder, tmp_path: Path
) -> None:
    lab = build_lab("triangle")
    routers = list(lab.topology.nodes)
    for router in routers:
        write_keys(lab, router, OURS)
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    first, second = routers[:2]
    lab.routectl(first, "record", "on")
    segment = next(
        segment
        for segment in lab.topology.segments
        if {port.node for port in segment.ports} == {first, second}
    )
    link = "-".join(port.node for port in segment.ports)
    lab.cut(link)
    lab.wait_converged(DEADLINE_S)
    lab.mend(link)
    lab.wait_converged(DEADLINE_S)
    recording = tmp_path / "recording.jsonl"
    lab.routectl(first, "record", "off", str(recording))
    assert OURS not in recording.read_text()
    replayed = subprocess.run(
        [sys.executable, "-m", "routed.replay", str(recording)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert replayed.returncode == 0, replayed.stdout[-2000:] + replayed.stderr
    assert "AdjacencyChanged" in replayed.stdout
    assert "link_down" in replayed.stdout
    assert replayed.stdout.endswith(" 0 differences\n")
