"""The meaning of each request, validated without a socket."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import pytest

from ipc.control import (
    CONFIG_SECTIONS,
    REQUEST_TYPES,
    AddressFamily,
    ClearNeighbor,
    ControlType,
    Fib,
    RecordNup,
    Reload,
    Request,
    ResultCode,
    SetLogLevel,
    ShowConfig,
    ShowCounters,
    ShowFib,
    ShowInterfaces,
    ShowLog,
    ShowMemory,
    ShowNeighbors,
    ShowNupRoutes,
    ShowRoute,
    ShowRoutes,
    ShowRules,
    ShowStatus,
    SnapshotOpen,
)
from routed.control.answers import Answer, Dump, Final, Views
from routed.control.caller import Caller
from routed.control.daemon import CommandOutcome
from routed.control.handlers import HANDLERS
from routed.control.rows import to_row
from routed.control.tables import ResultTable
from routed.model.command import FibCommand
from routed.model.prefix import Address
from tests.fakes.fake_daemon import FakeDaemon

CALLER = Caller(uid=1000, pid=42, session=7)


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    fake = FakeDaemon()
    yield fake
    fake.close()


async def ask(daemon: FakeDaemon, request: Request) -> Answer:
    return await HANDLERS[REQUEST_TYPES[type(request)]](daemon, request, CALLER)


async def first_column(daemon: FakeDaemon, request: Request) -> list[object]:
    answer = await ask(daemon, request)
    if isinstance(answer, ResultTable):
        return [row[0] for row in answer.read(None, 1000).rows]
    assert isinstance(answer, Dump | Views)
    chunks = [answer.views] if isinstance(answer, Views) else await chunks_of(answer)
    return [to_row(view)[0] for chunk in chunks for view in chunk]


async def chunks_of(dump: Dump) -> list[Sequence[object]]:
    """Collect the views of a dump."""
    if isinstance(dump.chunks, Generator):
        return list(dump.chunks)
    return [chunk async for chunk in dump.chunks]


@pytest.mark.parametrize("command", FibCommand)
async def test_fib_commands_reach_the_daemon(daemon: FakeDaemon, command: FibCommand) -> None:
    answer = await HANDLERS[ControlType.FIB](daemon, Fib(command.value), CALLER)
    assert isinstance(answer, Final)
    assert answer.result.code is ResultCode.OK
    assert daemon.fib_commands == [(command, CALLER.uid, CALLER.pid)]


async def test_an_unknown_fib_command_is_answered_with_the_known_ones(daemon: FakeDaemon) -> None:
    answer = await HANDLERS[ControlType.FIB](daemon, Fib("decupple"), CALLER)
    assert isinstance(answer, Final)
    assert answer.result.code is ResultCode.USAGE
    assert "couple, decouple, resync" in answer.result.lines[0]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ShowStatus(), ["0.1.0"]),
        (ShowNeighbors(), ["10.255.0.2", None]),
        (ShowNeighbors(neighbor="10.255.0.2"), ["10.255.0.2"]),
        (ShowNeighbors(neighbor="192.0.2.9"), [None]),
        (ShowNeighbors(interface="eth0"), ["10.255.0.2"]),
        (ShowNeighbors(interface="eth7"), []),
        (ShowInterfaces(), ["eth0", "eth1"]),
        (ShowInterfaces("eth1"), ["eth1"]),
        (ShowRoutes(family=AddressFamily.IPV6), ["2001:db8:5::/48"]),
        (ShowRoutes(prefix="10.1.0.0/16"), ["10.1.0.0/16", "10.1.0.0/16"]),
        (ShowRoutes(prefix="10.1.0.0/16", is_selected_only=True), ["10.1.0.0/16"]),
        (ShowRoutes(prefix="0.0.0.0/0", is_longer=True, source="connected"), ["10.0.0.0/24"]),
        (ShowRoute("10.1.2.3"), ["10.1.0.0/16", "10.1.0.0/16"]),
        (ShowFib(), ["10.1.0.0/16", "198.51.100.0/24", "2001:db8:5::/48"]),
        (ShowFib(family=AddressFamily.IPV6), ["2001:db8:5::/48"]),
        (ShowFib(prefix="10.0.0.0/8", is_longer=True), ["10.1.0.0/16"]),
        (ShowCounters(), ["nup_dropped_bad_checksum", "nup_received"]),
        (ShowMemory(), ["process", "trie"]),
        (ShowRules(), [1000, 1010, 1020]),
    ],
)
async def test_requests_show_their_selection(
    daemon: FakeDaemon, request_: Request, expected: list[object]
) -> None:
    assert await first_column(daemon, request_) == expected


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (ShowNeighbors(neighbor="x"), ResultCode.NOT_FOUND, "no neighbor x"),
        (ShowInterfaces("eth7"), ResultCode.NOT_FOUND, "no interface eth7"),
        (ShowRoute("203.0.113.1"), ResultCode.NOT_FOUND, "no route covers 203.0.113.1"),
        (ShowRoute("nonsense"), ResultCode.USAGE, "'nonsense' is not an IP address"),
        (
            ShowRoutes(prefix="10.0.0.1/8"),
            ResultCode.USAGE,
            "10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?",
        ),
        (ShowFib(prefix="ten"), ResultCode.USAGE, "'ten' is not an IP prefix (like 10.0.0.0/8)"),
        (RecordNup("pause"), ResultCode.USAGE, "'pause' is no action for a recording: on, off"),
        (
            RecordNup("off"),
            ResultCode.NOT_FOUND,
            "nothing is being recorded; begin with `record on`",
        ),
        (ClearNeighbor("you"), ResultCode.USAGE, "'you' is not an IP address"),
        (ClearNeighbor("10.9.9.9"), ResultCode.NOT_FOUND, "no adjacency with 10.9.9.9"),
        (
            SetLogLevel("loud"),
            ResultCode.USAGE,
            "'loud' is no log level: debug, info, warning, error",
        ),
        (
            ShowRoutes(source="magic"),
            ResultCode.USAGE,
            "'magic' is no route source: "
            "connected, static, injected, neighbor, redistributed, kernel",
        ),
        (
            ShowConfig("statik"),
            ResultCode.USAGE,
            f"'statik' is no section of the configuration: {', '.join(CONFIG_SECTIONS)}",
        ),
        (
            ShowLog(None, "redy"),
            ResultCode.USAGE,
            "'redy' is no event of the log; did you mean ready?",
        ),
        (
            ShowLog(None, "0" * 50_000),
            ResultCode.USAGE,
            f"'{'0' * 57}...' is no event of the log: the first word of a line is one",
        ),
    ],
)
async def test_a_fault_of_the_caller_is_a_result(
    daemon: FakeDaemon, request_: Request, code: ResultCode, text: str
) -> None:
    answer = await ask(daemon, request_)
    if isinstance(answer, Dump):
        assert not any(await chunks_of(answer))
        result = answer.result_if_empty
    else:
        assert isinstance(answer, Final)
        result = answer.result
    assert (result.code, result.lines) == (code, (text,))


async def test_a_neighbor_is_cleared_by_router_id_or_address(daemon: FakeDaemon) -> None:
    for word in ("10.255.0.2", "fe80::2"):
        answer = await ask(daemon, ClearNeighbor(word))
        assert isinstance(answer, Final)
        assert answer.result.lines == (f"cleared {word}",)
    assert daemon.cleared == [Address.parse("10.255.0.2"), Address.parse("fe80::2")]


async def test_a_recording_is_begun_once_and_sent_in_pieces(daemon: FakeDaemon) -> None:
    first, second = await ask(daemon, RecordNup("on")), await ask(daemon, RecordNup("on"))
    assert isinstance(first, Final)
    assert isinstance(second, Final)
    assert (first.result.code, second.result.code) == (ResultCode.OK, ResultCode.FAILED)
    dump = await ask(daemon, RecordNup("off"))
    assert isinstance(dump, Dump)
    pieces = [getattr(view, "text", "") for page in await chunks_of(dump) for view in page]
    assert len(pieces) == 2
    assert "".join(pieces).startswith('{"routed-recording": 1}\nxxx')
    again = await ask(daemon, RecordNup("off"))
    assert isinstance(again, Dump)
    views = [view for page in await chunks_of(again) for view in page]
    assert [getattr(view, "text", "") for view in views] == pieces
    assert {getattr(view, "ended_s", 0.0) for view in views} == {65.0}


async def test_the_table_of_nup_is_busy_for_a_fifth_walk(daemon: FakeDaemon) -> None:
    assert await first_column(daemon, ShowNupRoutes()) == [
        "10.0.0.0/8",
        "10.0.0.0/8",
        "10.255.0.1/32",
    ]
    daemon.is_nup_table_busy = True
    answer = await ask(daemon, ShowNupRoutes())
    assert isinstance(answer, Final)
    assert answer.result.code is ResultCode.BUSY
    assert isinstance(await ask(daemon, ShowNupRoutes("10.0.0.0/8")), Dump)
    for wrong in (ShowNupRoutes("x"), ShowNupRoutes(None, "x"), ShowNupRoutes(direction="up")):
        answer = await ask(daemon, wrong)
        assert isinstance(answer, Final)
        assert answer.result.code is ResultCode.USAGE


async def test_a_log_level_reaches_the_daemon(daemon: FakeDaemon) -> None:
    answer = await ask(daemon, SetLogLevel("debug"))
    assert isinstance(answer, Final)
    assert (answer.result.code, daemon.log_levels) == (ResultCode.OK, ["debug"])
    await ask(daemon, SetLogLevel("reopen"))
    assert daemon.log_levels == ["debug", ""], "an empty level opens the file again"


async def test_a_reload_has_the_callers_identity_and_returns_the_changes(
    daemon: FakeDaemon,
) -> None:
    answer = await ask(daemon, Reload())
    assert isinstance(answer, Final)
    assert answer.result.lines == ("1 static route added",)
    assert daemon.reloads == [(1000, 42)]


async def test_a_failed_reload_returns_every_error(daemon: FakeDaemon) -> None:
    lines = ("routes.yaml:3:5: static[0].prefix: expected a prefix", "routes.yaml:9:1: ...")
    daemon.reload_outcome = CommandOutcome(False, lines)
    answer = await ask(daemon, Reload())
    assert isinstance(answer, Final)
    assert (answer.result.code, answer.result.lines) == (ResultCode.FAILED, lines)


async def test_the_snapshots_descriptor_stays_the_daemons(daemon: FakeDaemon) -> None:
    answer = await ask(daemon, SnapshotOpen())
    assert isinstance(answer, Final)
    assert answer.descriptor == daemon.snapshot_fd()


@pytest.mark.parametrize(
    ("request_", "minutes"),
    [
        (ShowLog(), ["04:05.006Z", "04:06.007Z"]),
        (ShowLog("warning"), ["04:06.007Z"]),
        (ShowLog("error"), []),
        (ShowLog(None, "ready"), ["04:05.006Z"]),
    ],
)
async def test_show_log_selects_by_level_and_event(
    daemon: FakeDaemon, request_: ShowLog, minutes: list[str]
) -> None:
    times = await first_column(daemon, request_)
    assert [str(time)[-10:] for time in times] == minutes


async def test_show_log_of_an_unknown_level_is_answered_with_the_known_ones(
    daemon: FakeDaemon,
) -> None:
    answer = await ask(daemon, ShowLog("loud"))
    assert isinstance(answer, Final)
    assert answer.result.code is ResultCode.USAGE
    assert "debug, info, warning, error" in answer.result.lines[0]
