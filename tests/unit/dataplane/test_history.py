"""Former contents of counters: exact, and bounded."""

from __future__ import annotations

import random

from routed.dataplane.history import BLOCK_BYTES, CounterHistory

SIZE = 5 * BLOCK_BYTES + 320


def test_each_moment_is_remembered_as_it_was() -> None:
    rng = random.Random(15)
    memory = bytearray(SIZE)
    history = CounterHistory(memoryview(memory), samples_max=8)
    samples: list[tuple[float, bytes]] = []
    for step in range(40):
        for _ in range(rng.randrange(4)):
            memory[rng.randrange(SIZE)] = rng.randrange(256)
        history.sample(float(step))
        samples = [*samples, (float(step), bytes(memory))][-8:]
        memory[rng.randrange(SIZE)] = 1  # after the sample, before the window
        for moment, content in samples:
            window = history.window(moment + 0.5)
            assert window is not None
            assert (window.began, bytes(window.content_before())) == (moment, content)
            assert b"".join(window.now) == memory
            changed = {block for block in range(6) if window.before[block] != window.now[block]}
            assert set(window.changed()) == changed
        at = rng.randrange(SIZE // 32) * 32
        values = [(moment, content[at : at + 32]) for moment, content in samples]
        assert history.values_of(at, 32) == values
    assert (history.oldest, history.number) == (32, 39)


def test_a_window_longer_than_the_memory_of_it_begins_with_the_oldest_sample() -> None:
    history = CounterHistory(memoryview(bytearray(SIZE)))
    assert history.window(0.0) is None
    assert history.values_of(0, 32) == []
    history.sample(10.0)
    history.sample(11.0)
    assert [window.began for window in (history.window(0.0), history.window(10.9)) if window] == [
        10.0, 10.0,
    ]  # fmt: skip
    window = history.window(0.0, not_before=1)
    assert window is not None
    assert (window.number, window.began) == (1, 11.0)
    assert history.window(0.0, not_before=2) is None


def test_blocks_take_no_more_memory_than_is_allowed() -> None:
    memory = bytearray(SIZE)
    history = CounterHistory(memoryview(memory), spare_bytes_max=10 * BLOCK_BYTES)
    for step in range(30):
        memory[0] = memory[2 * BLOCK_BYTES] = step + 1  # two blocks change
        history.sample(float(step))
    assert history.number - history.oldest == 5
    window = history.window(0.0)
    assert window is not None
    assert window.content_before()[0] == 25


def test_what_was_before_a_clearing_is_forgotten() -> None:
    memory = bytearray(SIZE)
    history = CounterHistory(memoryview(memory))
    history.sample(0.0)
    history.forget()
    assert history.window(0.0) is None
    history.sample(1.0)
    window = history.window(0.0)
    assert window is not None
    assert (window.number, list(window.changed())) == (1, [])
