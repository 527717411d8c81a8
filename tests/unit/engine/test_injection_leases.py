"""Injected routes against a real RIB: owners, leases, and their ends."""

from __future__ import annotations

import pytest

from routed.engine.injection.leases import InjectedRoutes
from routed.model.injection import InjectedAttributes
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteColumn, RouteSource, RouteType
from routed.rib.table import Rib

A, B, C = (Prefix.parse(f"10.{number}.0.0/16") for number in (1, 2, 3))


def columns(*prefixes: Prefix) -> list[RouteColumn]:
    """Return columns of IPv4 routes that all have the first attributes."""
    keys = [prefix.as_int for prefix in prefixes]
    return [RouteColumn(Family.IPV4, keys, [0] * len(keys))]


class Scene:
    def __init__(self) -> None:
        self.rib = Rib(lambda: 0.0)
        self.injected = InjectedRoutes(self.rib)

    def put(
        self,
        *prefixes: Prefix,
        owner: str = "uid0",
        is_replace: bool = False,
        lease_s: float | None = None,
        session: int | None = None,
        metric: int = 0,
        now: float = 0.0,
    ) -> list[tuple[int, str]]:
        return self.injected.put(
            owner,
            columns(*prefixes),
            [InjectedAttributes(RouteType.BLACKHOLE, (), metric, tag=0)],
            is_replace=is_replace,
            lease_s=lease_s,
            session=session,
            now=now,
        )

    def owners(self, prefix: Prefix) -> list[str]:
        self.rib.process()
        return [candidate.route.owner for candidate in self.rib.candidates(prefix)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_of_two_owners_of_one_prefix_the_lower_metric_wins(scene: Scene) -> None:
    scene.put(A, owner="uid0", metric=20)
    scene.put(A, owner="uid1000", metric=10)
    assert scene.owners(A) == ["uid1000", "uid0"]
    best_path = scene.rib.best(A)
    assert best_path is not None
    assert (best_path.attributes.source, best_path.attributes.distance) == (RouteSource.INJECTED, 5)


def test_adding_twice_changes_nothing_and_names_the_route(scene: Scene) -> None:
    scene.put(B)
    problems = scene.put(A, B, C, metric=9)
    assert problems == [(1, f"uid0 has a route to {B} already; `replace` puts another there")]
    assert scene.owners(A) == []
    best_path = scene.rib.best(B)
    assert best_path is not None
    assert best_path.attributes.metric == 0


def test_replace_replaces_the_routes_of_the_same_owner(scene: Scene) -> None:
    scene.put(A)
    assert scene.put(A, metric=9, is_replace=True) == []
    (candidate,) = (scene.rib.process(), scene.rib.candidates(A))[1]
    assert candidate.route.metric == 9


def test_deleting_what_is_not_there_deletes_nothing(scene: Scene) -> None:
    scene.put(A)
    problems = scene.injected.delete(("uid0", "uid0/web"), columns(A, B))
    assert problems == [(1, f"uid0 and uid0/web injected no route to {B}")]
    assert scene.owners(A) == ["uid0"]
    assert scene.injected.delete(("nobody", "uid0"), columns(A)) == []
    assert scene.owners(A) == []


def test_a_lease_ends_at_its_time_and_not_before(scene: Scene) -> None:
    scene.put(A, lease_s=30.0)
    scene.put(B)
    assert scene.injected.next_expiry() == 30.0
    assert scene.injected.remaining_s(A, "uid0", 10.0) == 20.0
    assert scene.injected.remaining_s(B, "uid0", 10.0) is None
    assert scene.injected.expire(29.9) == {}
    assert scene.owners(A) == ["uid0"]
    assert scene.injected.expire(30.0) == {"uid0": 1}
    assert (scene.owners(A), scene.owners(B)) == ([], ["uid0"])
    assert scene.injected.next_expiry() == float("inf")


def test_replace_and_renew_restart_the_lease(scene: Scene) -> None:
    scene.put(A, B, lease_s=30.0)
    scene.put(A, lease_s=30.0, is_replace=True, now=20.0)
    assert scene.injected.expire(30.0) == {"uid0": 1}
    assert (scene.owners(A), scene.owners(B)) == (["uid0"], [])
    assert scene.injected.renew("uid0", 30.0, 40.0) == 1
    assert scene.injected.expire(69.0) == {}
    assert scene.injected.expire(70.0) == {"uid0": 1}
    assert scene.injected.renew("uid0", 30.0, 71.0) == 0


def test_replacing_without_a_lease_makes_it_stay(scene: Scene) -> None:
    scene.put(A, lease_s=30.0)
    scene.put(A, is_replace=True, now=10.0)
    assert scene.injected.expire(1000.0) == {}
    assert scene.owners(A) == ["uid0"]


def test_the_end_of_a_session_withdraws_its_own_routes_only(scene: Scene) -> None:
    scene.put(A, owner="uid0/pid1.7", session=7)
    scene.put(B, owner="uid0/pid1.7", session=7, lease_s=5.0)
    scene.put(A, owner="uid0/pid2.8", session=8)
    scene.put(C)
    assert scene.injected.end_session(7) == 2
    assert [scene.owners(prefix) for prefix in (A, B, C)] == [["uid0/pid2.8"], [], ["uid0"]]
    assert scene.injected.expire(1000.0) == {}, "what has gone does not end again"
    assert scene.injected.end_session(7) == 0
