"""`explain` shows the daemon's reasons beside the kernel's own answer."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ipc.blocking import ExitStatus
from routectl import kernel
from routectl.command_line import command_line_for
from routectl.kernel import KernelError, agreement, ask_kernel
from routectl.render.text import Row
from routed.control.policy import AccessList
from routed.netlink.message import NetlinkMessage, split_messages
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.shell.test_golden import compare

SAME: Row = {
    "type": "unicast",
    "prefix": "10.1.0.0/16",
    "next_hops": [
        {"via": "192.0.2.9", "dev": "eth1", "weight": 1},
        {"via": "fe80::2", "dev": "eth0", "weight": 2},
    ],
    "table": 254,
    "protocol": 205,
    "priority": 205,
}
NONE: Row = {
    "type": "none", "prefix": None, "next_hops": [], "table": None, "protocol": None,
    "priority": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("explain") / "routed.sock"
    with (
        closing(FakeDaemon()) as daemon,
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
    ):
        yield path


def run(socket_path: Path, line: str) -> str:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["--socket", str(socket_path)], out, errors) as command_line:
        assert command_line.run_line(line) is ExitStatus.DONE
    assert errors.getvalue() == ""
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("agrees", SAME),
        ("other-prefix", {**SAME, "prefix": "10.1.2.0/24", "protocol": 3}),
        ("no-kernel-route", NONE),
    ],
)
def test_the_text_equals_the_golden_file(
    socket_path: Path,
    name: str,
    answer: Row,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(kernel, "ask_kernel", lambda _address: answer)
    text = run(socket_path, "explain 10.1.2.3")
    is_updating = bool(request.config.getoption("--update-golden", default=False))
    compare(f"explain-{name}.txt", text, is_updating=is_updating)


def test_json_has_everything_in_one_row(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "ask_kernel", lambda _address: SAME)
    (row,) = json.loads(run(socket_path, "explain 10.1.2.3 --json"))["data"]
    assert (row["agrees"], row["kernel"]) == (True, SAME)
    assert [candidate["rule"] for candidate in row["candidates"]] == [None, 2]


def test_a_kernel_that_cannot_be_queried_is_reported(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_address: str) -> Row:
        raise KernelError("Operation not permitted")

    monkeypatch.setattr(kernel, "ask_kernel", refuse)
    assert "kernel     Operation not permitted\n" in run(socket_path, "explain 10.1.2.3")


def test_the_kernel_of_another_network_namespace_is_not_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel, "ask_kernel", lambda _address: SAME)
    path = tmp_path / "routed.sock"
    with closing(FakeDaemon()) as daemon:
        daemon.explained = replace(daemon.explained, network_namespace=1)
        with serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))):
            text = run(path, "explain 10.1.2.3")
            (row,) = json.loads(run(path, "explain 10.1.2.3 --json"))["data"]
    assert "kernel     not queried: routed is in another network namespace" in text
    assert "agrees     -\n" in text
    assert (row["kernel"], row["agrees"]) == (None, None)


def test_a_route_of_another_program_is_no_difference(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "ask_kernel", lambda _address: SAME)
    monkeypatch.setattr(kernel, "agreement", lambda _row, _kernel: (None, "routed has no route"))
    assert "agrees     routed has no route\n" in run(socket_path, "explain 10.1.2.3")


def explained(prefix: str | None, **winner: object) -> Row:
    return {"prefix": prefix, "candidates": [winner] if winner else []}


@pytest.mark.parametrize(
    ("row", "answer", "agrees", "words"),
    [
        (explained(None), NONE, True, "neither has a route"),
        (
            explained(None),
            SAME,
            None,
            "routed has no route there; the kernel's belongs to another program",
        ),
        (
            explained("10.0.0.0/8", type="blackhole", next_hops=[]),
            {**NONE, "type": "blackhole"},
            True,
            "both refuse (blackhole)",
        ),
        (
            explained("10.0.0.0/8", type="blackhole", next_hops=[]),
            SAME,
            False,
            "the kernel's route is unicast, not blackhole",
        ),
        (
            explained("10.1.0.0/16", type="unicast", next_hops=[{"via": None, "dev": "eth0"}]),
            SAME,
            False,
            "the next hops differ",
        ),
        (
            explained("10.1.0.0/16", type="unicast", next_hops=SAME["next_hops"]),
            {**SAME, "prefix": None, "next_hops": [{"via": "fe80::2", "dev": "eth0"}]},
            True,
            "the next hop is one of the route's (the kernel does not say which prefix)",
        ),
        (
            explained("10.1.0.0/16", type="unicast", next_hops=SAME["next_hops"]),
            {**SAME, "prefix": None, "next_hops": [{"via": "fe80::3", "dev": "eth0"}]},
            False,
            "the kernel takes another next hop",
        ),
        (
            explained("10.1.0.0/16", type="unicast", next_hops=[]),
            {**SAME, "type": "local"},
            True,
            "the address is the host's own (local), before any route",
        ),
    ],
)
def test_a_difference_is_named(row: Row, answer: Row, agrees: bool | None, words: str) -> None:
    assert agreement(row, answer) == (agrees, words)


def test_the_kernel_answers_for_its_own_loopback() -> None:
    assert ask_kernel("127.0.0.1")["type"] == "local"
    assert ask_kernel("::1")["type"] == "local"


def test_a_packet_to_no_address_stays_in_the_host() -> None:
    """The kernel has no entry for it and answers EHOSTUNREACH, so there is no route that rejects
    it.
    """
    answer = ask_kernel("0.0.0.0")
    assert (answer["type"], answer["prefix"], answer["protocol"]) == ("local", None, None)
    assert agreement(explained(None), answer)[0]


@pytest.mark.parametrize(
    ("family", "route_type", "table", "said"),
    [
        (socket.AF_INET, 2, 254, None),
        (socket.AF_INET, 3, 254, None),
        (socket.AF_INET, 2, 255, 255),
        (socket.AF_INET, 1, 254, 254),
        (socket.AF_INET6, 2, 255, 255),
        (socket.AF_INET6, 2, 254, 254),
    ],
)
def test_a_table_is_left_open_where_linux_names_main_for_local(
    family: int, route_type: int, table: int, said: int | None
) -> None:
    """Linux does so while there are no policy rules."""
    body = struct.pack("=BBBBBBBBI", family, 32, 0, 0, table, 2, 0, route_type, 0)
    message = struct.pack("=IHHII", 16 + len(body), 24, 0, 1, 0) + body
    assert kernel._decode_route(parsed(message), no_exchange)["table"] == said


def test_a_table_that_is_left_open_is_not_shown(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: Row = {**NONE, "type": "local", "prefix": "10.1.2.3/32", "protocol": 2}
    monkeypatch.setattr(kernel, "ask_kernel", lambda _address: answer)
    assert "kernel     local 10.1.2.3/32 (protocol 2)\n" in run(socket_path, "explain 10.1.2.3")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def parsed(message: bytes) -> NetlinkMessage:
    (only,) = split_messages(message)
    return only


def no_exchange(number: int) -> list[Row]:
    raise AssertionError(f"the nexthop object {number} was asked for")


def test_a_nexthop_object_is_read_when_the_route_has_no_gateway_of_its_own() -> None:
    """With net.ipv4.nexthop_compat_mode=0 the route has only the id of its object."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 8, 0, 0, 254, 205, 0, 1, 0)
    body += attribute(1, b"\n\0\0\0") + attribute(30, struct.pack("=I", 77))
    message = struct.pack("=IHHII", 16 + len(body), 24, 0, 1, 0) + body
    hop: Row = {"via": "192.0.2.1", "dev": "eth0", "weight": 1}
    asked: list[int] = []

    def object_hops(number: int) -> list[Row]:
        asked.append(number)
        return [hop]

    assert kernel._decode_route(parsed(message), object_hops)["next_hops"] == [hop]
    assert asked == [77]


def test_a_link_whose_name_is_not_valid_text_is_shown_as_the_daemon_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "if_indextoname", lambda _: os.fsdecode(b"\x80\xff"))
    assert kernel._ifname(7) == "if:7"


def nexthop_message(family: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BBBBI", family, 0, 205, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), 104, 0, 1, 0) + body


def test_a_group_is_shown_as_its_members_with_their_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = {
        7: nexthop_message(0, attribute(2, struct.pack("=IBBHIBBH", 8, 0, 0, 0, 9, 2, 0, 0))),
        8: nexthop_message(socket.AF_INET, attribute(6, b"\xc0\0\2\1")),
        9: nexthop_message(socket.AF_INET6, attribute(6, socket.inet_pton(10, "fe80::7"))),
    }

    def exchange(_: object, kind: int, body: bytes) -> NetlinkMessage:
        assert kind == 106
        return parsed(objects[struct.unpack_from("=I", body, 12)[0]])

    monkeypatch.setattr(kernel, "_exchange", exchange)
    assert kernel._object_hops(None, 7, 1) == [  # type: ignore[arg-type]
        {"via": "192.0.2.1", "dev": None, "weight": 1},
        {"via": "fe80::7", "dev": None, "weight": 3},
    ]


def test_several_next_hops_and_gateways_of_the_other_family_are_read() -> None:
    via = struct.pack("=H", socket.AF_INET6) + socket.inet_pton(socket.AF_INET6, "fe80::7")
    hops = b""
    for weight, inner in ((1, attribute(5, b"\xc0\0\2\1")), (3, attribute(18, via))):
        hops += struct.pack("=HBBI", 8 + len(inner), 0, weight - 1, 0) + inner
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 8, 0, 0, 254, 205, 0, 1, 0)
    body += attribute(1, b"\n\0\0\0") + attribute(9, hops) + attribute(6, b"\xcd\0\0\0")
    message = struct.pack("=IHHII", 16 + len(body), 24, 0, 1, 0) + body
    assert kernel._decode_route(parsed(message), no_exchange) == {
        "type": "unicast",
        "prefix": "10.0.0.0/8",
        "next_hops": [
            {"via": "192.0.2.1", "dev": None, "weight": 1},
            {"via": "fe80::7", "dev": None, "weight": 3},
        ],
        "table": 254,
        "protocol": 205,
        "priority": 205,
    }
