"""PYTHONPATH=netns-lab python -m tests.bench [NAME...]: run benchmarks (`make bench`)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench.harness import (
    ROOT,
    Bench,
    Row,
    benchmark_names,
    comparison,
    read_ratios,
    run_benchmark,
    summary,
    table,
)

QUICK = ("fib", "lookup", "management", "rib", "start")
QUICK_RUNS, QUICK_SCALE = 3, 0.05


def main() -> int:
    """Run the benchmarks of the command line. Returns 2 when there is no such benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--runs", type=int, help="how often each figure is taken (5)")
    parser.add_argument("--scale", type=float, help="factor on the amount of work (1)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{', '.join(QUICK)}; {QUICK_RUNS} runs of {QUICK_SCALE:.0%} of the work",
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIRECTORY",
        help="compare the ratios with those of the bench-results of another commit",
    )  # fmt: skip
    parser.add_argument("--long", action="store_true", help="do in full what takes minutes")
    options = parser.parse_args()
    if options.list:
        print("\n".join(benchmark_names()))
        return 0
    runs = options.runs if options.runs is not None else QUICK_RUNS if options.quick else 5
    scale = options.scale if options.scale is not None else QUICK_SCALE if options.quick else 1.0
    if runs < 1 or scale <= 0:
        parser.error("--runs is at least 1, --scale is above 0")
    if options.against is not None and not options.against.is_dir():
        parser.error(f"--against {options.against}: there is no such directory")
    before = {} if options.against is None else read_ratios(options.against)
    unknown = set(options.names) - set(benchmark_names())
    if unknown:
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(benchmark_names())}"
        )
    rows: list[Row] = []
    for name in options.names or (QUICK if options.quick else benchmark_names()):
        bench = Bench(runs=runs, scale=scale, is_long=options.long)
        print(f"--- {name}", flush=True)
        path = run_benchmark(name, bench)
        print(table(bench.rows))
        print(f"written to {path.relative_to(ROOT)}", flush=True)
        rows += bench.rows
    print(summary(rows))
    if options.against is not None:
        print(comparison(rows, before))
    return 0


if __name__ == "__main__":
    sys.exit(main())
