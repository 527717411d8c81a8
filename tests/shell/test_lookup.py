"""`lookup` prints rows from a real snapshot; its exit status shows whether each address has a
route.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl.command_line import command_line_for
from routed.control.policy import AccessList
from routed.model.prefix import Address
from routed.model.route import NextHop
from routed.snapshot.writer import FibSnapshot
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.fib_writer import add, gathered

NAMES = {1: "lo", 2: "eth0"}


class DaemonWithSnapshot(FakeDaemon):
    """A fake daemon that passes the descriptor of a real snapshot with two routes."""

    def __init__(self) -> None:
        super().__init__()
        router_id = Address.parse("10.255.0.1")
        self.real = FibSnapshot(router_id, os.getpid(), trie_words=1 << 20, data_words=1 << 12)
        hops = NextHop(Address.parse("fe80::2"), 1), NextHop(None, 2)
        changes = [add("10.1.0.0/16", *hops, metric=10), add("198.51.100.0/24")]
        self.real.apply(gathered(changes), NAMES.__getitem__, 1)

    def snapshot_fd(self) -> int:
        return self.real.fileno()

    def close(self) -> None:
        super().close()
        self.real.close()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "routed.sock"
    access = AccessList(read_uids=frozenset({os.getuid()}))
    with closing(DaemonWithSnapshot()) as daemon, serving(path, daemon, access):
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
        "                               dev eth0",
        "198.51.100.1  198.51.100.0/24  blackhole           static       0",
    ]


def test_an_address_without_a_route_is_reported_with_exit_status_1(path: Path) -> None:
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
                {"via": None, "dev": "eth0", "weight": 1},
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
