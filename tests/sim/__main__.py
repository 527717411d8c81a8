"""`make sim`: networks of growing size in virtual time; a table, a result file and a plot.

python -m tests.sim                                  every topology, 10 to 2,000 routers
python -m tests.sim --only ring --sizes 10 100

Rows are kept in bench-results/sim.json, one for each topology and size, so that a long run can be
done in parts; the plot (bench-results/sim.svg) shows all that exist. The figures contain no wall
time.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.sim.experiment import run_experiment
from tests.sim.plot import draw_plot
from tests.sim.topologies import TOPOLOGIES

SIZES = (10, 30, 100, 300, 1000, 2000)
BAR_WIDTH = 30
RESULTS = Path(__file__).resolve().parents[2] / "bench-results"

_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("topology", "topology", "s"),
    ("routers", "routers", "d"),
    ("prefixes", "prefixes", "d"),
    ("start_s", "start, s", ".3f"),
    ("cut_s", "cut, s", ".3f"),
    ("mend_s", "restore, s", ".3f"),
    ("crash_s", "crash, s", ".3f"),
    ("start_datagrams", "start, datagrams", ".0f"),
    ("start_bytes", "start, bytes", ".0f"),
    ("cut_datagrams", "cut, datagrams", ".1f"),
    ("cut_bytes", "cut, bytes", ".0f"),
    ("idle_bytes_per_s", "idle, B/s", ".0f"),
)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| " + " | ".join(title for _, title, _ in _COLUMNS) + " |"]
    lines.append("|---" + "|---:" * (len(_COLUMNS) - 1) + "|")
    for row in rows:
        cells = [format(row[name], spec) for name, _, spec in _COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def progress(number: int, total: int, done: str) -> str:
    """Return a line of the progress bar: how many of the networks are done, and the last one."""
    filled = BAR_WIDTH * number // total
    return f"[{'#' * filled:.<{BAR_WIDTH}}] {number} of {total}: {done}"


def _in_order(rows: dict[tuple[str, int], dict[str, Any]]) -> list[dict[str, Any]]:
    order = list(TOPOLOGIES)
    return [rows[key] for key in sorted(rows, key=lambda key: (order.index(key[0]), key[1]))]


def _run(job: tuple[str, int, int]) -> dict[str, Any]:
    topology, routers, seed = job
    gc.disable()  # the cyclic garbage of a network can be collected with the network
    try:
        return run_experiment(topology, routers, seed=seed).to_json()
    finally:
        gc.enable()
        gc.collect()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--only", choices=list(TOPOLOGIES), help="one topology")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of routers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(TOPOLOGIES)
    jobs = [(name, size, options.seed) for size in options.sizes for name in names]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "sim.json"
    kept = json.loads(path.read_text()) if path.exists() else []
    rows = {(row["topology"], row["routers"]): row for row in kept}
    with ExitStack() as stack:
        run_all: Callable[..., Iterator[dict[str, Any]]] = map
        if options.jobs > 1:
            run_all = stack.enter_context(ProcessPoolExecutor(options.jobs)).map
        for number, row in enumerate(run_all(_run, jobs), 1):
            rows[row["topology"], row["routers"]] = row
            ordered = _in_order(rows)
            path.write_text(json.dumps(ordered, indent=1) + "\n")
            (RESULTS / "sim.svg").write_text(draw_plot(ordered))
            done = f"{row['topology']}, {row['routers']} routers"
            print(progress(number, len(jobs), done), file=sys.stderr, flush=True)
    print(table(_in_order(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
