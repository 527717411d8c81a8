"""In sync after a start: when links are complete, neighbors were heard, and NUP is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from routed.engine.fib.programming import FibProgramming
from routed.engine.initial_sync import SYNC_LIMIT_S, InitialSync
from routed.nup.instance import NeighborInstance
from routed.rib.table import BestPathChanges, Rib

HEARD_AT = 10.0


class Scene:
    """The parts of NUP and of the FIB that take part, and the object under test."""

    def __init__(self, *, defers_learned: bool = False) -> None:
        self.is_nup_loaded = False
        self.awaits_links = False
        self.awaited: list[bool] = []
        self.defers_learned = defers_learned
        self.is_in_sync = False
        self.sync = InitialSync(
            cast("NeighborInstance", self), cast("FibProgramming", self), Rib(lambda: 0.0)
        )

    def is_loaded(self, _now: float) -> bool:
        return self.is_nup_loaded

    def await_forwarding(self, waits: bool, _now: float) -> None:
        self.awaited.append(waits)

    def release_learned(self, _best_paths: Iterable[BestPathChanges]) -> None:
        self.defers_learned = False

    def set_in_sync(self) -> None:
        assert not self.is_in_sync, "once"
        self.is_in_sync = True

    def is_released_at(self, now: float) -> bool:
        self.sync.release_learned(now)
        return not self.defers_learned

    def is_in_sync_at(self, now: float) -> bool:
        self.sync.release_learned(now)
        self.sync.check(now)
        return self.is_in_sync


def test_it_is_not_in_sync_before_links_are_complete() -> None:
    scene = Scene()
    scene.is_nup_loaded = True
    assert not scene.is_in_sync_at(1000.0)
    assert scene.sync.seconds_to_check(1000.0) == float("inf")


def test_it_is_in_sync_when_every_neighbor_was_heard_and_nup_is_loaded() -> None:
    scene = Scene()
    scene.sync.links_complete(HEARD_AT)
    scene.is_nup_loaded = True
    assert not scene.is_in_sync_at(HEARD_AT - 1)
    assert scene.sync.seconds_to_check(HEARD_AT - 1) == 1
    assert scene.is_in_sync_at(HEARD_AT)
    assert scene.is_in_sync_at(HEARD_AT + 1)
    assert scene.sync.seconds_to_check(HEARD_AT + 1) == float("inf")


def test_a_neighbor_that_never_ends_its_table_delays_it_by_the_limit() -> None:
    scene = Scene()
    scene.sync.links_complete(HEARD_AT)
    assert not scene.is_in_sync_at(HEARD_AT + SYNC_LIMIT_S - 0.1)
    assert scene.is_in_sync_at(HEARD_AT + SYNC_LIMIT_S)


def test_learned_routes_are_released_when_nup_is_loaded_or_everyone_was_heard() -> None:
    loaded = Scene(defers_learned=True)
    loaded.sync.links_complete(HEARD_AT)
    loaded.is_nup_loaded = loaded.awaits_links = True
    assert not loaded.is_released_at(1.0), "a link is still missing"
    assert loaded.sync.seconds_to_check(1.0) < 1
    loaded.awaits_links = False
    assert loaded.is_released_at(2.0)
    assert loaded.awaited == [True]

    late = Scene(defers_learned=True)
    late.sync.links_complete(HEARD_AT)
    assert not late.is_released_at(HEARD_AT - 1)
    assert late.is_released_at(HEARD_AT)
