"""python -m tests.fuzz [--seconds N] [TARGET ...]: search for input that a decoder does not
expect.

Runs each target under atheris (coverage-guided, libFuzzer's engine) for this time, in a separate
process, from the corpus and the seeds. New input that reaches new code is added to the corpus in
`build/fuzz`; `--keep` merges the input that adds coverage into `tests/fuzz/corpus`, which the gate
replays. Input that raises is written to `build/fuzz/TARGET/crash-*` and ends with status 1.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

BUILD = Path("build/fuzz")
KEPT_MAX = 60
"""Inputs of one target that `--keep` keeps: the shortest that add coverage."""


def main() -> int:
    """Run the program. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="merge what was found into the corpus")
    options = parser.parse_args()
    unknown = sorted(set(options.targets) - TARGETS.keys())
    if unknown:
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    failed = [
        name
        for name in options.targets or TARGETS
        if not fuzz(name, options.seconds, keep=options.keep)
    ]
    print(f"findings in {', '.join(failed)}; see {BUILD}" if failed else "no findings")
    return 1 if failed else 0


def fuzz(name: str, seconds: int, *, keep: bool) -> bool:
    """Search with one target. Returns whether nothing was found."""
    found = BUILD / name
    inputs = found / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (inputs / f"seed-{number}").write_bytes(seed)
    print(f"{name}: {seconds} s", flush=True)
    log = found / "log"
    with log.open("w") as out:
        status = subprocess.run(
            [
                sys.executable, "-m", "tests.fuzz.worker", name, f"-max_total_time={seconds}",
                f"-max_len={TARGETS[name].max_bytes}", f"-artifact_prefix={found}/",
                "-timeout=20", "-rss_limit_mb=2048", str(inputs), str(kept_folder(name)),
            ],
            stdout=out, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    print(f"  {_summary(log)}", flush=True)
    if status == 0 and keep:
        keep_best(name, inputs)
    return status == 0


def kept_folder(name: str) -> Path:
    """Return the folder of a target's corpus; it is created when it is missing."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep_best(name: str, inputs: Path) -> None:
    """Merge inputs that add coverage into the corpus: the shortest KEPT_MAX of them."""
    merged = inputs.parent / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir()
    subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz.worker", name, "-merge=1", str(merged),
            str(kept_folder(name)), str(inputs),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    best = sorted(merged.iterdir(), key=lambda path: (path.stat().st_size, path.name))[:KEPT_MAX]
    for path in best:
        shutil.copy(path, kept_folder(name) / path.name)


def _summary(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    useful = [line for line in lines if line.startswith(("Done", "SUMMARY", " ===", "Uncaught"))]
    return "; ".join(useful[-2:]) or (lines[-1] if lines else "no output")


if __name__ == "__main__":
    sys.exit(main())
