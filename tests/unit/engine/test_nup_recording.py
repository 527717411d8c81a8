"""The recording of an engine: one at a time, and the last one is kept until the next."""

from __future__ import annotations

import random

import pytest

from routed.engine.nup_recording import NupRecording
from routed.nup.recording.replay import Replay
from tests.fakes.nup_pair import pair


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recording(clock: Clock) -> NupRecording:
    instance = pair()[1].instance
    return NupRecording(instance, random.Random(1), clock)


def test_without_a_recording_there_is_nothing(recording: NupRecording) -> None:
    assert recording.stop() is None
    assert recording.size_bytes == 0


def test_an_ended_recording_is_kept_until_the_next(recording: NupRecording, clock: Clock) -> None:
    """`record off` to a full disk lost it."""
    assert recording.start()
    assert not recording.start()
    under_way = recording.size_bytes
    assert under_way > 0
    clock.now += 5.0
    ended = recording.stop()
    assert ended is not None
    assert ended.ended_s == 0.0
    assert recording.size_bytes == len(ended.text) > under_way
    assert all(not step.differs for step in Replay(ended.text).steps())
    clock.now += 65.0
    assert recording.stop() == (ended.text, 65.0)
    assert recording.start(), "an ended recording does not keep the next from beginning"
    assert recording.size_bytes < len(ended.text)
    second = recording.stop()
    assert second is not None
    assert (second.ended_s, second.text == ended.text) == (0.0, False)


def test_the_generator_is_seeded_again_at_the_end_and_not_at_each_answer(clock: Clock) -> None:
    rng = random.Random(1)
    recording = NupRecording(pair()[1].instance, rng, clock)
    recording.start()
    recorded = rng.getstate()
    recording.stop()
    after = rng.getstate()
    assert after != recorded
    recording.stop()
    assert rng.getstate() == after
