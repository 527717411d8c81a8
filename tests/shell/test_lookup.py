"""`lookup`: rows from the snapshot, and the exit status. The reader itself is a stand-in here."""

from __future__ import annotations

import io
import json
import os
import sys
import types
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl.cli import command_line_for
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving

LOOPBACK = 1
GONE = 999_999


@dataclass(frozen=True)
class NextHop:
    via: str | None
    ifindex: int
    weight: int


@dataclass(frozen=True)
class Found:
    prefix: str
    type: str
    source: str
    metric: int
    next_hops: tuple[NextHop, ...]


ROUTES = {
    "10.1.2.3": Found(
        "10.1.0.0/16",
        "unicast",
        "static",
        10,
        (NextHop("fe80::2", LOOPBACK, 1), NextHop(None, GONE, 1)),
    ),
    "198.51.100.1": Found("198.51.100.0/24", "blackhole", "static", 0, ()),
}


class StandInReader:
    """Has the routes above in it, and notes whether it was closed."""

    closed = 0

    @classmethod
    def from_fd(cls, descriptor: int) -> StandInReader:
        assert os.pread(descriptor, 8, 0) == b"snapshot"
        os.close(descriptor)
        return cls()

    def lookup(self, address_text: str) -> Found | None:
        return ROUTES.get(address_text)

    def close(self) -> None:
        StandInReader.closed += 1


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    module = types.ModuleType("ipc.snapshot")
    monkeypatch.setattr(module, "FibReader", StandInReader, raising=False)
    monkeypatch.setitem(sys.modules, "ipc.snapshot", module)
    monkeypatch.setattr(StandInReader, "closed", 0)
    path = tmp_path / "routed.sock"
    access = AccessList(read_uids=frozenset({os.getuid()}))
    with closing(FakeDaemon()) as daemon, serving(path, daemon, access):
        yield path


def run(path: Path, line: str) -> tuple[ExitStatus | None, str]:
    out = io.StringIO()
    with command_line_for(["-s", str(path)], out, io.StringIO()) as command_line:
        return command_line.run_line(line), out.getvalue()


def test_every_address_gets_its_route(path: Path) -> None:
    status, out = run(path, "lookup 10.1.2.3 198.51.100.1")
    assert status is ExitStatus.DONE
    assert out.splitlines() == [
        "ADDRESS       PREFIX           NEXT HOPS           SOURCE  METRIC",
        "10.1.2.3      10.1.0.0/16      via fe80::2 dev lo  static      10",
        "                               dev if999999",
        "198.51.100.1  198.51.100.0/24  blackhole           static       0",
    ]
    assert StandInReader.closed == 1


def test_an_address_without_a_route_is_said_and_is_exit_status_1(path: Path) -> None:
    status, out = run(path, "lookup 10.1.2.3 203.0.113.1")
    assert status is ExitStatus.REFUSED
    assert out.splitlines()[-1].split() == ["203.0.113.1", "no", "route", "-", "-", "-"]


def test_json_has_every_address(path: Path) -> None:
    status, out = run(path, "lookup 10.1.2.3 203.0.113.1 --json")
    assert status is ExitStatus.REFUSED
    assert json.loads(out)["data"] == [
        {
            "address": "10.1.2.3",
            "prefix": "10.1.0.0/16",
            "type": "unicast",
            "next_hops": [
                {"via": "fe80::2", "dev": "lo", "weight": 1},
                {"via": None, "dev": "if999999", "weight": 1},
            ],
            "source": "static",
            "metric": 10,
        },
        {
            "address": "203.0.113.1",
            "prefix": None,
            "type": None,
            "next_hops": None,
            "source": None,
            "metric": None,
        },
    ]
