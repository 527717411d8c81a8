"""`monitor` over a real socket: one line or document for each change; closing the connection ends
it.
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipc.blocking import ControlClient
from ipc.control import ControlType, Monitor, ShowStatus
from routectl.execute import _stamped
from routectl.render.json import JsonOutput
from routectl.render.text import Row, TextOutput
from routectl.render.views import CHANGES
from routed.control.changes import CHANGES_MAX, ChangeView, Topic
from routed.control.policy import AccessList
from routed.control.views import NextHopView
from routed.model.prefix import Address
from routed.model.route import RouteSource, RouteType
from tests.fakes.fake_daemon import FakeDaemon, ServerThread, serving

ROOT = Path(__file__).resolve().parents[2]

ADDED = ChangeView(
    "route", "add", "10.1.0.0/16", source=RouteSource.INJECTED, metric=7, type=RouteType.UNICAST,
    next_hops=(NextHopView(Address.parse("fe80::2"), "eth0"),), owner="uid0/web",
)  # fmt: skip
UP = ChangeView("neighbor", "up", "10.255.0.2", interface="eth0", reason="loaded")


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


@pytest.fixture
def server(tmp_path: Path, daemon: FakeDaemon) -> Iterator[ServerThread]:
    access = AccessList(admin_uids=frozenset({os.getuid()}))
    with serving(tmp_path / "routed.sock", daemon, access) as server:
        yield server


def watching(
    tmp_path: Path, server: ServerThread, daemon: FakeDaemon, *topics: str
) -> tuple[ControlClient, Iterator[list[Row]]]:
    """Yield a client whose subscription is active: it has received one change."""
    client = ControlClient(str(tmp_path / "routed.sock"))
    pages = client.watch(Monitor(topics))

    def note_until_watched() -> None:
        if daemon.hub.is_watched(Topic.LINKS):
            daemon.hub.record(Topic.LINKS, [lambda: ChangeView("link", "up", "eth0")])
        else:
            server.soon(note_until_watched)

    server.soon(note_until_watched)
    assert [row["subject"] for row in next(pages)] == ["eth0"]
    return client, pages


def _same(view: ChangeView) -> ChangeView:
    return view


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_monitor_ends_when_its_reader_leaves_although_nothing_changes(
    tmp_path: Path, server: ServerThread, options: list[str]
) -> None:
    reader, writer = os.pipe()
    arguments = ["-s", str(tmp_path / "routed.sock"), "monitor", *options]
    started = subprocess.Popen(
        [sys.executable, "-m", "routectl", *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    os.close(writer)
    os.close(reader)
    _, errors = started.communicate(timeout=60)
    assert (started.returncode, errors) == (0, b"")


def test_a_monitor_whose_output_is_read_continues(
    tmp_path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    reader, writer = os.pipe()
    client = ControlClient(str(tmp_path / "routed.sock"))
    pages = client.watch(Monitor(("links",)), output=writer)

    def note_until_watched() -> None:
        if daemon.hub.is_watched(Topic.LINKS):
            daemon.hub.record(Topic.LINKS, [lambda: ChangeView("link", "up", "eth0")])
        else:
            server.soon(note_until_watched)

    server.soon(note_until_watched)
    assert [row["subject"] for row in next(pages)] == ["eth0"]
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        next(pages)
    os.close(writer)
    client.close()


def read(pages: Iterator[list[Row]], count: int) -> list[Row]:
    """Read at least that many rows; several may arrive at once."""
    rows: list[Row] = []
    while len(rows) < count:
        rows += next(pages)
    return rows


def note(server: ServerThread, daemon: FakeDaemon, topic: Topic, *views: ChangeView) -> None:
    server.soon(
        lambda: daemon.hub.record(topic, [functools.partial(_same, view) for view in views])
    )


def test_changes_come_in_order_as_lines_and_as_documents(
    tmp_path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    client, pages = watching(tmp_path, server, daemon)
    with client:
        note(server, daemon, Topic.ROUTES, ADDED)
        note(server, daemon, Topic.NEIGHBORS, UP)
        rows = read(pages, 2)
    out = io.StringIO()
    TextOutput(out, io.StringIO(), has_color=False).stream(CHANGES, _stamped([rows]))
    assert [line[13:] for line in out.getvalue().splitlines()] == [
        "route     add     10.1.0.0/16 injected by uid0/web metric 7 via fe80::2 dev eth0",
        "neighbor  up      10.255.0.2 on eth0 (loaded)",
    ]
    out = io.StringIO()
    JsonOutput(out, is_pretty=False).stream(CHANGES, _stamped([rows]))
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["change"], first["next_hops"][0]["via"]) == ("add", "fe80::2")
    assert (second["kind"], second["reason"]) == ("neighbor", "loaded")
    assert "T" in first["at"]


def test_only_the_requested_topics_arrive(
    tmp_path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    client, pages = watching(tmp_path, server, daemon, "links", "neighbors")
    with client:
        note(server, daemon, Topic.ROUTES, ADDED)
        note(server, daemon, Topic.NEIGHBORS, UP)
        assert [row["kind"] for row in next(pages)] == ["neighbor"]


def test_lost_changes_are_reported(
    tmp_path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    client, pages = watching(tmp_path, server, daemon)
    with client:
        note(server, daemon, Topic.ROUTES, *[ADDED] * (CHANGES_MAX + 5))
        first, *kept = read(pages, CHANGES_MAX + 1)
        assert (first["kind"], first["lost"]) == ("lost", 5)
        assert [row["kind"] for row in kept] == ["route"] * CHANGES_MAX
        note(server, daemon, Topic.NEIGHBORS, UP)
        assert next(pages)[0]["subject"] == "10.255.0.2", "it goes on after that"


def test_closing_the_connection_ends_the_subscription_at_the_daemon(
    tmp_path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    client, pages = watching(tmp_path, server, daemon)
    pages.close()  # type: ignore[attr-defined]
    assert list(client.ask(ShowStatus()).rows())
    client.close()
    server.wait_until(lambda: not daemon.hub.is_watched(Topic.ROUTES))
    assert server.events == []


def test_another_request_on_the_same_connection_ends_the_subscription(
    tmp_path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    client, pages = watching(tmp_path, server, daemon)
    with client:
        client._send(ControlType.SHOW_STATUS, b"\x90")
        server.wait_until(lambda: not daemon.hub.is_watched(Topic.ROUTES))
    assert "a message while a monitor runs" in str(server.events)
    del pages
