"""Every decoder against its kept corpus, its seeds, and seeded damage to both.

`make fuzz` searches for new input; its findings are kept in `corpus/`, and fail here without the
fix.
"""

from __future__ import annotations

import random
import zlib

import pytest

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import CORPUS, TARGETS

MUTATIONS = 300
"""For each target: under half a second."""


def kept(name: str) -> list[bytes]:
    """The corpus of a target, in order of its file names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


@pytest.mark.parametrize("name", TARGETS)
def test_well_formed_and_kept_input_is_decoded_or_refused(name: str) -> None:
    target = TARGETS[name]
    inputs = [*target.seeds(), *kept(name)]
    assert inputs
    for data in inputs:
        target.run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_decoded_or_refused(name: str) -> None:
    target = TARGETS[name]
    rng = random.Random(zlib.crc32(name.encode()))
    inputs = [*target.seeds(), *kept(name)]
    for _ in range(MUTATIONS):
        target.run(mutated(rng.choice(inputs), inputs, rng, target.max_bytes))


def test_every_folder_of_the_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()
