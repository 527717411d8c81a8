"""The short form of `make sim`: every topology and every phase, with the laws checked, in small
networks.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.fakes.fake_wire import FakeWire, WireFaults
from tests.fakes.network_laws import LoopWatch, assert_converged
from tests.sim import __main__ as program
from tests.sim.experiment import Outcome, run_experiment
from tests.sim.plot import PANELS, draw_plot
from tests.sim.topologies import TOPOLOGIES

every_topology = pytest.mark.parametrize("topology", TOPOLOGIES)


@every_topology
@pytest.mark.parametrize("routers", [10, 23])
def test_every_phase_converges_within_the_laws_and_in_few_messages(
    topology: str, routers: int
) -> None:
    outcome = run_experiment(topology, routers)
    assert outcome.checked > 0, "the laws were looked at"
    assert outcome.start_s < 0.5
    assert outcome.cut_s < 0.5
    assert outcome.mend_s < 0.5
    assert outcome.crash_s <= 3.0 + 0.5, "a dead interval, and what follows from it"
    # Each router advertises each prefix a few times at most, in a network of any size.
    assert outcome.start_datagrams < 12 * routers + 60


def test_an_experiment_is_a_pure_function_of_its_arguments() -> None:
    assert run_experiment("random", 12, seed=3) == run_experiment("random", 12, seed=3)


@pytest.mark.parametrize("topology", ["ring", "random", "fat tree"])
def test_loss_duplication_and_reordering_cost_time_and_break_no_law(topology: str) -> None:
    faults = WireFaults(loss=0.05, duplication=0.05, delay_s=0.0005, jitter_s=0.02)
    outcome = run_experiment(topology, 14, seed=5, faults=faults)
    assert outcome.start_s < 10


@every_topology
def test_a_partition_removes_the_routes_of_the_other_side_until_it_ends(topology: str) -> None:
    wire = FakeWire(2, WireFaults(delay_s=0.0005, jitter_s=0.001))
    TOPOLOGIES[topology](wire, 12, wire.rng)
    LoopWatch(wire)
    for name, node in wire.nodes.items():
        wire.originate(name, f"10.255.0.{node.number}/32")
    wire.run(2)
    left = {name for name, node in wire.nodes.items() if node.number <= 6}
    across = [
        segment
        for segment in wire.segments
        if 0 < len(left & {node.name for node, _ in segment.plugs}) < len(segment.plugs)
    ]
    assert across
    for segment in across:
        wire.cut(segment)
    wire.run(2)
    assert_converged(wire)
    for segment in across:
        wire.mend(segment)
    wire.run(2)
    assert_converged(wire)


def test_the_plot_shows_every_topology_in_every_panel() -> None:
    rows = [
        {**run_experiment("ring", size).to_json(), "topology": name}
        for name in TOPOLOGIES
        for size in (5, 10)
    ]
    picture = draw_plot(json.loads(json.dumps(rows)))
    ET.fromstring(picture)
    for name in TOPOLOGIES:
        assert f">{name}</text>" in picture
    for _, title, _ in PANELS:
        assert f">{title}</text>" in picture
    assert picture.count('stroke-width="1.5"') == len(TOPOLOGIES) * len(PANELS)


def test_a_row_has_every_figure() -> None:
    row = run_experiment("grid", 9).to_json()
    assert list(row) == list(Outcome.__dataclass_fields__)


def test_a_long_run_can_be_done_in_parts_and_keeps_its_rows_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    program.main(["--only", "grid", "--sizes", "9"])

    def interrupted(topology: str, routers: int, *, seed: int) -> Outcome:
        if routers > 5:
            raise KeyboardInterrupt
        return run_experiment(topology, routers, seed=seed)

    monkeypatch.setattr(program, "run_experiment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        program.main(["--only", "ring", "--sizes", "5", "6"])
    rows = json.loads((tmp_path / "sim.json").read_text())
    assert [(row["topology"], row["routers"]) for row in rows] == [("ring", 5), ("grid", 9)]
    assert "ring" in (tmp_path / "sim.svg").read_text()
    assert "| grid | 9 |" in capsys.readouterr().out
