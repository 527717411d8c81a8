"""What every benchmark shares: fair measuring, targets, peers that may be missing, the results.

A benchmark is a module `tests/bench/bench_NAME.py` with a function `run(bench: Bench) -> None`; it
says what it measures by `compare` (ours against peers) or `add` (a figure that it has already).

    make bench                 all of them
    make bench ONLY=lookup     one: prints a table, writes bench-results/lookup.json

A result file is a list of rows `{work, ours, unit, peers: {name: value}, limit, ratio, target,
met}`. A target is a bound of `ours`, or of `ratio` where the row names one of its peers as its
`limit`: machines differ, and one machine changes by half within an hour, so only a ratio of two
figures of one run can be held against a target. `limit`, `ratio`, `target` and `met` are null where
nothing was promised. Results are not kept in the repository: figures that were measured with care
go, with the command, into docs/performance.md.

Fairness: what is compared runs interleaved (ours, peer, peer, ours, ...), because a machine drifts,
and every figure is the median of the runs. A target that is missed is reported and fails nothing.
A peer that is not installed is named with the package that brings it, and left out.

Wall time is right here and nowhere else in the tests: no assertion of any test depends on it.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

__all__ = [
    "Bench",
    "Row",
    "benchmark_names",
    "comparison",
    "read_ratios",
    "run_benchmark",
    "seconds",
    "summary",
    "table",
]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "bench-results"

Measure = Callable[[], float]
"""Does the work once and returns the figure, in the unit of its row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a result."""

    work: str
    ours: float
    unit: str
    peers: Mapping[str, float] = field(default_factory=dict)
    target: float | None = None
    is_more_better: bool = False
    """Whether a target is a lower bound (a rate) rather than an upper bound (a time, a size)."""
    limit: str | None = None
    """The peer to which the target is a ratio."""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the limit; None if the row has no limit, or that was left out."""
        limit = None if self.limit is None else self.peers.get(self.limit)
        return self.ours / limit if limit else None

    @property
    def excess(self) -> float | None:
        """How far the figure is from its target: 1 meets it exactly, 2 is twice as far.

        None if there is no target, or no ratio to hold against it.
        """
        figure = self.ours if self.limit is None else self.ratio
        if self.target is None or figure is None:
            return None
        if self.is_more_better:
            return self.target / figure if figure else math.inf
        if self.target:
            return figure / self.target
        return math.inf if figure else 0.0

    @property
    def is_met(self) -> bool | None:
        """Whether the target was reached; None when there is none."""
        return None if self.excess is None else self.excess <= 1

    def to_json(self) -> dict[str, object]:
        """The row as it stands in a result file."""
        return {
            "work": self.work,
            "ours": self.ours,
            "unit": self.unit,
            "peers": dict(self.peers),
            "limit": self.limit,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.is_met,
        }


class Bench:
    """Collects the rows of one benchmark, and what had to be left out."""

    def __init__(
        self,
        *,
        runs: int = 5,
        scale: float = 1.0,
        is_long: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        """Begin.

        Args:
            runs: how often each figure is taken, at least 1.
            scale: factor on the amount of work, for a quick look; targets hold for 1.
            is_long: whether what takes minutes is done in full.
            say: where progress and what is left out goes.
        """
        self.runs = runs
        self.scale = scale
        self.is_long = is_long
        self.say = say
        self.rows: list[Row] = []

    def scaled(self, count: int) -> int:
        """Return an amount of work, at least 1."""
        return max(1, int(count * self.scale))

    def peer(self, module: str, package: str) -> ModuleType | None:
        """Import a peer.

        Args:
            module: what Python calls it.
            package: who brings it, in words, as in "PyPI: py-radix" or "Debian: bird2".

        Returns:
            None when it is not installed; that is said and the benchmark goes on without it.
        """
        try:
            return importlib.import_module(module)
        except ImportError:
            self.leave_out(module, package)
            return None

    def leave_out(self, what: str, package: str) -> None:
        """Say that a peer is missing, and which package brings it."""
        self.say(f"left out: {what} is not installed ({package})")

    def compare(
        self,
        work: str,
        unit: str,
        ours: Measure,
        peers: Mapping[str, Measure] | None = None,
        *,
        target: float | None = None,
        is_more_better: bool = False,
        limit: str | None = None,
    ) -> Row:
        """Measure ours and the peers in turns, and add a row of the medians.

        Args:
            work: what is done.
            unit: of all figures.
            ours: measures our own.
            peers: measure the others, by name.
            target: bound of ours, or of its ratio to the limit.
            is_more_better: whether the target is a least figure.
            limit: the peer to which the target is a ratio.
        """
        measures = {"": ours, **(peers or {})}
        figures: dict[str, list[float]] = {name: [] for name in measures}
        for run in range(self.runs):
            # Every other run goes backwards, so that no one always comes after the same one.
            for name in sorted(measures, reverse=bool(run % 2)):
                figures[name].append(_undisturbed(measures[name]))
        medians = {name: statistics.median(of_one) for name, of_one in figures.items()}
        return self.add(
            work,
            unit,
            medians.pop(""),
            medians,
            target=target,
            is_more_better=is_more_better,
            limit=limit,
        )

    def add(
        self,
        work: str,
        unit: str,
        ours: float,
        peers: Mapping[str, float] | None = None,
        *,
        target: float | None = None,
        is_more_better: bool = False,
        limit: str | None = None,
    ) -> Row:
        """Add a figure that was measured some other way; arguments as for `compare`."""
        row = Row(work, ours, unit, peers or {}, target, is_more_better, limit)
        self.rows.append(row)
        return row


def seconds(work: Callable[[], object]) -> float:
    """Measure the time of a piece of work."""
    began_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began_ns) / 1e9


def _undisturbed(measure: Measure) -> float:
    """Collect garbage before, not during."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return measure()
    finally:
        if was_enabled:
            gc.enable()


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run_benchmark(name: str, bench: Bench, results: Path = RESULTS) -> Path:
    """Run one benchmark and write its result file.

    Raises:
        KeyError: there is no such benchmark.
        OSError: the result cannot be written.
    """
    if name not in benchmark_names():
        raise KeyError(name)
    run: Callable[[Bench], None] = importlib.import_module(f"tests.bench.bench_{name}").run
    run(bench)
    results.mkdir(exist_ok=True)
    path = results / f"{name}.json"
    path.write_text(json.dumps([row.to_json() for row in bench.rows], indent=2) + "\n")
    return path


def table(rows: list[Row]) -> str:
    """The rows as text: one line each, peers after ours, missed targets in capitals."""
    lines = [("WORK", "OURS", "UNIT", "RATIO", "TARGET", "", "PEERS")]
    for row in rows:
        sign = ">=" if row.is_more_better else "<="
        lines.append(
            (
                row.work,
                _figure(row.ours),
                row.unit,
                "" if row.ratio is None else _figure(row.ratio),
                "" if row.target is None else f"{sign} {_figure(row.target)}",
                {True: "met", False: "MISSED", None: ""}[row.is_met],
                ", ".join(f"{name} {_figure(value)}" for name, value in row.peers.items()),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 3, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def read_ratios(directory: Path) -> dict[str, float]:
    """Return the ratios of all result files of a directory, by the work of their rows.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not a result.
    """
    found: dict[str, float] = {}
    for path in sorted(directory.glob("*.json")):
        for row in json.loads(path.read_text()):
            if isinstance(row, dict) and row.get("ratio") is not None:
                found[str(row["work"])] = float(row["ratio"])
    return found


def comparison(rows: list[Row], before: Mapping[str, float]) -> str:
    """The ratios of two commits as text: before, now, and the factor between them.

    Args:
        rows: of this run.
        before: the ratios of the other commit; rows that only one of them has are left out.
    """
    lines = [("WORK", "BEFORE", "NOW", "FACTOR")]
    for row in rows:
        if row.ratio is not None and row.work in before:
            factor = row.ratio / before[row.work] if before[row.work] else math.inf
            figures = _figure(before[row.work]), _figure(row.ratio), _figure(factor)
            lines.append((row.work, *figures))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def summary(rows: list[Row]) -> str:
    """Count the targets that are met and missed, and name the row that is farthest from its own."""
    with_target = [row for row in rows if row.excess is not None]
    if not with_target:
        return "no targets"
    met = sum(row.is_met is True for row in with_target)
    worst = max(with_target, key=lambda row: row.excess or 0.0)
    return (
        f"targets: {met} met, {len(with_target) - met} missed; farthest: {worst.work}, "
        f"{_figure(worst.excess or 0.0)} x its target"
    )


def _figure(value: float) -> str:
    """Three significant digits, whole numbers in full."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
