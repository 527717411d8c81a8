"""A program inside a router that searches one snapshot until its stdin is closed.

    snapshot_watch.py SOCKET ADDRESS LINK

A mapped snapshot stays valid for its reader, even if the engine that wrote it has ended: every
lookup must find a route of the address by the link. The last line on stdout is the number of
lookups; the exit status is 1 at the first wrong answer.
"""

from __future__ import annotations

import select
import sys

from ipc.snapshot import FibReader

_BATCH = 1000


def main(path: str, address: str, link: str) -> int:
    """Run the program. Returns its exit status."""
    lookups = 0
    with FibReader.open(path) as reader:
        print("open", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            for _ in range(_BATCH):
                route = reader.lookup(address)
                links = [] if route is None else [hop.dev for hop in route.next_hops]
                if links != [link]:
                    print(f"lookup {lookups}: {route}", flush=True)
                    return 1
                lookups += 1
    print(lookups)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
