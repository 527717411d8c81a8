"""The network as NUP knows it: once for all who ask, in small steps, and gone with the last one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from routed.control.views import TopologyView
from routed.engine.router import Router
from routed.engine.show.topology import CHUNK_VIEWS, SHARED_S, STEP_PREFIXES, Topology
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop

SELF = Address.parse("10.255.0.1")
NEIGHBORS = [Address.parse(f"10.255.1.{number}") for number in (1, 2)]
HOPS = [NextHop(Address.parse(f"192.0.2.{number}"), 2) for number in (1, 2)]


def origin(number: int) -> Address:
    return Address(Family.IPV4, 0x0B00_0000 + number)


class Scene:
    """A router with so many prefixes of so many origins, and a clock."""

    def __init__(self, prefixes: int, origins: int) -> None:
        self.now = 0.0
        self.looked_at = 0
        self.origins = {
            Prefix(Family.IPV4, 0x0A00_0000 + (number << 8), 24): origin(number % origins)
            for number in range(prefixes)
        }
        rows = [
            SimpleNamespace(
                router_id=router_id, ifname="eth0", address=hop.via, ifindex=2, cost=10,
                state=SimpleNamespace(value="up"),
            )
            for router_id, hop in zip(NEIGHBORS, HOPS, strict=True)
        ]  # fmt: skip
        router = SimpleNamespace(
            origins=self.origins,
            rib=SimpleNamespace(best=self.best),
            neighbors=SimpleNamespace(neighbors=lambda _now: rows),
        )
        self.topology = Topology(cast("Router", router), lambda: self.now)

    def best(self, prefix: Prefix) -> object:
        self.looked_at += 1
        number = prefix.as_int >> 16
        metric = 10 + number % 7
        return SimpleNamespace(
            attributes=SimpleNamespace(metric=metric), next_hops=(HOPS[number % 2],)
        )

    def views(self) -> Iterator[Sequence[TopologyView]]:
        return self.topology.views(SELF)


def test_every_router_has_a_row_with_its_distance_and_who_leads_there() -> None:
    scene = Scene(prefixes=6, origins=3)
    rows = list(itertools.chain.from_iterable(scene.views()))
    assert [(row.role, row.router_id) for row in rows] == [
        ("self", SELF),
        *(("neighbor", each) for each in NEIGHBORS),
        *(("router", origin(number)) for number in range(3)),
    ]
    others = [(row.prefixes, row.metric, row.via) for row in rows[3:]]
    both = tuple(map(str, NEIGHBORS))
    assert others == [
        (2, min(10 + (0xA0000 + n) % 7, 10 + (0xA0000 + n + 3) % 7), both) for n in range(3)
    ]


@pytest.mark.parametrize("readers", [1, 200])
def test_all_who_ask_together_share_one_walk_of_small_steps(readers: int) -> None:
    """Each request walked the whole table for itself, and held a copy of it."""
    scene = Scene(prefixes=3 * STEP_PREFIXES, origins=2 * STEP_PREFIXES)
    walks = [scene.views() for _ in range(readers)]
    counts = [0] * readers
    while walks:
        for number, walk in enumerate(list(walks)):
            before = scene.looked_at
            chunk = next(walk, None)
            assert scene.looked_at - before <= STEP_PREFIXES
            if chunk is None:
                walks.remove(walk)
            else:
                counts[number % readers] += len(chunk)
                assert len(chunk) <= CHUNK_VIEWS
    assert scene.looked_at == len(scene.origins)
    assert sum(counts) == readers * (1 + len(NEIGHBORS) + 2 * STEP_PREFIXES)


def test_who_reads_slowly_holds_nothing_and_misses_nothing() -> None:
    scene = Scene(prefixes=1000, origins=1000)
    slow = []
    for _ in range(50):  # each in the middle of its rows, a second after the one before
        walk = scene.views()
        seen = list(itertools.islice((row for chunk in walk for row in chunk), 300))
        slow.append((walk, len(seen)))
        scene.now += 2 * SHARED_S
    summaries = [scene.topology._made, scene.topology._making]
    assert [summary is not None for summary in summaries] == [True, False]
    del scene.origins[Prefix.parse("10.0.0.0/24")]  # its row has been sent, whoever asks
    fresh = list(itertools.chain.from_iterable(scene.views()))
    assert len(fresh) == 1000 - 1 + 3
    rest = {len(list(itertools.chain.from_iterable(walk))) for walk, _ in slow}
    whole_chunks = 3 * CHUNK_VIEWS
    assert rest == {1000 - whole_chunks}


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_nothing_is_held_when_nobody_asks_any_more(steps: int) -> None:
    scene = Scene(prefixes=3000, origins=3000)
    walks = [scene.views() for _ in range(3)]
    for walk in walks:
        for _ in range(steps):
            next(walk)
    for walk in walks:
        walk.close()  # type: ignore[attr-defined]
    assert (scene.topology._made, scene.topology._making) == (None, None)
    assert len(list(itertools.chain.from_iterable(scene.views()))) == 3003


def test_a_later_request_sees_what_has_changed() -> None:
    scene = Scene(prefixes=10, origins=10)
    held = scene.views()
    next(held)
    list(scene.views())
    scene.origins.clear()
    assert len(list(itertools.chain.from_iterable(scene.views()))) == 13
    scene.now += 2 * SHARED_S
    assert len(list(itertools.chain.from_iterable(scene.views()))) == 3
