"""The machinery of the benchmarks, and a run of every benchmark at a thousandth of its size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import tables
from tests.bench.harness import (
    Bench,
    Row,
    benchmark_names,
    comparison,
    read_ratios,
    run_benchmark,
    summary,
    table,
)
from tests.fakes.lpm_oracle import LpmOracle


def test_figures_are_medians_of_interleaved_runs() -> None:
    order: list[str] = []
    figures = iter([5.0, 1.0, 3.0])

    def ours() -> float:
        order.append("ours")
        return next(figures)

    def peer() -> float:
        order.append("peer")
        return 2.0

    bench = Bench(runs=3)
    row = bench.compare("x", "ms", ours, {"other": peer}, target=4)
    assert (row.ours, row.peers) == (3.0, {"other": 2.0})
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]


@pytest.mark.parametrize(
    ("ours", "target", "is_more_better", "met"),
    [
        (5, 4, False, False), (4, 4, False, True), (5, 4, True, True), (3, 4, True, False),
        (3, None, True, None),
    ],
)  # fmt: skip
def test_a_target_is_met_or_missed_in_the_right_direction(
    ours: float, target: float | None, is_more_better: bool, met: bool | None
) -> None:
    assert Row("x", ours, "s", {}, target, is_more_better).is_met is met


@pytest.mark.parametrize(
    ("ours", "limit", "target", "is_more_better", "met", "excess"),
    [
        (3.0, 2.0, 1.5, False, True, 1.0), (4.0, 2.0, 1.5, False, False, 4 / 3),
        (3.0, 4.0, 0.5, True, True, 2 / 3), (1.0, 4.0, 0.5, True, False, 2.0),
        (1.0, 0.0, 2.0, False, None, None),
    ],
)  # fmt: skip
def test_a_target_may_be_a_ratio_to_a_peer_of_the_same_run(
    ours: float,
    limit: float,
    target: float,
    is_more_better: bool,
    met: bool | None,
    excess: float | None,
) -> None:
    row = Row("x", ours, "s", {"kernel": limit, "bird": 9.0}, target, is_more_better, "kernel")
    assert row.is_met is met
    assert row.excess == (None if excess is None else pytest.approx(excess))


def test_the_summary_names_the_row_that_is_farthest_from_its_target() -> None:
    rows = [
        Row("near", 3, "s", {"kernel": 2}, 1.4, limit="kernel"),
        Row("far", 9, "s", {}, 3),
        Row("good", 1, "s", {}, 3),
        Row("none", 1, "s"),
        Row("left out", 1, "s", {}, 2, limit="bird"),
    ]
    assert summary(rows) == "targets: 1 met, 2 missed; farthest: far, 3 x its target"
    assert summary([Row("none", 1, "s")]) == "no targets"


def test_two_commits_are_compared_by_the_ratios_that_both_have(tmp_path: Path) -> None:
    earlier = [
        Row("install", 3, "s", {"kernel": 2}, limit="kernel"),
        Row("gone", 3, "s", {"kernel": 2}, limit="kernel"),
        Row("no ratio", 3, "s"),
    ]
    (tmp_path / "fib.json").write_text(json.dumps([row.to_json() for row in earlier]))
    now = [
        Row("install", 6, "s", {"kernel": 2}, limit="kernel"),
        Row("new", 6, "s", {"kernel": 2}, limit="kernel"),
        Row("no ratio", 6, "s"),
    ]
    lines = comparison(now, read_ratios(tmp_path)).splitlines()
    assert [line.split() for line in lines] == [
        ["WORK", "BEFORE", "NOW", "FACTOR"],
        ["install", "1.5", "3", "2"],
    ]


def test_a_missing_peer_is_named_with_its_package() -> None:
    said: list[str] = []
    bench = Bench(say=said.append)
    assert bench.peer("no_such_module_anywhere", "PyPI: nothing") is None
    assert said == ["left out: no_such_module_anywhere is not installed (PyPI: nothing)"]


def test_the_table_shows_a_missed_target() -> None:
    words = table([Row("lookup", 12.345, "ns", {"peer": 1234.5}, 10)])
    assert " ".join(words.splitlines()[1].split()) == "lookup 12.3 ns <= 10 MISSED peer 1234"


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        run_benchmark("no-such", Bench(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_runs_and_writes_its_rows(name: str, tmp_path: Path) -> None:
    bench = Bench(runs=1, scale=0.001, say=lambda _: None)
    rows = json.loads(run_benchmark(name, bench, tmp_path).read_text())
    assert rows
    for row in rows:
        assert list(row) == [
            "work", "ours", "unit", "peers", "limit", "ratio", "target", "met",
        ]  # fmt: skip
        assert row["ours"] >= 0


@pytest.mark.parametrize("shape", [tables.IPV4, tables.IPV6])
def test_tables_are_the_same_every_time_and_have_the_requested_size(shape: tables.Shape) -> None:
    routes = tables.full_table(shape, 2000)
    assert routes == tables.full_table(shape, 2000)
    assert 1800 <= len(routes) <= 2000
    assert len({route[:2] for route in routes}) == len(routes)
    assert all(network & ((1 << (shape.width - length)) - 1) == 0 for network, length, _ in routes)


@pytest.mark.parametrize("shape", [tables.IPV4, tables.IPV6])
def test_zipf_addresses_lie_in_the_table(shape: tables.Shape) -> None:
    routes = tables.full_table(shape, 300)
    oracle = LpmOracle(shape.width)
    for network, length, _ in routes:
        oracle.put(network, length, 1)
    assert all(oracle.lookup(address) for address in tables.zipf_addresses(shape, routes, 200))
