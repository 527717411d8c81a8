"""The parent's side of the channel against an engine under an attacker's control, in a real
process.

Each attack is refused with a reason, the engine is ended where it broke a rule, the parent's
descriptors and memory are as before, and it continues to serve.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from ipc import channel
from ipc.fdpass import refuse_descriptors
from ipc.framing import IpcError
from routed.config.load import load_text
from routed.imsg.messages import (
    ConfBegin,
    FibCommanded,
    FibInSync,
    FibProgress,
    FibUpdate,
    LinksComplete,
    LogLevelChanged,
    LogLevelRequested,
    NextHopsAsked,
    NextHopsToVerify,
    NextHopsVerified,
    Ping,
    ReloadFinished,
    ReloadRequested,
    SocketKind,
    SocketReady,
)
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord, format_text
from routed.model.fib import FibCounters
from routed.model.link import Interface
from routed.model.prefix import Address
from routed.parent.engine_process import session as engine_session
from routed.parent.engine_process import spawn as privsep
from routed.parent.engine_process.code_on_disk import CodeOnDisk
from routed.parent.engine_process.conduct import Conduct
from routed.parent.engine_process.log_relay import LOG_BYTES_BURST, LOG_LINES_BURST
from routed.parent.engine_process.refused_calls import REFUSALS_BURST
from routed.parent.engine_process.session import (
    REQUESTS_MAX,
    EngineFailed,
    EngineHandlers,
    EngineSession,
)
from routed.parent.engine_process.supervisor import EngineContext, Supervisor
from routed.sandbox.kernel import here
from tests.fakes.management_scene import until

pytestmark = pytest.mark.root

PROGRAM = Path(__file__).parents[1] / "fakes" / "hostile_program.py"
DEADLINE_S = 60.0
TakeOver = Callable[[str], None]
NOBODY = 65534
CONFIG = load_text("router_id: 10.255.0.1\nuser: nobody\n", "routes.yaml")


class ListSink:
    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def write(self, record: LogRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.records.clear()

    def fields_of(self, event: str) -> list[dict[str, str]]:
        return [dict(record.fields) for record in self.records if record.event == event]


class Host:
    """Accepts everything and records it."""

    def __init__(self) -> None:
        self.updates: list[FibUpdate] = []
        self.reloads: list[int] = []
        self.suspected: list[NextHopsToVerify] = []
        self.judged = 0
        self.in_sync = 0
        self.on_in_sync: Callable[[], None] = lambda: None
        self.on_reload: Callable[[Any, int], None] = self.handle_request
        self.on_level: Callable[[Any, int], None] = self.handle_request

    def link(self, ifindex: int) -> Interface | None:
        return None

    def pop_progress(self) -> FibProgress | None:
        return FibProgress(1, (), (), FibCounters())

    def pop_imported(self) -> None:
        return None

    @property
    def handlers(self) -> EngineHandlers:
        return EngineHandlers(
            notices={
                FibUpdate: self.handle_update,
                FibInSync: self.handle_in_sync,
                NextHopsToVerify: self.suspected.append,
                NextHopsVerified: self.handle_verified,
            },
            requests={
                NextHopsAsked: self.handle_request,
                FibCommanded: self.handle_request,
                ReloadRequested: lambda message, request_id: self.on_reload(message, request_id),
                LogLevelRequested: lambda message, request_id: self.on_level(message, request_id),
            },
        )

    def handle_update(self, update: FibUpdate) -> None:
        if len(self.updates) >= 100:
            raise IpcError("more than 100 updates")
        self.updates.append(update)

    def handle_in_sync(self, _message: FibInSync) -> None:
        self.in_sync += 1
        self.on_in_sync()

    def handle_verified(self, _message: NextHopsVerified) -> None:
        self.judged += 1

    def handle_request(self, _message: object, request_id: int) -> None:
        self.reloads.append(request_id)


class Attack:
    """One engine that runs a script, and the parent's reaction."""

    def __init__(self, *, until_in_sync: bool = False) -> None:
        self.host = Host()
        if until_in_sync:
            self.host.on_in_sync = self._end
        self.sink = ListSink()
        self.log = Logger(self.sink, "parent", Level.DEBUG)
        self.tell: list[object] = []
        """Messages for the engine once it is configured."""
        self.conduct = Conduct()
        self.status = ""
        self.session: EngineSession | None = None

    async def run(self) -> None:
        process = privsep.start_engine(NOBODY, NOBODY, "auto", 1 << 20)
        self.session = EngineSession(process, self.host, self.host.handlers, self.log, self.conduct)
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._configure, self.session)
                self.status = await self.session.run()
                nursery.cancel_scope.cancel()

    def _end(self) -> None:
        assert self.session is not None
        self.session.kill()

    async def _configure(self, session: EngineSession) -> None:
        try:
            await session.prepare(CONFIG, (), begin)
            await session.commit()
            for message in self.tell:
                session.send(message)
        except EngineFailed:
            session.kill()

    @property
    def problems(self) -> list[str]:
        return [fields["problem"] for fields in self.sink.fields_of("engine-misbehaved")]


def begin(total_bytes: int) -> ConfBegin:
    return ConfBegin(
        generation=1,
        total_bytes=total_bytes,
        started_at_ns=0,
        engine_restarts=0,
        violations={},
        config_path="/etc/routed/routes.yaml",
        daemon_pid=1,
        origin_seqno=1,
    )


@pytest.fixture
def take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TakeOver:
    """Let the next engines run a script."""
    path = tmp_path / "attack.py"
    command = (sys.executable, str(PROGRAM), str(path))
    monkeypatch.setattr(privsep, "ENGINE_COMMAND", command)

    def write(script: str) -> None:
        path.write_text(script, encoding="utf-8")

    return write


async def run_attack(*, until_in_sync: bool = False) -> Attack:
    attack = Attack(until_in_sync=until_in_sync)
    await attack.run()
    return attack


BREAKS_A_RULE = {
    "garbage": ("send_raw(b'x')", "a frame has at least 8 bytes"),
    "an oversized message": ("send_raw(bytes(200_000))", "over"),
    "a type that does not exist": (
        "send(internal.Stopped(), as_type=999)",
        "message type 999 does not exist",
    ),
    "a message of the parent": (
        "send(internal.Stop(False))",
        "STOP is not for the engine to send",
    ),
    "a configuration": (
        "send(internal.ConfDone())",
        "CONF_DONE is not for the engine to send",
    ),
    "wishes before its turn": (
        "send(internal.FibUpdate(1, (), (), ()))",
        "FIB_UPDATE does not belong to the phase configuring",
    ),
    "a goodbye that nobody asked for": (
        "take_configuration(); send(internal.Stopped())",
        "STOPPED does not belong to the phase running",
    ),
    "a descriptor": (
        "take_configuration(); send(internal.FibInSync(0), descriptors=[0])",
        "FIB_IN_SYNC carries a descriptor",
    ),
    "several descriptors": (
        "take_configuration(); send(internal.FibInSync(0), descriptors=[0, 1, 2])",
        "3 descriptors in one message",
    ),
    "more descriptors than are looked at": (
        "take_configuration(); send(internal.FibInSync(0), descriptors=[0] * 50)",
        "50 descriptors in one message",
    ),
    "a body of another type": (
        "take_configuration(); send(internal.ReloadRequested(0, 1), as_type=20)",
        "",
    ),
    "an event that does not exist": (
        "send(internal.LogEvent('pwned', {}))",
        "log event 'pwned' does not exist",
    ),
    "an event with other fields": (
        "send(internal.LogEvent('sandboxed', {'x': 'y'}))",
        "log event sandboxed with the fields x",
    ),
    "an event of the parent's": (
        "send(internal.LogEvent('reload-confirmed', {'asked_by': 'uid 0 pid 1'}))",
        "log event reload-confirmed is not for the engine to log",
    ),
    "a route of too many next hops": (
        "take_configuration()\n"
        "import msgpack\n"
        "body = msgpack.packb([1, [[1, [[None, 1, 1, False]] * 1025, None]], [], [], False])\n"
        "send_raw(pack_frame(Frame(20, 0, body), INTERNAL_FRAME_MAX_BYTES))",
        "1025 items, and 1024 are the most",
    ),
    "answers that nobody asked for": (
        "take_configuration()\nfor _ in range(99): send(internal.ConfApplied(1))",
        "answers without a request",
    ),
    "reload requests without end": (
        "take_configuration()\nfor n in range(1, 10_000): "
        "send(internal.ReloadRequested(0, 1), request_id=n)",
        f"{REQUESTS_MAX + 1} requests at once",
    ),
    "a descriptor instead of a listener": (
        "send(internal.RefusalsWatched(), descriptors=[0])",
        "a descriptor that is no seccomp listener",
    ),
    "a listener when it runs already": (
        "take_configuration(); send(internal.RefusalsWatched(), descriptors=[0])",
        "REFUSALS_WATCHED does not belong to the phase running",
    ),
    "a second listener": (
        "tell_of_refusals(); send(internal.RefusalsWatched(), descriptors=[0])",
        "a second listener for refused calls",
    ),
    "wishes without end": (
        "take_configuration()\nfor n in range(1, 10_000): send(internal.FibUpdate(n, (), (), ()))",
        "more than 100 updates",
    ),
}


FLOODS = {"answers that nobody asked for", "reload requests without end"}


@pytest.mark.parametrize("what", BREAKS_A_RULE)
async def test_a_broken_rule_ends_the_engine_with_its_reason(
    take_over: TakeOver, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    script, reason = BREAKS_A_RULE[what]
    # Before Linux 6.16 descriptors arrive and must be checked.
    monkeypatch.setattr(channel, "refuse_descriptors", lambda _: False)
    before = len(os.listdir("/proc/self/fd"))
    # After the attack the engine listens, so only the parent ends it.
    take_over(f"{script}\nwhile True: take()\n")
    attack = await run_attack()
    assert attack.status == "killed by SIGKILL", attack.sink.records
    assert len(attack.problems) == 1
    assert reason in attack.problems[0]
    assert attack.conduct.violations == {"flood" if what in FLOODS else "channel": 1}
    gc.collect()
    with trio.fail_after(DEADLINE_S):  # a thread closes the descriptors that the engine sent
        await until(lambda: len(os.listdir("/proc/self/fd")) == before)


async def test_an_engine_that_closes_its_channel_and_does_not_exit_is_ended(
    take_over: TakeOver,
) -> None:
    take_over("take_configuration()\nchannel.close()\nread_nothing()\n")
    attack = await run_attack()
    assert attack.status == "killed by SIGKILL"
    assert attack.problems == ["it has closed the channel and still runs"]
    assert attack.conduct.violations == {"channel": 1}


async def test_an_engine_that_reads_nothing_is_ended_before_queued_messages_fill_memory(
    take_over: TakeOver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routed.parent.engine_process.send_queue.MESSAGES_MAX", 100)
    take_over("take_configuration()\nread_nothing()\n")
    attack = Attack()
    attack.tell = [LogLevelChanged("x" * 100)] * 100_000
    await attack.run()
    assert attack.status == "killed by SIGKILL"
    assert attack.conduct.violations == {"flood": 1}
    assert attack.session is not None
    assert not attack.session._send_queue._messages


async def test_a_configured_engine_cannot_send_descriptors_at_all(take_over: TakeOver) -> None:
    """Otherwise another process's lingering socket, passed on by the engine, would block its
    parent's close.
    """
    if may_carry_descriptors_here():
        pytest.skip("this kernel lacks SO_PASSRIGHTS (Linux 6.16)")
    take_over(
        "take_configuration()\n"
        "try: send(internal.FibInSync(0), descriptors=[0])\n"
        "except PermissionError: send(internal.FibInSync(0))\n"
        "send(internal.LogEvent('sandboxed', {'by': 'refused'}))\n",
    )
    attack = await run_attack()
    assert attack.problems == []
    assert attack.host.in_sync == 1
    assert attack.sink.fields_of("sandboxed") == [{"by": "refused"}]


def may_carry_descriptors_here() -> bool:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        return not refuse_descriptors(ours)


async def test_a_flood_of_log_lines_is_cut_and_counted(take_over: TakeOver) -> None:
    flood = LOG_LINES_BURST * 2
    take_over(
        "take_configuration()\n"
        f"for n in range({flood}): send(internal.LogEvent('sandboxed', {{'by': 'x'}}))\n"
        "send(internal.FibInSync(0))\nread_nothing()\n",
    )
    attack = await run_attack(until_in_sync=True)
    lines = attack.sink.fields_of("sandboxed")
    assert attack.host.in_sync == 1, "the flood delayed, and lost nothing else"
    assert LOG_LINES_BURST <= len(lines) < flood


async def test_a_flood_of_long_log_lines_is_cut_by_its_bytes(take_over: TakeOver) -> None:
    """A control character takes six bytes in the log, whatever it takes on the channel."""
    take_over(
        "take_configuration()\n"
        "for n in range(4000): send(internal.LogEvent('sandboxed', {'by': chr(1) * 2000}))\n"
        "send(internal.FibInSync(0))\nread_nothing()\n",
    )
    attack = await run_attack(until_in_sync=True)
    assert attack.host.in_sync == 1, "the flood delayed, and lost nothing else"
    assert attack.sink.fields_of("sandboxed")
    written = sum(len(format_text(record).encode()) for record in attack.sink.records)
    assert written < 2 * LOG_BYTES_BURST


async def test_a_new_engine_has_no_new_budget_of_log_lines(take_over: TakeOver) -> None:
    take_over(
        "take_configuration()\n"
        f"for n in range({LOG_LINES_BURST}): send(internal.LogEvent('sandboxed', {{'by': 'x'}}))\n"
        "send(internal.FibInSync(0))\nread_nothing()\n",
    )
    first = await run_attack(until_in_sync=True)
    second = Attack(until_in_sync=True)
    second.conduct.log_budget = first.conduct.log_budget
    await second.run()
    assert second.host.in_sync == 1
    assert len(second.sink.fields_of("sandboxed")) < LOG_LINES_BURST // 2


async def test_an_engine_cannot_suppress_the_parent_s_own_lines(take_over: TakeOver) -> None:
    """An event that both may log has a limit for each of them."""
    take_over(
        "take_configuration()\n"
        "fields = {'message': 'x', 'problem': 'x'}\n"
        "for n in range(2000): send(internal.LogEvent('message-dropped', fields))\n"
        "send(internal.FibInSync(0))\nread_nothing()\n",
    )
    attack = await run_attack(until_in_sync=True)
    assert len(attack.sink.fields_of("message-dropped")) < 2000
    attack.log.emit("message-dropped", message="Ping", problem="mine")
    last = attack.sink.records[-1]
    assert (last.process, last.fields["problem"]) == ("parent", "mine")


async def test_a_message_that_cannot_be_sent_loses_that_message_only(take_over: TakeOver) -> None:
    take_over(
        "take_configuration()\ntake_until(internal.Ping)\n"
        "while take_until(internal.MessagesDropped).count < 2:\n    pass\n"
        "send(internal.FibInSync(0))\nread_nothing()\n",
    )
    attack = Attack(until_in_sync=True)
    attack.tell = [
        ReloadFinished(True, ("a line",), changes_state=object()),  # type: ignore[arg-type]
        LinksComplete(((Address.parse("fe80::1"), 1),) * 1001),
        Ping(),
    ]
    await attack.run()
    assert attack.host.in_sync == 1, "what was queued after it has arrived"
    assert attack.conduct.messages_dropped == {"ReloadFinished": 1, "LinksComplete": 1}
    dropped = attack.sink.fields_of("message-dropped")
    assert [fields["message"] for fields in dropped] == ["ReloadFinished", "LinksComplete"]


async def test_a_long_name_of_an_event_ends_the_engine_and_nothing_else(
    take_over: TakeOver,
) -> None:
    """The reason quotes the name, and is truncated."""
    take_over(
        "take_configuration()\n"
        "import msgpack\n"
        "body = msgpack.packb([chr(1) * 100_000, {}])\n"
        "send_raw(pack_frame(Frame(40, 0, body), INTERNAL_FRAME_MAX_BYTES))\n"
        "while True: take()\n"
    )
    attack = await run_attack()
    assert attack.status == "killed by SIGKILL"
    (problem,) = attack.problems
    assert len(problem) < 1000


async def test_an_engine_of_another_version_gets_no_message(take_over: TakeOver) -> None:
    take_over(
        "# says_no_hello\n"
        "send(internal.EngineHello('9.9.9', bytes(16)))\n"
        "channel.recv(1)\nos._exit(3)\n"
    )
    attack = await run_attack()
    assert attack.session is not None
    assert attack.session.other_version == "9.9.9"
    assert attack.status == "killed by SIGKILL"
    assert attack.conduct.violations == {}, "it is no offence"


async def test_an_engine_that_sends_no_version_gets_no_message(take_over: TakeOver) -> None:
    take_over("# says_no_hello\nsend(internal.Pong())\nchannel.recv(1)\nos._exit(3)\n")
    attack = await run_attack()
    assert attack.session is not None
    assert attack.session.other_version == "unknown"
    assert attack.status == "killed by SIGKILL"


async def test_other_tasks_of_the_parent_run_during_a_flood(
    take_over: TakeOver,
) -> None:
    take_over(
        "take_configuration()\nfor n in range(20_000): send(internal.FibInSync(0))\nos._exit(7)\n"
    )
    attack = Attack()
    turns_during = []

    async def count_turns() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            if 0 < attack.host.in_sync < 20_000:
                turns_during.append(attack.host.in_sync)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await attack.run()
        nursery.cancel_scope.cancel()
    assert attack.status == "exit status 7"
    # There are a few messages at most between two turns, on any machine.
    assert len(turns_during) > 5_000


async def test_other_tasks_of_the_parent_run_while_the_engine_prints_without_end(
    take_over: TakeOver,
) -> None:
    take_over("take_configuration()\nwhile True: os.write(1, b'x\\n' * 32768)\n")
    attack = Attack()

    async def count_turns() -> None:
        while not attack.sink.fields_of("engine-output"):
            await trio.lowlevel.checkpoint()
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert attack.session is not None
        attack.session.kill()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await attack.run()
    assert attack.status == "killed by SIGKILL"


async def test_answers_that_are_not_read_are_dropped(take_over: TakeOver) -> None:
    """Otherwise an engine that sends requests and does not read would make the parent queue all
    answers.
    """
    take_over(
        "take_configuration()\nfor n in range(1, 1_000_000): "
        "send(internal.LogLevelRequested('info'), request_id=n)"
    )
    attack = Attack()
    waiting = []

    def answer(_request: LogLevelRequested, request_id: int) -> None:
        assert attack.session is not None
        # An answer about nexthop objects has this many bytes.
        attack.session.send(ReloadFinished(True, ("x" * 50_000,)), request_id=request_id)
        waiting.append(len(attack.session._send_queue))

    attack.host.on_level = answer
    await attack.run()
    assert attack.problems == [f"{REQUESTS_MAX + 1} requests at once"]
    assert attack.conduct.violations == {"flood": 1}
    assert max(waiting) <= REQUESTS_MAX


async def test_queues_for_an_engine_that_does_not_read_do_not_grow(take_over: TakeOver) -> None:
    """The queue holds state: a million changes of a link are one message."""
    take_over("take_configuration()\nread_nothing()\n")
    attack = Attack()

    async def change_for_ever() -> None:
        while attack.session is None or not attack.session.is_running:
            await trio.lowlevel.checkpoint()
        session = attack.session
        for _ in range(100_000):
            session.mark_link(7)
            session.mark_progress()
        assert len(session._send_queue) <= 1
        session.kill()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change_for_ever)
        await attack.run()
    assert attack.status == "killed by SIGKILL"


async def test_a_socket_for_an_engine_that_has_just_died_is_not_kept(take_over: TakeOver) -> None:
    """A link may come up before the next engine runs: a NUP socket that stayed open would keep its
    port in use.
    """
    take_over("take_configuration()\nos._exit(3)\n")
    attack = await run_attack()
    assert attack.session is not None
    assert not attack.session.is_running
    descriptor = os.memfd_create("socket")
    attack.session.send(SocketReady(SocketKind.NEIGHBOR, 7, None), descriptor=descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


async def test_a_very_long_reason_is_truncated(
    take_over: TakeOver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be a very long line of the log."""
    take_over(
        "begin = take_until(internal.ConfBegin)\ntake_until(internal.ConfDrain)\n"
        "send(internal.ConfReady(begin.generation, 'x' * 50_000))\nread_nothing()\n"
    )
    attack = Attack()
    reasons: list[str] = []

    async def configure(session: EngineSession) -> None:
        with pytest.raises(EngineFailed) as failure:
            await session.prepare(CONFIG, (), begin)
        reasons.append(str(failure.value))
        session.kill()

    monkeypatch.setattr(attack, "_configure", configure)
    await attack.run()
    (reason,) = reasons
    assert reason.startswith("the engine refused the configuration: xxx")
    assert len(reason) < 1100


async def test_read_answers_leave_space_for_further_requests(take_over: TakeOver) -> None:
    """The bound applies to queued answers, not to all answers of one engine."""
    attack = Attack()
    take_over(
        "take_configuration()\n"
        f"for n in range(1, {REQUESTS_MAX * 2}):\n"
        "    send(internal.ReloadRequested(0, 1), request_id=n)\n"
        "    take_until(internal.ReloadFinished)\n"
        "os._exit(3)\n"
    )

    def answer(_request: ReloadRequested, request_id: int) -> None:
        assert attack.session is not None
        attack.session.send(ReloadFinished(True, ()), request_id=request_id)

    attack.host.on_reload = answer
    await attack.run()
    assert (attack.status, attack.problems) == ("exit status 3", [])


needs_listener = pytest.mark.skipif(
    here() is None, reason="this kernel lacks a system call table of ours"
)


@needs_listener
async def test_refused_system_calls_are_counted_by_name(take_over: TakeOver) -> None:
    take_over(
        "tell_of_refusals()\ntake_configuration()\n"
        "for attempt in ('os.open(\"/etc/passwd\", 0)', 'os.setuid(0)', 'os.setuid(0)',\n"
        "                'os.kill(os.getppid(), 9)', 'socket.socket()'):\n"
        "    try:\n        eval(attempt)\n"
        "    except PermissionError:\n        continue\n"
        "    os._exit(1)\n"
        "counted = take_until(internal.RefusalsCounted)\n"
        "while sum(counted.calls.values()) < 5:\n"
        "    counted = take_until(internal.RefusalsCounted)\n"
        "os._exit(5)\n"
    )
    attack = await run_attack()
    assert (attack.status, attack.problems) == ("exit status 5", [])
    assert attack.conduct.refusals == {"openat": 1, "setuid": 2, "kill": 1, "socket": 1}
    assert [fields["call"] for fields in attack.sink.fields_of("sandbox-refused")][:2] == [
        "openat",
        "setuid",
    ]


@needs_listener
async def test_a_flood_of_refused_calls_is_left_to_the_kernel_and_ends_no_engine(
    take_over: TakeOver,
) -> None:
    """A defect may put a refused call where an unauthenticated sender decides how often it
    is made.
    """
    take_over(
        "import errno\ntell_of_refusals()\ntake_configuration()\n"
        "answers = set()\n"
        "while errno.ENOSYS not in answers:\n    try:\n        os.setuid(0)\n"
        "    except OSError as error:\n        answers.add(error.errno)\n"
        "os._exit(5 if answers == {errno.EPERM, errno.ENOSYS} else 1)\n"
    )
    attack = await run_attack()
    assert (attack.status, attack.problems) == ("exit status 5", [])
    assert attack.conduct.violations == {}
    assert attack.conduct.refusals["setuid"] > REFUSALS_BURST
    assert [fields["call"] for fields in attack.sink.fields_of("sandbox-uncounted")] == ["setuid"]


@needs_listener
async def test_a_call_that_is_refused_while_the_engine_dies_has_no_effect(
    take_over: TakeOver,
) -> None:
    take_over(
        "import threading\ntell_of_refusals()\ntake_configuration()\n"
        "def call_for_ever():\n"
        "    while True:\n        try:\n            os.open('/', 0)\n"
        "        except OSError:\n            pass\n"
        "for _ in range(4):\n    threading.Thread(target=call_for_ever, daemon=True).start()\n"
        "while True:\n    take_until(internal.RefusalsCounted)\n    os._exit(6)\n"
    )
    attack = await run_attack()
    assert attack.status == "exit status 6"


async def test_an_intruder_s_system_call_ends_it_by_sigsys(take_over: TakeOver) -> None:
    take_over("os.execv('/bin/true', ['true'])\n")
    attack = await run_attack()
    assert attack.status == "killed by SIGSYS"


async def test_an_engine_that_hangs_is_ended(
    take_over: TakeOver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_session, "PULSE_S", 0.1)
    take_over("take_configuration()\nread_nothing()\n")
    attack = await run_attack()
    assert attack.status == "killed by SIGKILL"
    assert len(attack.sink.fields_of("engine-hangs")) == 1


async def test_an_engine_that_answers_its_pings_continues(
    take_over: TakeOver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_session, "PULSE_S", 0.1)
    pings = engine_session.PULSES_MISSED_MAX * 2
    take_over(
        "take_configuration()\n"
        f"for _ in range({pings}):\n"
        "    take_until(internal.Ping)\n"
        "    send(internal.Pong())\n"
        "os._exit(4)\n"
    )
    attack = await run_attack()
    assert attack.status == "exit status 4"
    assert attack.sink.fields_of("engine-hangs") == []


async def run_supervisor(supervisor: Supervisor, host: Host) -> str:
    """Let a supervisor run engines. Returns the reason why it stopped."""

    async def configure(session: EngineSession) -> None:
        await session.prepare(CONFIG, (), begin)
        await session.commit()

    life = EngineContext(host, host.handlers, configure, lambda _: None, lambda: True)
    with trio.fail_after(DEADLINE_S), pytest.raises(EngineFailed) as failure:
        await supervisor.run(CONFIG.user, CONFIG.sandbox, life)
    return str(failure.value)


async def test_a_daemon_gives_up_at_once_when_the_code_is_of_another_version(
    take_over: TakeOver,
) -> None:
    """Otherwise five engines would die one after another, and no line would name the cause."""
    take_over(
        "# says_no_hello\n"
        "send(internal.EngineHello('9.9.9', bytes(16)))\n"
        "channel.recv(1)\nos._exit(3)\n"
    )
    sink = ListSink()
    supervisor = Supervisor(Logger(sink, "parent", Level.DEBUG))
    supervisor.restarts = 3  # an earlier engine of this daemon worked
    why = await run_supervisor(supervisor, Host())
    assert "on disk: 9.9.9" in why
    assert "its routes stay" in why
    (line,) = sink.fields_of("engine-version-differs")
    assert line["engine"] == "9.9.9"
    assert len(sink.fields_of("engine-started")) == 1, "no other engine is tried"


async def test_a_daemon_gives_up_at_once_when_half_of_the_code_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine usually ends with a syntax error before its first message."""
    (tmp_path / "ipc").mkdir()
    (tmp_path / "ipc" / "internal.py").write_text("whole = True\n")
    command = (sys.executable, "-c", "raise SyntaxError('half a file')")
    monkeypatch.setattr(privsep, "ENGINE_COMMAND", command)
    sink = ListSink()
    supervisor = Supervisor(Logger(sink, "parent", Level.DEBUG))
    supervisor.restarts = 3
    supervisor._code = CodeOnDisk(tmp_path)
    (tmp_path / "ipc" / "internal.py").write_text("who")
    why = await run_supervisor(supervisor, Host())
    assert "not the version that this daemon runs" in why
    assert len(sink.fields_of("engine-version-differs")) == 1
    assert len(sink.fields_of("engine-started")) == 1
