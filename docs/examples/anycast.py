"""Announce an anycast address for as long as a service answers.

    python anycast.py 192.0.2.53/32 --dev lo --check 'dig +time=1 @127.0.0.1 example.org'

The check runs every --interval seconds. While it succeeds the address is a route of this router,
which NUP advertises to the neighbors (`redistribute: [{source: injected}]` in routes.yaml). When
the check fails, the route goes at once. When this program ends or hangs, in whatever way, no
program renews the lease, and the route goes when that has run out.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import threading

from routed.client import Client, ControlError


def is_healthy(command: str, limit_s: float) -> bool:
    """Whether the service answers: exit status 0 within the limit."""
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, timeout=limit_s, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return False
    return done.returncode == 0


def main() -> int:
    """Check and announce until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("prefix", help="the address, as ADDRESS/LENGTH")
    parser.add_argument("--dev", default="lo", help="the link that has the address")
    parser.add_argument("--check", required=True, help="a command; status 0 means healthy")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between checks")
    parser.add_argument("--socket", default="/run/routed/routed.sock")
    options = parser.parse_args()
    was_healthy = False
    rest = threading.Event()
    with Client(options.socket, owner="anycast") as routed:
        while not rest.wait(options.interval):
            healthy = is_healthy(options.check, options.interval)
            try:
                if healthy:
                    # Also when it is there: this renews the lease, and announces again after
                    # a restart of the daemon.
                    routed.replace(options.prefix, dev=options.dev, lease=3 * options.interval + 1)
                elif was_healthy:
                    routed.delete(options.prefix)
            except ControlError as error:
                print(f"anycast: {error}", file=sys.stderr)
                continue
            if healthy is not was_healthy:
                print("announced" if healthy else "withdrawn", flush=True)
            was_healthy = healthy
    return 0


if __name__ == "__main__":
    sys.exit(main())
