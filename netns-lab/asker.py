"""A program inside a router that runs `routectl` on request, each time in a forked process.

Starting an interpreter and importing routectl takes ten times longer than the answer, and a test
that waits for a state runs many commands. Here both are done once. To the daemon, the forked
process is a client like any other.

    a JSON list of words on stdin  ->  {"status": 0, "out": "...", "err": "..."} on stdout
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import traceback
from types import TracebackType
from typing import Self

from client import LabError
from inside import Inside

__all__ = ["Asker"]

_PRELOADED = ("routectl.quick", "routectl.render.json", "routectl.render.views")


class Asker:
    """The program in one router, as seen from outside; a context manager that ends it."""

    def __init__(self, lab: Inside, router: str) -> None:
        """Start the program.

        Raises:
            LabError: there is no such router.
        """
        self._router = router
        self._is_asking = threading.Lock()
        pipe = subprocess.PIPE
        self._program = lab.popen(router, [sys.executable, __file__], stdin=pipe, stdout=pipe)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._program:
            assert self._program.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._program.stdin.close()

    def ask(self, words: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run `routectl WORDS` to its end.

        Raises:
            LabError: it took too long, or the program has ended.
        """
        stdin, stdout = self._program.stdin, self._program.stdout
        assert stdin is not None
        assert stdout is not None
        with self._is_asking:
            try:
                stdin.write(json.dumps(words) + "\n")
                stdin.flush()
            except BrokenPipeError:
                raise LabError(
                    f"{self._router}: the program that runs routectl has ended"
                ) from None
            if not select.select([stdout], [], [], timeout_s)[0]:
                self._program.kill()
                text = f"{self._router}: routectl {' '.join(words)} did not end"
                raise LabError(f"{text} within {timeout_s:g} s")
            line = stdout.readline()
        if not line:
            raise LabError(f"{self._router}: the program that runs routectl has ended")
        answer = json.loads(line)
        return subprocess.CompletedProcess(words, answer["status"], answer["out"], answer["err"])


def _run(words: list[str]) -> dict[str, object]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _be_routectl(words, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return {
            "status": os.waitstatus_to_exitcode(status),
            "out": out.read().decode(errors="replace"),
            "err": err.read().decode(errors="replace"),
        }


def _be_routectl(words: list[str], out: int, err: int) -> None:
    """Run routectl in the child process. Does not return."""
    from routectl.quick import main  # imported already

    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  (as long as the process)
    os.dup2(sys.stdin.fileno(), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.argv = ["routectl", *words]
    status = 1
    try:
        status = main()
    except Exception:  # noqa: BLE001  (the answer says which)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for module in _PRELOADED:
        __import__(module)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)
