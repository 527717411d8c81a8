"""Readers in parallel with a writer that changes everything and is killed.

The contents of the table allow each answer to be checked without communication: in generation g
each route's metric is g, and every generation replaces or removes the routes of the one before. The
expected answer of generation g is computed from g alone (`present_in`), so a reader needs only the
generations that existed between the start and the end of its call.

A burst is published prefix by prefix, so during the burst that leads to generation g a reader may
see either side: generations from the one before the call to the one after its end are right.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.fdpass import descriptor_space, take_descriptors
from ipc.fib_search import PythonSearch, make_search
from ipc.snapshot import FibReader
from routed.model.prefix import Family, Prefix
from tests.fakes.fib_writer import PARTS, BestChange, Writer, best_path

ROOT = Path(__file__).resolve().parents[2]
PREFIXES = 400
READERS = 4
KILLS = 6
ANSWERS = 400
"""The answers that each reader checks for each writer, half of them after its end."""
DEADLINE_S = 60.0


def prefixes() -> list[Prefix]:
    """Nested prefixes of both families; the last few are in one slot."""
    rng = random.Random(5)
    found: set[Prefix] = set()
    while len(found) < PREFIXES:
        family = rng.choice(list(Family))
        width = family.width
        bits = 0x0A << width - 8 | rng.getrandbits(9) << width - 17 | rng.getrandbits(8)
        found.add(Prefix.masked(family, bits, rng.choice([9, 14, 17, 20, 24, 28, 31, 32])))
    return sorted(found)


def present_in(generation: int, index: int) -> bool:
    """Whether a prefix is in the table of a generation: two thirds of them are, in turns."""
    return (index * 7 + generation) % 3 != 0


def burst(table: list[Prefix], generation: int) -> Iterator[BestChange]:
    for index, prefix in enumerate(table):
        if present_in(generation, index):
            yield prefix, best_path(metric=generation)
        elif present_in(generation - 1, index):
            yield prefix, None


def write_for_ever(channel: socket.socket, name: str) -> None:
    """In the child: pass the snapshot on, then change everything, again and again."""
    writer = Writer(PARTS[name])
    table = prefixes()
    writer.apply(*burst(table, 1))
    socket.send_fds(channel, [b"snapshot"], [writer.snapshot.fileno()])
    generation = 1
    while True:
        generation += 1
        writer.apply(*burst(table, generation))


def answers_of(
    table: list[Prefix], addr_bits: int, family: Family, first: int, last: int
) -> set[int]:
    """Return the metrics that are right for an address in generations from `first` to `last`; 0 for
    none.

    A single prefix is published at a time, so during a burst the longest match may be one of the
    old table and one of the new: any that is in either and is hidden by none that is in both.
    """
    covering = [
        (prefix.prefix_len, index)
        for index, prefix in enumerate(table)
        if prefix.family is family
        and (addr_bits ^ prefix.addr_bits) >> (family.width - prefix.prefix_len) == 0
    ]
    right: set[int] = set()
    for generation in range(first, last + 1):
        for _, index in sorted(covering, reverse=True):
            was_there = present_in(generation - 1, index)
            is_there = present_in(generation, index)
            if was_there and first < generation:
                right.add(generation - 1)
            if is_there:
                right.add(generation)
                if was_there or generation == first:
                    break
        else:
            right.add(0)
    return right


def read_and_check(channel: socket.socket, name: str) -> None:
    """In the child: look up addresses, compare every answer with the expected ones. Returns how
    many were right.
    """
    _, ancillary, _, _ = channel.recvmsg(16, descriptor_space())
    (descriptor,) = take_descriptors(ancillary)
    search = make_search if name == "native" else PythonSearch
    table, rng = prefixes(), random.Random(os.getpid())
    with FibReader.from_fd(descriptor, search=search) as reader:
        channel.send(b"reading")
        for phase in ("alive", "dead"):
            for _ in range(ANSWERS // 2):
                prefix = rng.choice(table)
                host_bits = prefix.family.width - prefix.prefix_len
                addr_bits = (
                    prefix.addr_bits | rng.getrandbits(host_bits or 1) & (1 << host_bits) - 1
                )
                check_one(reader, table, prefix.family, addr_bits)
            if phase == "alive":
                channel.send(b"checked")
                channel.recv(16)  # the writer has been killed
    channel.send(b"right")


def check_one(reader: FibReader, table: list[Prefix], family: Family, addr_bits: int) -> None:
    packed = addr_bits.to_bytes(family.width // 8, "big")
    version = 4 if family is Family.IPV4 else 6
    first = reader.generation
    found = reader.lookup(packed)
    # The generation is counted after the burst, so one burst may be under way at the end.
    last = reader.generation + 1
    metric = found.metric if found else 0
    right = answers_of(table, addr_bits, family, first, last)
    assert metric in right, f"{packed.hex()}: {metric}, and {sorted(right)} are right"
    numbers: array[int] = reader.lookup_many(packed * 64, version)
    assert len(numbers) == 64


def start(role: str, channel: socket.socket, *arguments: str) -> subprocess.Popen[bytes]:
    code = "import sys; from tests.process.test_fib_survival import main; main(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, role, str(channel.fileno()), *arguments],
        pass_fds=[channel.fileno()],
        cwd=ROOT,
    )


def main(role: str, descriptor: str, *arguments: str) -> None:
    with socket.socket(fileno=int(descriptor)) as channel:
        if role == "writer":
            write_for_ever(channel, *arguments)
        else:
            read_and_check(channel, *arguments)


def receive(channel: socket.socket, word: bytes) -> None:
    channel.settimeout(DEADLINE_S)
    assert channel.recv(16) == word


@pytest.mark.slow
def test_readers_survive_a_writer_that_is_killed_in_the_middle() -> None:
    """Each writer, in Python and native in turns, is killed at another instruction. No reader
    crashes, hangs or answers wrongly.
    """
    for kill in range(KILLS):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        writer = start("writer", theirs, list(PARTS)[kill % len(PARTS)])
        readers: list[tuple[subprocess.Popen[bytes], socket.socket]] = []
        try:
            ours.settimeout(DEADLINE_S)
            _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
            for number in range(READERS):
                channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                name = "native" if number % 2 else "python"
                readers.append((start("reader", other, name), channel))
                other.close()
                socket.send_fds(channel, [b"snapshot"], descriptors)
            os.close(descriptors[0])
            for _, channel in readers:
                receive(channel, b"reading")
            for _, channel in readers:
                receive(channel, b"checked")
            assert writer.poll() is None, "it wrote until it was killed"
            writer.send_signal(signal.SIGKILL)
            writer.wait(DEADLINE_S)
            for _, channel in readers:
                channel.send(b"killed")
            for process, channel in readers:
                receive(channel, b"right")
                assert process.wait(DEADLINE_S) == 0
        finally:
            for process in [writer, *(process for process, _ in readers)]:
                process.kill()
                process.wait()
            for _, channel in readers:
                channel.close()
            ours.close()
            theirs.close()
