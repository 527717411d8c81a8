"""Answers over real sockets: pages, turns, and clients that do not read."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path

import pytest
import trio

from ipc.control import (
    ControlType,
    Monitor,
    Result,
    ResultCode,
    RouteOperation,
    ShowNeighbors,
    ShowNextHops,
    ShowRoutes,
    ShowStatus,
    SnapshotOpen,
    Topology,
)
from ipc.fdpass import descriptor_space, take_descriptors
from ipc.requests import RouteOptions, change_route
from routed.control import tables
from routed.control.injection import InjectionRefusal
from routed.control.rows import columns_of
from routed.control.server import (
    EVENT_DEFECT,
    EVENT_REFUSED,
)
from routed.control.views import (
    NeighborView,
    NextHopObjectView,
    RouteView,
    StatusView,
    TopologyView,
)
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.fake_views import NEIGHBORS, NEXTHOPS, many_routes
from tests.fakes.management_scene import (
    ADMIN,
    Client,
    running,
    until,
)


async def test_rows_come_before_exactly_one_result(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        pages, result = await client.ask(ShowStatus())
        assert [page.columns for page in pages] == [columns_of(StatusView)]
        assert len(pages[0].values) == 1
        assert result == Result(ResultCode.OK)
        _, again = await client.ask(ShowStatus())
        assert again == Result(ResultCode.OK)


async def test_five_thousand_routes_come_in_pages_in_order(tmp_path: Path) -> None:
    daemon = FakeDaemon(route_views=many_routes(5000))
    async with running(tmp_path, daemon=daemon) as scene:
        pages, result = await (await scene.greeted()).ask(ShowRoutes())
    assert result.code is ResultCode.OK
    assert len(pages) >= 5000 // 128
    assert {page.columns for page in pages} == {columns_of(RouteView)}
    prefixes = [values[0] for page in pages for values in page.values]
    assert prefixes == [str(view.prefix) for view in daemon.route_views]


async def test_a_short_successful_answer_is_one_message(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        await client.request(ShowNeighbors(), 7)
        frame = await client.receive()
        assert (frame.type, frame.request_id) == (ControlType.LAST_ROWS, 7)
        await client.request(ShowStatus(), 8)
        assert (await client.receive()).request_id == 8


async def test_rows_of_a_failure_have_a_result_of_their_own(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    daemon.refusals = (InjectionRefusal(0, "there already"),)
    async with running(tmp_path, daemon=daemon) as scene:
        client = await scene.greeted()
        route: RouteOptions = {"type": "blackhole"}
        await client.request(change_route(RouteOperation.ADD, "10.0.0.0/8", "", route))
        kinds = [(await client.receive()).type for _ in range(2)]
        assert kinds == [ControlType.ROWS, ControlType.RESULT]


async def test_a_message_while_a_monitor_runs_is_misuse_and_no_defect(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        await client.request(Monitor())
        await client.request(ShowStatus(), 3)
        assert await client.is_hung_up()
        (refused,) = scene.logged(EVENT_REFUSED)
        assert refused["reason"] == "a message while a monitor runs"
        assert scene.logged(EVENT_DEFECT) == []


async def test_a_client_that_disconnects_ends_its_dump(tmp_path: Path) -> None:
    daemon = FakeDaemon(route_views=many_routes(20_000))
    async with running(tmp_path, daemon=daemon) as scene:
        client = await scene.greeted()
        await client.request(ShowRoutes())
        await client.receive()
        client.socket.close()
        await until(lambda: scene.server.sessions == 0)
        assert daemon.chunks_given < 200
        assert scene.events == []


async def test_a_client_that_stops_reading_delays_no_other_client(tmp_path: Path) -> None:
    daemon = FakeDaemon(route_views=many_routes(20_000))
    async with running(tmp_path, daemon=daemon) as scene:
        slow = await scene.greeted()
        await slow.request(ShowRoutes())
        await until(lambda: daemon.chunks_given >= 1)
        other = await scene.greeted()
        for _ in range(50):
            _, result = await other.ask(ShowStatus())
            assert result.code is ResultCode.OK
        stopped_at = daemon.chunks_given
        assert stopped_at < 200
        await other.ask(ShowStatus())
        assert daemon.chunks_given == stopped_at
        pages, result = await slow.answer()
        assert sum(len(page.values) for page in pages) == 20_000
        assert result.code is ResultCode.OK


async def test_a_long_dump_takes_turns_with_other_clients(tmp_path: Path) -> None:
    daemon = FakeDaemon(route_views=many_routes(10_000))
    async with running(tmp_path, daemon=daemon) as scene:
        greedy, other = await scene.greeted(), await scene.greeted()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(greedy.ask, ShowRoutes())
            await until(lambda: daemon.chunks_given >= 1)
            await other.ask(ShowStatus())
            assert daemon.chunks_given < 100


async def test_a_page_for_many_clients_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SHARED_S", 600.0)  # whatever else the machine does
    async with running(tmp_path, ADMIN) as scene:
        scene.daemon.route_views = many_routes(1000)
        clients = [await scene.greeted() for _ in range(10)]
        counts = []

        async def dump(client: Client) -> None:
            pages, _ = await client.ask(ShowRoutes())
            counts.append(sum(len(page.values) for page in pages))

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(dump, client)
        assert counts == [1000] * 10
        assert scene.daemon.chunks_given == 10
        scene.daemon.version += 1  # something has changed
        await clients[0].ask(ShowRoutes())
        assert scene.daemon.chunks_given == 20


async def test_many_dumps_delay_other_clients_no_more_than_one(tmp_path: Path) -> None:
    async with running(tmp_path, ADMIN) as scene, trio.open_nursery() as nursery:
        scene.daemon.route_views = many_routes(5000)

        def nothing_is_shared() -> None:
            scene.daemon.version += 1

        scene.daemon.on_chunk = nothing_is_shared
        crowd = [await scene.greeted() for _ in range(60)]
        for dumper in crowd:
            nursery.start_soon(dumper.ask, ShowRoutes())
        client = await scene.greeted()
        await until(lambda: scene.daemon.chunks_given >= 2 * len(crowd))
        before = scene.daemon.chunks_given
        await client.ask(ShowStatus())
        # Not one for each of them: the answer did not wait for all to have had their turn.
        assert scene.daemon.chunks_given - before < len(crowd)
        nursery.cancel_scope.cancel()


async def test_the_snapshot_is_sent_as_a_descriptor(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        client = await scene.greeted()
        await client.request(SnapshotOpen())
        _, ancillary, _, _ = await client.socket.recvmsg(65536, descriptor_space())
        (descriptor,) = take_descriptors(ancillary)
        with os.fdopen(descriptor, "rb") as snapshot:
            assert os.pread(snapshot.fileno(), 8, 0) == b"snapshot"


class EndlessTopology(FakeDaemon):
    """A topology without any row."""

    steps = 0
    ends = 0

    def topology(self) -> Generator[Sequence[TopologyView], None, None]:
        try:
            while True:
                self.steps += 1
                yield []
        finally:
            self.ends += 1


async def test_a_walk_ends_with_its_client(tmp_path: Path) -> None:
    """A disconnect was noticed only when a row was sent; a walk without rows went on to its end."""
    daemon = EndlessTopology()
    async with running(tmp_path, daemon=daemon) as scene:
        clients = [await scene.greeted() for _ in range(5)]
        for client in clients:
            await client.request(Topology())
            await client.request(ShowStatus(), 3)  # what waits does not hide the hang-up
        await until(lambda: daemon.steps > 50)
        assert daemon.ends == 0, "they are there"
        for client in clients:
            client.socket.close()
        await until(lambda: daemon.ends == len(clients))


async def test_a_walk_without_rows_ends_when_the_client_disconnects(tmp_path: Path) -> None:
    daemon = FakeDaemon(route_views=many_routes(20_000))
    async with running(tmp_path, daemon=daemon) as scene:
        client = await scene.greeted()
        await client.request(ShowRoutes(source="kernel"))
        client.socket.close()
        await until(lambda: scene.server.sessions == 0)
        assert daemon.chunks_given < 200


async def test_a_client_that_does_not_read_holds_one_chunk_of_a_dump(tmp_path: Path) -> None:
    made = 0

    class ManyNeighbors(FakeDaemon):
        def neighbors(self) -> Generator[Sequence[NeighborView], None, None]:
            nonlocal made
            for _ in range(1000):
                made += 1
                yield self.neighbor_views * 50

    async with running(tmp_path, daemon=ManyNeighbors()) as scene:
        slow = await scene.greeted()
        await slow.request(ShowNeighbors())
        await until(lambda: made > 1)
        other = await scene.greeted()
        for _ in range(50):
            await other.ask(ShowStatus())
        stopped_at = made
        assert stopped_at < 1000
        await other.ask(ShowStatus())
        assert made == stopped_at
        pages, _ = await slow.answer()
        assert sum(len(page.values) for page in pages) == 1000 * 50 * len(NEIGHBORS)


async def test_an_answer_of_the_parent_delays_no_other_dump(tmp_path: Path) -> None:
    """The parent may be slow to report nexthop objects; routes are shown meanwhile."""
    told = trio.Event()

    class SlowParent(FakeDaemon):
        async def nexthops(self) -> AsyncGenerator[Sequence[NextHopObjectView], None]:
            await told.wait()
            yield NEXTHOPS

    daemon = SlowParent(route_views=many_routes(2000))
    async with running(tmp_path, daemon=daemon) as scene:
        waiting, other = await scene.greeted(), await scene.greeted()
        await waiting.request(ShowNextHops())
        pages, result = await other.ask(ShowRoutes())
        assert result.code is ResultCode.OK
        told.set()
        pages, result = await waiting.answer()
        assert sum(len(page.values) for page in pages) == len(NEXTHOPS)
