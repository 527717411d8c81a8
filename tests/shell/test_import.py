"""`route import` from a file to the daemon: batches, errors by line, and lines that are
left out.
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
from ipc.control import RouteOperation
from ipc.routes import BATCH_ROUTES
from routectl.command_line import command_line_for
from routectl.render.text import TextOutput
from routed.control.injection import Injection, InjectionRefusal
from routed.control.policy import AccessList
from routed.model.prefix import Prefix
from tests.fakes.fake_daemon import FakeDaemon, serving
from tests.fakes.route_messages import RouteForm, saved_file


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


def run(
    tmp_path: Path, daemon: FakeDaemon, text: str | bytes, words: str = ""
) -> tuple[ExitStatus | None, str, str]:
    routes = tmp_path / "routes.txt"
    routes.write_bytes(text.encode() if isinstance(text, str) else text)
    path = tmp_path / "routed.sock"
    out, errors = io.StringIO(), io.StringIO()
    with (
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
        command_line_for(["--socket", str(path)], out, errors) as command_line,
    ):
        status = command_line.run_line(f"route import {routes} {words}")
    return status, out.getvalue(), errors.getvalue()


def lines(count: int) -> list[str]:
    return [f"10.{n >> 8}.{n & 255}.0/24 via 192.0.2.{n % 3 + 1} dev eth0\n" for n in range(count)]


def test_a_file_arrives_whole_and_in_batches(tmp_path: Path, daemon: FakeDaemon) -> None:
    text = "# a table\n\n" + "".join(lines(BATCH_ROUTES + 10)) + "2001:db8::/32 dev eth0\n"
    status, out, errors = run(tmp_path, daemon, text, "replace owner batch lease 30s")
    assert (status, out, errors) == (
        ExitStatus.DONE, f"{BATCH_ROUTES + 11} routes imported\n", "",
    )  # fmt: skip
    assert [injection.count for injection in daemon.injections] == [BATCH_ROUTES, 11]
    last = daemon.injections[-1]
    assert (last.operation, last.owners, last.lease_s) == (
        RouteOperation.REPLACE, (f"uid{os.getuid()}/batch",), 30.0,
    )  # fmt: skip
    assert [
        prefix
        for injection in daemon.injections
        for column in injection.routes
        for prefix in column.prefixes()
    ] == [
        *(Prefix.parse(line.split()[0]) for line in lines(BATCH_ROUTES + 10)),
        Prefix.parse("2001:db8::/32"),
    ]
    gateways = [str(shared.gateways[0].via) for shared in daemon.injections[0].attributes]
    assert gateways == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_wrong_lines_are_named_and_only_their_batch_is_refused(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    table = lines(2 * BATCH_ROUTES)
    table[4] = "10.0.4.0/24 via 192.0.2.1 dev\n"
    status, out, errors = run(tmp_path, daemon, "".join(table))
    assert status is ExitStatus.REFUSED
    assert out == f"{BATCH_ROUTES - 1} routes imported\n"
    assert errors == (
        "routectl: line 5: dev needs a value after it\n"
        f"routectl: {BATCH_ROUTES} routes were left out, in a batch with those: correct the lines "
        "and import again, with `replace`\n"
    )
    assert len(daemon.injections) == 1


def test_routes_that_the_daemon_refuses_are_named_by_line_too(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    def refuse(injection: Injection) -> tuple[InjectionRefusal, ...]:
        return (InjectionRefusal(2, "uid0 has it"),)

    daemon.inject = refuse  # type: ignore[method-assign]
    status, out, errors = run(tmp_path, daemon, "# comment\n" + "".join(lines(5)))
    assert (status, out) == (ExitStatus.REFUSED, "0 routes imported\n")
    assert errors.startswith("routectl: line 4: uid0 has it\n")


def test_host_bits_are_refused_by_line(tmp_path: Path, daemon: FakeDaemon) -> None:
    status, _, errors = run(tmp_path, daemon, "10.0.0.0/8 dev a\n10.0.0.1/8 dev a\n")
    assert status is ExitStatus.REFUSED
    assert "line 2: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?" in errors


def test_an_invalid_value_refuses_its_batch_alone_and_is_named_by_line(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    """Other errors in the same batch and in others are reported as well."""
    table = lines(3 * BATCH_ROUTES)
    table[3] = "10.0.3.0/24 shiny\n"
    table[7] = "10.0.7.1/24 via 192.0.2.1 dev eth0\n"
    table[8] = "2001:db8::1/64 dev eth0\n"
    table[BATCH_ROUTES + 50] = "10.99.0.0/24 via 192.0.2.1 weight 0\n"
    status, out, errors = run(tmp_path, daemon, "".join(table))
    assert status is ExitStatus.REFUSED
    assert out == f"{BATCH_ROUTES - 2} routes imported\n"
    assert errors.splitlines() == [
        "routectl: line 4: 'shiny' is not supported here",
        "routectl: line 8: 10.0.7.1/24 has host bits set; did you mean 10.0.7.0/24?",
        "routectl: line 9: 2001:db8::1/64 has host bits set; did you mean 2001:db8::/64?",
        f"routectl: line {BATCH_ROUTES + 51}: a weight is 1 to 256, not 0",
        f"routectl: {2 * BATCH_ROUTES - 2} routes were left out, in a batch with those: correct "
        "the lines and import again, with `replace`",
    ]


def test_more_next_hops_than_a_route_can_have_are_an_error_of_the_line(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    text = "10.0.0.0/8" + " nexthop via 192.0.2.1 dev eth0" * 200_000 + "\n10.1.0.0/16 dev a\n"
    status, _, errors = run(tmp_path, daemon, text)
    assert status is ExitStatus.REFUSED
    assert errors.startswith("routectl: line 1: a route has at most 256 next hops\n")


LOW = "10.60.0.0/16 via 10.0.0.2 dev v0 proto dhcp metric 100\n"
HIGH = "10.60.0.0/16 via 10.0.0.2 dev v0 proto dhcp metric 600\n"
JSON_OBJECTS = [
    {"dst": "10.60.0.0/16", "gateway": "10.0.0.2", "dev": "v0", "protocol": "dhcp", "metric": 100},
    {"dst": "10.60.0.0/16", "gateway": "10.0.0.2", "dev": "v0", "protocol": "dhcp", "metric": 600},
]
SAVED = [
    RouteForm("10.60.0.0/16", "10.0.0.2", 1, priority=100).payload(),
    RouteForm("10.60.0.0/16", "10.0.0.2", 1, priority=600).payload(),
]


@pytest.mark.parametrize("words", ["", "replace"])
@pytest.mark.parametrize(
    ("text", "prefix", "unit"),
    [
        (LOW + HIGH, "10.60.0.0/16", "line"),
        (LOW + LOW.replace("10.0.0.2", "10.0.0.3"), "10.60.0.0/16", "line"),
        (LOW + "blackhole 10.60.0.0/16\n", "10.60.0.0/16", "line"),
        ("blackhole 10.60.0.0/16\n" + LOW, "10.60.0.0/16", "line"),
        ("10.0.0.1 dev a\n10.0.0.1/32 dev a\n", "10.0.0.1/32", "line"),
        ("default dev a\n0.0.0.0/0 dev b\n", "0.0.0.0/0", "line"),
        ("2001:db8::/32 dev a\n2001:0DB8:0::/32 dev b\n", "2001:db8::/32", "line"),
        (json.dumps(JSON_OBJECTS), "10.60.0.0/16", "route"),
        (saved_file(SAVED), "10.60.0.0/16", "route"),
    ],
    ids=["metrics", "gateways", "types", "types-2", "host", "default", "ipv6", "json", "saved"],
)
def test_a_prefix_that_occurs_twice_is_an_error_of_its_second_line(
    tmp_path: Path, daemon: FakeDaemon, text: str | bytes, prefix: str, unit: str, words: str
) -> None:
    """The route with metric 100, which the kernel used, would be lost without an error."""
    status, out, errors = run(tmp_path, daemon, text, words)
    assert (status, out) == (ExitStatus.REFUSED, "0 routes imported\n")
    assert errors.startswith(
        f"routectl: {unit} 2: {prefix} is the prefix of {unit} 1 as well; an owner has one route "
        "to a prefix, whatever its metric\n"
    )
    assert daemon.injections == []


def test_a_prefix_that_occurs_twice_in_two_batches_is_an_error_too(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    table = [*lines(BATCH_ROUTES), *lines(1)]
    status, out, errors = run(tmp_path, daemon, "".join(table), "replace")
    assert (status, out) == (ExitStatus.REFUSED, f"{BATCH_ROUTES} routes imported\n")
    assert f"line {BATCH_ROUTES + 1}: 10.0.0.0/24 is the prefix of line 1 as well" in errors


def test_the_same_bits_in_both_families_and_lengths_are_different_prefixes(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    text = "0.0.0.0/0 dev a\n::/0 dev a\n10.0.0.0/8 dev a\n10.0.0.0/9 dev a\na00::/8 dev a\n"
    status, out, _ = run(tmp_path, daemon, text)
    assert (status, out) == (ExitStatus.DONE, "5 routes imported\n")


def test_json_has_the_routes_that_were_accepted_and_those_that_were_refused(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    _, out, errors = run(tmp_path, daemon, "nonsense\n", "--json")
    assert errors == ""
    assert json.loads(out) == {
        "version": 1,
        "data": [{"text": "0 routes imported"}],
        "error": {
            "code": "failed",
            "text": "line 1: 'nonsense' is not an IP prefix (like 10.0.0.0/8)",
        },
    }


IP_ROUTE = """\
default via 10.9.0.2 dev e0 onlink\x20
10.9.0.0/24 dev e0 proto kernel scope link src 10.9.0.1\x20
unreachable 10.77.0.0/16\x20
prohibit 10.78.0.0/16 metric 5\x20
172.20.0.0/16 proto ospf metric 20\x20
\tnexthop via 10.9.0.2 dev e0 weight 1\x20
\tnexthop via 10.9.1.2 dev e1 weight 3\x20
172.21.0.0/16 nhid 12 proto 205 metric 205\x20
\tnexthop via 10.9.0.2 dev e0 weight 1\x20
\tnexthop via 10.9.1.2 dev e1 weight 2\x20
172.22.0.0/16 nhid 10 via 10.9.0.2 dev e0\x20
172.23.0.0/16 nhid 20 via inet6 fe80::1 dev e0\x20
blackhole 172.25.0.0/16 nhid 13 dev lo\x20
"""
IP_O_ROUTE = IP_ROUTE.replace("\n\t", "\\\t")
IP_D_ROUTE = """\
unicast default via 10.9.0.2 dev e0 proto boot scope global onlink\x20
unicast 10.9.0.0/24 dev e0 proto kernel scope link src 10.9.0.1\x20
unreachable 10.77.0.0/16 proto boot scope global\x20
prohibit 10.78.0.0/16 proto boot scope global metric 5\x20
unicast 172.20.0.0/16 proto ospf scope global metric 20\x20
\tnexthop via 10.9.0.2 dev e0 weight 1\x20
\tnexthop via 10.9.1.2 dev e1 weight 3\x20
unicast 172.21.0.0/16 nhid 12 proto 205 scope global metric 205\x20
\tnh_info id 12 group 10/11,2 scope global proto unspec\x20
\tnexthop via 10.9.0.2 dev e0 weight 1\x20
\tnexthop via 10.9.1.2 dev e1 weight 2\x20
unicast 172.22.0.0/16 nhid 10 via 10.9.0.2 dev e0 proto boot scope global\x20
\tnh_info id 10 via 10.9.0.2 dev e0 scope link proto unspec\x20
unicast 172.23.0.0/16 nhid 20 via inet6 fe80::1 dev e0 proto boot scope global\x20
\tnh_info id 20 via fe80::1 dev e0 scope link proto unspec\x20
blackhole 172.25.0.0/16 nhid 13 dev lo proto boot scope global\x20
\tnh_info id 13 scope global blackhole proto unspec\x20
"""
IP_D_O_ROUTE = IP_D_ROUTE.replace("\n\tnexthop", "\\\tnexthop")
IP_ROUTE_READ = [
    ("0.0.0.0/0", "UNICAST", ["10.9.0.2 e0 1"], 0),
    ("10.77.0.0/16", "UNREACHABLE", [], 0),
    ("10.78.0.0/16", "PROHIBIT", [], 5),
    ("172.20.0.0/16", "UNICAST", ["10.9.0.2 e0 1", "10.9.1.2 e1 3"], 20),
    ("172.21.0.0/16", "UNICAST", ["10.9.0.2 e0 1", "10.9.1.2 e1 2"], 205),
    ("172.22.0.0/16", "UNICAST", ["10.9.0.2 e0 1"], 0),
    ("172.23.0.0/16", "UNICAST", ["fe80::1 e0 1"], 0),
    ("172.25.0.0/16", "BLACKHOLE", [], 0),
]

IP_6_ROUTE = """\
2001:db8:1::/64 dev e0 proto kernel metric 256 pref medium
2001:db8:a::/48 proto ospf metric 1024 pref medium
\tnexthop via 2001:db8:1::2 dev e0 weight 1\x20
\tnexthop via 2001:db8:2::2 dev e1 weight 1\x20
blackhole 2001:db8:b::/48 dev lo metric 1024 pref medium
default via fe80::9 dev e0 metric 50 pref medium
"""
IP_6_O_ROUTE = IP_6_ROUTE.replace("\n\t", "\\\t")
IP_6_ROUTE_READ = [
    ("2001:db8:a::/48", "UNICAST", ["2001:db8:1::2 e0 1", "2001:db8:2::2 e1 1"], 1024),
    ("2001:db8:b::/48", "BLACKHOLE", [], 1024),
    ("::/0", "UNICAST", ["fe80::9 e0 1"], 50),
]


def injected(daemon: FakeDaemon) -> list[tuple[str, str, list[str], int]]:
    """Return the routes that the daemon received."""
    found = []
    for injection in daemon.injections:
        for column in injection.routes:
            for prefix, number in zip(column.prefixes(), column.numbers, strict=True):
                attributes = injection.attributes[number]
                hops = [f"{hop.via} {hop.ifname} {hop.weight}" for hop in attributes.gateways]
                found.append((str(prefix), attributes.type.name, hops, attributes.metric))
    return found


@pytest.mark.parametrize(
    ("text", "routes"),
    [
        pytest.param(IP_ROUTE, IP_ROUTE_READ, id="ip route"),
        pytest.param(IP_O_ROUTE, IP_ROUTE_READ, id="ip -o route"),
        pytest.param(IP_D_ROUTE, IP_ROUTE_READ, id="ip -d route"),
        pytest.param(IP_D_O_ROUTE, IP_ROUTE_READ, id="ip -d -o route"),
        pytest.param(IP_6_ROUTE, IP_6_ROUTE_READ, id="ip -6 route"),
        pytest.param(IP_6_O_ROUTE, IP_6_ROUTE_READ, id="ip -6 -o route"),
    ],
)
def test_the_output_of_ip_route_is_read(
    tmp_path: Path,
    daemon: FakeDaemon,
    text: str,
    routes: list[tuple[str, str, list[str], int]],
) -> None:
    """The text is the output of iproute2 6.1."""
    status, out, errors = run(tmp_path, daemon, text)
    assert (status, errors) == (ExitStatus.DONE, "")
    assert out == (f"{len(routes)} routes imported\n1 route of the kernel's own skipped\n")
    assert injected(daemon) == routes


def test_a_byte_order_mark_and_both_kinds_of_comments_are_ignored(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    text = "\ufeff10.1.0.0/16 dev a ; SBL1\n; a list\nblackhole 10.2.0.0/16 # why\n"
    status, out, _ = run(tmp_path, daemon, text)
    assert (status, out) == (ExitStatus.DONE, "2 routes imported\n")


def test_every_wrong_line_is_named_at_once_with_its_own_number(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    """A route of several lines is named by its first line."""
    text = IP_ROUTE + "10.1.0.0/16 via 10.9.0.2 rtt 5\nnat 10.2.0.0/16\n\tcache x\n10.3.0.0/16"
    _, _, errors = run(tmp_path, daemon, text)
    assert [line.split(":")[1] for line in errors.splitlines()[:3]] == [
        " line 14", " line 15", " line 17",
    ]  # fmt: skip
    assert "'rtt' cannot be kept" in errors


def test_a_continuation_without_a_route_is_an_error(tmp_path: Path, daemon: FakeDaemon) -> None:
    _, _, errors = run(tmp_path, daemon, "\tnexthop via 192.0.2.1 dev a\n10.0.0.0/8 dev a\n")
    assert "line 1: 'nexthop' continues a route, and there is none on the line before" in errors


def test_a_missing_file_is_a_usage_error(tmp_path: Path, daemon: FakeDaemon) -> None:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["--socket", str(tmp_path / "s")], out, errors) as command_line:
        status = command_line.run_line(f"route import {tmp_path}/nothing")
    assert status is ExitStatus.USAGE
    assert "No such file" in errors.getvalue()


class Screen(io.StringIO):
    """A terminal that keeps all its output."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("screen", [Screen(), io.StringIO()], ids=["terminal", "file"])
def test_progress_is_shown_on_a_terminal_and_not_in_a_file(screen: io.StringIO) -> None:
    output = TextOutput(io.StringIO(), screen, has_color=False)
    output.progress(2_048, 50, 200)
    output.progress(8_192, 200, 200)
    output.progress_ended()
    seen = screen.getvalue()
    if not screen.isatty():
        assert seen == ""
        return
    quarter, whole, wiped = seen.split("\r")[1:]
    assert quarter == f"[{'#' * 10}{'.' * 30}]  25%  2,048 routes"
    assert whole == f"[{'#' * 40}] 100%  8,192 routes"
    assert wiped == "\x1b[K"
