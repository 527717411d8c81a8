"""A daemon is recorded while an authenticated link is cut and restored, and the recording is
replayed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import LabBuilder
from tests.integration.test_daemon_keys import OURS, write_keys
from tests.replay.__main__ import main as add_case
from tests.replay.corpus import differences

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


def test_a_recording_is_replayed_to_the_same_outputs_and_becomes_a_case(
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
    again = tmp_path / "again.jsonl"
    lab.routectl(first, "record", "off", str(again))
    assert again.read_bytes() == recording.read_bytes()
    sizes = {row["part"]: row["size_bytes"] for row in lab.routectl(first, "show", "memory")}
    assert sizes["recording"] == recording.stat().st_size
    replayed = subprocess.run(
        [sys.executable, "-m", "routed.replay", str(recording)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert replayed.returncode == 0, replayed.stdout[-2000:] + replayed.stderr
    assert "AdjacencyChanged" in replayed.stdout
    assert "link_down" in replayed.stdout
    assert replayed.stdout.endswith(" 0 differences\n")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    arguments = ["add", "cut", str(recording), "--shows", "A link is cut and comes back."]
    assert add_case(arguments, corpus) == 0
    assert differences(corpus / "cut") == ""
