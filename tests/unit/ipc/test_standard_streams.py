"""A program that was started without standard streams has /dev/null in their places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipc.standard_streams import open_nothing

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


def test_without_a_null_device_nothing_is_a_file_in_memory_that_stays_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A12: a start with closed streams in a container with an empty /dev ended with a traceback."""
    monkeypatch.setattr(os, "devnull", str(tmp_path / "null"))
    nothing, bounded = open_nothing(), open_nothing(takes_writes=True)
    assert os.read(nothing, 1) == b""
    with pytest.raises(PermissionError):
        os.write(nothing, b"x")
    assert os.fstat(nothing).st_size == 0
    assert os.write(bounded, b"x") == 1
    assert not os.get_inheritable(nothing)
    for descriptor in (nothing, bounded):
        os.close(descriptor)
