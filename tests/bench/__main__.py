"""PYTHONPATH=netns-lab python -m tests.bench [NAME...]: run benchmarks (`make bench`)."""

from __future__ import annotations

import argparse
import sys

from tests.bench.harness import ROOT, Bench, Row, benchmark_names, run_benchmark, summary, table


def main() -> int:
    """Run the benchmarks of the command line. Returns 2 when there is no such benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--runs", type=int, default=5, help="how often each figure is taken (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the amount of work (1)")
    parser.add_argument("--long", action="store_true", help="do in full what takes minutes")
    options = parser.parse_args()
    if options.list:
        print("\n".join(benchmark_names()))
        return 0
    if options.runs < 1 or options.scale <= 0:
        parser.error("--runs is at least 1, --scale is above 0")
    unknown = set(options.names) - set(benchmark_names())
    if unknown:
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(benchmark_names())}"
        )
    rows: list[Row] = []
    for name in options.names or benchmark_names():
        bench = Bench(runs=options.runs, scale=options.scale, is_long=options.long)
        print(f"--- {name}", flush=True)
        path = run_benchmark(name, bench)
        print(table(bench.rows))
        print(f"written to {path.relative_to(ROOT)}", flush=True)
        rows += bench.rows
    print(summary(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
