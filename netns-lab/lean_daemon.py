"""routed whose first engine lacks a resource: `lean_daemon.py DATA|NOFILE AMOUNT -c FILE`.

    DATA    bytes of private memory in addition to what it uses after its imports (shared memory
            does not count)
    NOFILE  number of descriptors

Later engines have no such limit. (The limits of a running process of another user can be set with
CAP_SYS_RESOURCE only, which containers seldom have.)
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import routed.engine.main
from routed import cli
from routed.parent.engine_process import spawn as privsep

_MARK = "lean-engine"


def _limit(what: str, amount: int) -> None:
    if what == "DATA":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        amount += pages * resource.getpagesize()
    number = getattr(resource, f"RLIMIT_{what}")
    resource.setrlimit(number, (amount, amount))


def main(arguments: list[str]) -> int:
    """Run the daemon; or, when started by it, its engine."""
    if arguments[0] == _MARK:
        what, amount, mark, *rest = arguments[1:]
        try:
            os.unlink(mark)
        except FileNotFoundError:
            pass  # the first engine had the limit
        else:
            assert routed.engine.main is not None
            _limit(what, int(amount))
        return cli.main(rest)
    what, amount, *rest = arguments
    mark = str(Path(rest[1]).with_name("lean"))
    Path(mark).touch()
    words = (sys.executable, __file__, _MARK, what, amount, mark, "--role", "engine")
    privsep.ENGINE_COMMAND = words
    return cli.main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
