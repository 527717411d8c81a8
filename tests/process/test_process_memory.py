"""Resident sizes of real processes."""

from __future__ import annotations

import os
import subprocess
import sys

from routed.engine.show.memory import ProcessMemory

CHILD = """
import mmap, os, sys
from routed.engine.show.memory import ProcessMemory
memory = ProcessMemory()
before = memory.resident_bytes()
block = mmap.mmap(-1, 32 << 20)
block.write(b"x" * len(block))
print(memory.resident_bytes() - before, memory.parent_resident_bytes(), flush=True)
sys.stdin.read()
"""


def test_a_child_reads_its_own_growth_and_its_parent_s_size() -> None:
    own = ProcessMemory()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    grown, of_parent = map(int, child.stdout.readline().split())
    child.communicate("")
    assert 32 << 20 <= grown < 80 << 20
    assert 0.5 * own.resident_bytes() < of_parent < 2 * own.resident_bytes()


def test_a_parent_that_has_ended_has_no_size() -> None:
    script = (
        "import os, sys\n"
        "from routed.engine.show.memory import ProcessMemory\n"
        "if os.fork():\n    sys.stdin.read()\n    os._exit(0)\n"
        "memory = ProcessMemory()\n"
        "before = memory.parent_resident_bytes()\n"
        "pidfd = os.pidfd_open(os.getppid())\n"
        "import select\n"
        "print(before > 0, flush=True)\n"
        "select.select([pidfd], [], [])\n"
        "print(memory.parent_resident_bytes(), memory.resident_bytes() > 0)\n"
    )
    read_end, write_end = os.pipe()
    done = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=write_end, text=True
    )
    os.close(write_end)
    with open(read_end, encoding="ascii") as said:
        assert said.readline() == "True\n"
        done.communicate("")
        assert said.read() == "None True\n"
