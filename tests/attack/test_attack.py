"""Every adversary once, with one seed; `make attack` continues with other inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from testbed import Lab
from tests.attack.adversaries import ADVERSARIES
from tests.attack.scene import Scene, attacked_network

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: local users are other uids"),
]

SEED = 20_261_128


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(attacked_network()) as lab:
        scene = Scene(lab, SEED)
        scene.start()
        yield scene


@pytest.mark.parametrize("name", ADVERSARIES)
def test_the_router_withstands(name: str, scene: Scene) -> None:
    try:
        ADVERSARIES[name](scene)
    except BaseException as error:
        error.add_note(scene.lab.dump())
        raise
