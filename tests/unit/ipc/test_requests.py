"""Requests from plain Python values: unknown arguments are refused by name."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from ipc.client import Client, ControlError
from ipc.requests import Route, RouteOptions
from ipc.routes import BATCH_ROUTES
from ipc.trio_client import TrioClient
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving

MISSPELT: list[tuple[dict[str, Any], str]] = [
    ({"metrik": 3}, "'metrik' is no option of a route; did you mean 'metric'?"),
    ({"via": "192.0.2.1", "nexthops": ()}, "did you mean 'next_hops'?"),
    ({"distance": 3}, "there is via, dev, next_hops, type, metric, tag, lease"),
]


@pytest.mark.parametrize(("options", "problem"), MISSPELT)
@pytest.mark.parametrize("method", ["add", "replace"])
def test_a_keyword_that_there_is_not_is_refused_before_anything_is_sent(
    tmp_path: Path, method: str, options: dict[str, Any], problem: str
) -> None:
    """A TypedDict is checked by type checkers only."""
    nobody = str(tmp_path / "nobody.sock")
    with Client(nobody) as client, pytest.raises(TypeError, match=problem.replace("?", r"\?")):
        getattr(client, method)("192.0.2.1/32", **options)

    async def ask() -> None:
        async with TrioClient(nobody) as client:
            await getattr(client, method)("192.0.2.1/32", **options)

    with pytest.raises(TypeError, match=problem.replace("?", r"\?")):
        trio.run(ask)


def test_every_option_that_is_declared_is_taken(tmp_path: Path) -> None:
    options: RouteOptions = {
        "via": None, "dev": None, "next_hops": (), "type": "blackhole", "metric": 1, "tag": 2,
        "lease": 30, "src": "192.0.2.1", "tos": 16, "scope": "link", "realm": "3/4",
        "mtu": "lock 1400",
        "advmss": 1000, "window": 5, "initcwnd": 10, "initrwnd": 20, "hoplimit": 3,
        "rto_min": "200ms", "quickack": True, "congctl": "reno", "features": "ecn", "pref": "low",
    }  # fmt: skip
    assert set(options) == set(RouteOptions.__annotations__)
    from ipc.control import RouteOperation
    from ipc.requests import change_route

    change_route(RouteOperation.ADD, "192.0.2.1/32", "", options)


@pytest.mark.parametrize("option", [{"metric": 1 << 70}, {"tag": 1 << 70}])
def test_a_value_that_the_protocol_cannot_carry_is_a_control_error(
    tmp_path: Path, option: dict[str, Any]
) -> None:
    """The connection can be used for the next request."""
    path = tmp_path / "routed.sock"
    options = {"dev": "a", **option}

    async def ask() -> None:
        async with TrioClient(str(path)) as client:
            with pytest.raises(ControlError, match="the request cannot be sent"):
                await client.add("192.0.2.1/32", **options)
            await client.status()

    access = AccessList(admin_uids=frozenset({os.getuid()}))
    with closing(FakeDaemon()) as daemon, serving(path, daemon, access):
        with Client(str(path)) as client:
            with pytest.raises(ControlError, match="the request cannot be sent"):
                client.add("192.0.2.1/32", **options)
            client.status()
        trio.run(ask)


def blackholes(count: int) -> list[Route]:
    return [Route(f"10.{n >> 8}.{n & 255}.0/24", type="blackhole") for n in range(count)]


@pytest.mark.parametrize("count", [2, BATCH_ROUTES, 2 * BATCH_ROUTES])
def test_of_a_prefix_that_occurs_twice_no_route_is_lost(tmp_path: Path, count: int) -> None:
    """The last one was kept, without an error, and `count + 1` returned."""
    path = tmp_path / "routed.sock"
    routes = [*blackholes(count), blackholes(1)[0]._replace(metric=20)]
    problem = f"10.0.0.0/24 occurs twice, as routes 0 and {count}"
    admin = AccessList(admin_uids=frozenset({os.getuid()}))

    async def ask() -> None:
        async with TrioClient(str(path)) as client:
            with pytest.raises(ValueError, match=problem):
                await client.replace_many(routes)
            assert await client.replace_many(blackholes(3)) == 3

    with closing(FakeDaemon()) as daemon, serving(path, daemon, admin):
        with Client(str(path)) as client:
            with pytest.raises(ValueError, match=problem):
                client.replace_many(routes)
            assert client.replace_many(blackholes(3)) == 3, "the answers in flight are not read"
        trio.run(ask)
        assert all(len(set(each.routes[0].keys)) == each.count for each in daemon.injections)
