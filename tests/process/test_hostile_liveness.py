"""The parent's side of the channel against a liveness process that was taken over.

Each attack ends that process with a reason, and leaves the parent no descriptor and no child.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio

from ipc import codec
from ipc.closing import Closer
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, Frame, pack_frame
from routed.imsg.declaration import hello_of_this_process
from routed.imsg.liveness import LIVENESS_CLASSES, BfdConfigured
from routed.imsg.messages import EngineHello, Ping, Pong
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.bfd import BFD_SESSIONS_MAX
from routed.parent import child_session
from routed.parent.child_session import QUEUE_MAX, ChildSession
from routed.parent.engine_process import spawn
from routed.parent.liveness import LIVENESS_PROTOCOL
from tests.fakes.bfd_pair import settings
from tests.fakes.management_scene import until

DEADLINE_S = 30.0

PROGRAM = """
import socket, sys
channel = socket.socket(fileno=3)
for text in sys.argv[1].split(","):
    if text == "read":
        channel.recv(1 << 18)
    elif text == "descriptor":
        socket.send_fds(channel, [bytes.fromhex(sys.argv[2])], [1])
    else:
        channel.send(bytes.fromhex(text))
sys.stdin = None
while channel.recv(1 << 18) if sys.argv[3] == "reads" else True:
    if sys.argv[3] != "reads":
        import signal
        signal.pause()
"""
"""Sends the frames of its first argument; then it reads, or does nothing any more."""


def frame(message: object) -> str:
    number = LIVENESS_CLASSES[type(message)]
    packed = pack_frame(Frame(number, 0, codec.encode(message)), INTERNAL_FRAME_MAX_BYTES)
    return packed.hex()


HELLO, PONG = frame(hello_of_this_process()), frame(Pong())


class Sink:
    def __init__(self) -> None:
        self.problems: list[str] = []

    def write(self, record: LogRecord) -> None:
        if record.event == "liveness-misbehaved":
            self.problems.append(str(record.fields["problem"]))

    def close(self) -> None:
        self.problems.clear()


async def run(
    *script: str, attack: Callable[[ChildSession], None] = lambda _session: None, reads: bool
) -> tuple[str, list[str]]:
    """How a process ended that sends these frames, and what was logged about it."""
    arguments = (",".join(script), HELLO, "reads" if reads else "stays")
    process = spawn.start_engine(
        os.getuid(), os.getgid(), "off", 1 << 18, (sys.executable, "-c", PROGRAM, *arguments)
    )
    sink = Sink()
    session = ChildSession(
        process,
        LIVENESS_PROTOCOL,
        Logger(sink, "parent", Level.DEBUG),
        Closer(),
        lambda _request: None,
    )
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:

            async def strike() -> None:
                await session.wait_greeted()
                attack(session)

            nursery.start_soon(strike)
            status = await session.run()
            nursery.cancel_scope.cancel()
    return status, sink.problems


KILLED = "killed by SIGKILL"


def descriptors() -> dict[str, str]:
    """What each descriptor of this process is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ((HELLO, PONG, PONG), "PONG without a ping"),
        ((HELLO, HELLO), "HELLO for the second time"),
        ((frame(EngineHello("other", b"")),), "it is of another version than this process"),
        ((HELLO, frame(Ping())), "PING is not for the liveness to send"),
        ((HELLO, "ffff" + HELLO[4:]), "does not exist"),
        ((HELLO, HELLO[:-4]), ""),
        (("descriptor",), "HELLO carries a descriptor"),
    ],
)
async def test_what_it_may_not_send_ends_it(script: tuple[str, ...], problem: str) -> None:
    before = descriptors()
    status, problems = await run(*script, reads=True)
    assert status == KILLED
    assert len(problems) == 1
    assert problem in problems[0]
    with trio.fail_after(DEADLINE_S):  # a thread closes what may have carried descriptors
        await until(lambda: descriptors() == before)


async def test_a_process_that_reads_nothing_is_ended() -> None:
    """It answers the pings all the same, or would by guessing when they are due."""

    def flood(session: ChildSession) -> None:
        sessions = tuple(settings(name=str(number)) for number in range(BFD_SESSIONS_MAX))
        for _ in range(QUEUE_MAX // BFD_SESSIONS_MAX + 1):
            session.send(BfdConfigured(sessions))

    status, problems = await run(HELLO, attack=flood, reads=False)
    assert (status, problems) == (KILLED, ["it does not read its messages"])


async def test_a_process_that_answers_no_ping_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_session, "PING_S", 0.01)
    status, problems = await run(HELLO, reads=False)
    assert (status, problems) == (KILLED, ["no answer to 6 pings"])
