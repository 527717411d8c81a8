"""routed with a built-in fault: `fragile_daemon.py WHAT -c FILE`.

    publish     the first engine is killed by SIGKILL while it publishes a burst in the snapshot:
                some slots are stored, others are not
    compaction  the same while it moves blocks of a table that has become smaller
    clock       wall time jumps by a year, back and forth twice a second, in every process

The first two end between two given instructions, which a kill from outside would hit once in a
thousand times. The clock is replaced in Python: only Python code of routed reads wall time, and the
system's clock cannot be set for one namespace.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import routed.engine.main
from routed import cli
from routed.parent.engine_process import spawn as privsep
from routed.snapshot import compaction
from routed.snapshot.parts import python_parts
from routed.snapshot.trie import LcTrie
from routed.snapshot.writer import FibSnapshot

_MARK = "fragile-engine"
_YEAR_S = 365 * 86400
_DIES_AT = {"publish": 300, "compaction": 1}
"""Number of the call after which the engine is killed. A table of ten thousand routes is so dense
that it has few moves."""


def _dying(method: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """Wrap a method so that the process is killed at the end of the given call."""
    left = calls

    def work(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        result = method(*arguments)
        if left == 0:
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL)
        return result

    return work


def _break(what: str) -> None:
    # The process cannot be killed between two instructions of the C extension, so the writer in
    # Python is used: it stores the same words in the same order.
    defaults = FibSnapshot.__init__.__kwdefaults__
    assert defaults is not None
    defaults["make_parts"] = python_parts
    if what == "publish":
        # The only function that stores a slot, between two stores.
        setattr(LcTrie, "_rebuild", _dying(getattr(LcTrie, "_rebuild"), _DIES_AT[what]))  # noqa: B009, B010  (private)
    else:
        compaction.SLACK_WORDS = 0  # so that a small table is compacted, too
        LcTrie.move = _dying(LcTrie.move, _DIES_AT[what])  # type: ignore[method-assign]


def _break_clock() -> None:
    true_time, monotonic = time.time, time.monotonic

    def jumping() -> float:
        return true_time() + _YEAR_S * (1 if int(monotonic() * 2) % 2 else -1)

    time.time = jumping


def main(arguments: list[str]) -> int:
    """Run the daemon; or, when started by it, an engine."""
    if arguments[0] == _MARK:
        what, mark, *rest = arguments[1:]
        assert routed.engine.main is not None
        if what == "clock":
            _break_clock()
        elif os.path.exists(mark):
            os.unlink(mark)  # later engines have no fault
            _break(what)
        return cli.main(rest)
    what, *rest = arguments
    mark_path = Path(rest[1]).with_name("fragile")
    mark_path.touch()
    if what == "clock":
        _break_clock()
    words = (sys.executable, __file__, _MARK, what, str(mark_path), "--role", "engine")
    privsep.ENGINE_COMMAND = words
    return cli.main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
