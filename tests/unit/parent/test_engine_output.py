"""What an engine prints, line by line, over a real pipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio

from routed.parent.engine_process.output import CHUNK_BYTES, LINE_MAX, LINES_KEPT, EngineOutput


class Printing(NamedTuple):
    output: EngineOutput
    write_end: int
    lines: list[str]

    def says(self, data: bytes) -> None:
        os.write(self.write_end, data)


@pytest.fixture
def printing() -> Iterator[Printing]:
    read_end, write_end = os.pipe()
    lines: list[str] = []
    output = EngineOutput(read_end, lines.append)
    yield Printing(output, write_end, lines)
    output.close()


async def test_lines_are_whole_wherever_the_reads_cut_them(
    printing: Printing, autojump_clock: object
) -> None:
    said = [f"line {number} " + "x" * (number % 97) for number in range(900)]
    data = "\n".join(said).encode() + b"\n"
    assert len(data) > 10 * CHUNK_BYTES
    printing.says(data)
    os.close(printing.write_end)
    await printing.output.relay()
    assert printing.lines == said
    assert list(printing.output.final_output) == said[-LINES_KEPT:]


async def test_it_ends_with_the_stream_and_not_before(
    printing: Printing, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(printing.output.relay)
        for word in ("one", "two"):
            printing.says(f"{word}\n".encode())
            await trio.testing.wait_all_tasks_blocked()
        assert printing.lines == ["one", "two"]
        os.close(printing.write_end)


def test_the_output_of_a_dead_process_is_read_with_its_last_line_unfinished(
    printing: Printing,
) -> None:
    os.set_blocking(printing.write_end, False)
    written = os.write(printing.write_end, b"y" * 99 + b"\n") + os.write(
        printing.write_end, (b"z" * 99 + b"\n") * 655
    )
    printing.output.drain()
    assert len(printing.lines) == written // 100 + (1 if written % 100 else 0)
    os.write(printing.write_end, b"Killed")
    os.close(printing.write_end)
    printing.output.drain()
    assert printing.lines[-1] == "Killed"


def test_a_line_without_end_is_several(printing: Printing) -> None:
    printing.says(b"a" * (2 * LINE_MAX + 1) + b"\xff")
    os.close(printing.write_end)
    printing.output.drain()
    assert [len(line) for line in printing.lines] == [LINE_MAX, LINE_MAX, 5]
    assert printing.lines[-1] == "a\\xff"
