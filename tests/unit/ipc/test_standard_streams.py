"""A program that was started without standard streams has /dev/null in their places."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from ipc.standard_streams import occupy_standard_streams
occupy_standard_streams()
opened = os.open("/dev/zero", os.O_RDONLY)
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
sys.stdin.read()
places = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
os.write(REPORT, repr((opened, places)).encode())
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_occupied_before_anything_is_opened(closed: tuple[int, ...]) -> None:
    read_end, write_end = os.pipe()

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("REPORT", str(write_end))],
        pass_fds=(write_end,), preexec_fn=close,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write_end)
    _, problem = process.communicate()
    assert process.returncode == 0, problem
    opened, places = json.loads(
        os.read(read_end, 4096).decode().replace("'", '"').replace("(", "[").replace(")", "]")
    )
    os.close(read_end)
    assert opened > 2
    assert [places[number] for number in closed] == [os.devnull] * len(closed)
