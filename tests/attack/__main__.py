"""python -m tests.attack [--seed N] [--minutes M] [ADVERSARY ...]: attack a router for some
minutes.

One round runs every adversary once with new inputs; rounds continue until the time is over. The
seed is printed and determines every input. Root is needed, because local users are other uids.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from testbed import Lab
from tests.attack.adversaries import ADVERSARIES
from tests.attack.scene import Scene, attacked_network, unavailable_reason


def main() -> int:
    """Run the program. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("adversaries", nargs="*", metavar="ADVERSARY", help=", ".join(ADVERSARIES))
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--minutes", type=float, default=8.0)
    options = parser.parse_args()
    unknown = sorted(set(options.adversaries) - ADVERSARIES.keys())
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(ADVERSARIES)}")
    print(f"seed {options.seed}", flush=True)
    ends_at, rounds = time.monotonic() + 60 * options.minutes, 0
    with Lab(attacked_network()) as lab:
        if problem := unavailable_reason(lab):
            print(f"this needs root: {problem}", file=sys.stderr)
            return 2
        scene = Scene(lab, options.seed)
        scene.start()
        while not rounds or time.monotonic() < ends_at:
            rounds += 1
            for name in options.adversaries or ADVERSARIES:
                began = time.monotonic()
                try:
                    ADVERSARIES[name](scene)
                except BaseException:
                    print(f"{name}: FAILED in round {rounds} of seed {options.seed}", flush=True)
                    print(lab.dump(), file=sys.stderr)
                    raise
                print(f"{name}: held, {time.monotonic() - began:.1f} s", flush=True)
    print(f"{rounds} rounds, every adversary was held off")
    return 0


if __name__ == "__main__":
    sys.exit(main())
