"""One daemon for each network namespace and protocol number.

Two daemons that mark alike what they write take it for each other's leftovers and fight for ever.
A table of its own does not keep a daemon out of that: policy rules and nexthop objects are known by
the protocol number alone, and with an object go all routes through it. Nor does a pid file.

    parent --binds--> \\0routed/protocol=205     an abstract Unix socket
    a second start: the name is taken -> connects -> SO_PEERCRED says whose it is,
                    one message says the configuration -> it ends with these

The pid is the kernel's word, not the holder's: it is the one that the process has in the reader's
PID namespace, if any. A container that shares the host's network has pid 1 in its own.

An abstract name exists once in a network namespace, which is what two daemons would fight for, and
the kernel frees it with its holder. A lock file is not seen by a container that shares the host's
network but not its /run, and without root there is no directory that all daemons could write.

Any local user may bind the name, too. So its holder counts only when the kernel says that it is
root or our own user; whoever else has it can keep us from seeing a second daemon, which the log
says, and from nothing else; the name is tried again every minute (`ConfigSwitch`). A full queue
that hides the holder is treated the same: this is a lock against a mistake of the administrator,
and no stranger may have a say in whether the daemon starts.

Invariants:
    Nothing that a client says is read. Each gets one message, at most ANSWERS_MAX of them in
    ANSWERS_PAUSE_S, and waits in a bounded queue before that.
    Nobody can hand us a descriptor (`ipc/fdpass.py`, `ipc/closing.py`).

Failure: `OtherInstanceError` names the other daemon. A name that cannot be had for another reason
is a `warning`, not an error.

Sources: unix(7); Linux copies a listening socket's credentials to those who connect.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from dataclasses import dataclass

import trio

from ipc.closing import Closer
from ipc.credentials import peer_credentials
from ipc.fdpass import refuse_descriptors

__all__ = ["InstanceLock", "OtherInstanceError", "name_of"]

ANSWERS_MAX = 8
ANSWERS_PAUSE_S = 0.1
"""So many other daemons, or strangers, are told who is here before we pause so long."""

_BACKLOG = 128
"""Of those who wait to be told; more cannot connect."""

_ANSWER_TIMEOUT_S = 2.0
"""How long a start waits to be told. A daemon that does not answer is there all the same."""
_ANSWER_MAX_BYTES = 512

_ATTEMPTS_MAX = 100
_ATTEMPT_S = 0.01
"""A name that is bound and not listened on: another start is between the two, or a stranger."""


class OtherInstanceError(Exception):
    """Another daemon has the protocol number; the message says which."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who has the name."""

    uid: int
    pid: int
    """0 when it is in a PID namespace that we do not see."""
    answer: str

    @property
    def process(self) -> str:
        """For people."""
        return f"pid {self.pid}" if self.pid else "a process that is not visible here"


def name_of(protocol: int) -> str:
    """The lock's name, an abstract one."""
    return f"\0routed/protocol={protocol}"


class InstanceLock:
    """Holds the name of a protocol number, or says why it could not be had."""

    def __init__(self, protocol: int, config_path: str) -> None:
        """Bind the name.

        Args:
            protocol: what marks the daemon's routes, rules and nexthop objects.
            config_path: told to who comes second.

        Raises:
            OtherInstanceError: a daemon of root's or of our own user has it.
        """
        self._protocol = protocol
        self._answer = f"configuration {config_path}".encode()
        self._closer = Closer()
        self._listener: socket.socket | None = None
        self._is_bound = trio.Event()
        self.warning = self._claim()
        """Why a second daemon would not be seen at first; empty when it would."""
        if self.is_held:
            self._is_bound.set()

    async def claim_again(self) -> str:
        """Bind the name, when it could not be had at first.

        Returns:
            Why a second daemon would not be seen; empty when it would.

        Raises:
            OtherInstanceError: a daemon of root's or of our own user has it.
        """
        problem = await trio.to_thread.run_sync(self._claim)  # it may wait for an answer
        if self.is_held:
            self._is_bound.set()
        return problem

    def _claim(self) -> str:
        if self._listener is not None:
            return ""
        bound = self._bind()
        if isinstance(bound, str):
            return bound
        self._listener = bound
        return ""

    @property
    def is_held(self) -> bool:
        """Whether a second daemon would be seen."""
        return self._listener is not None

    async def answer(self) -> None:
        """Tell each who connects who is here, until cancelled; at once, when the name is held."""
        await self._is_bound.wait()
        assert self._listener is not None
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            for _ in range(ANSWERS_MAX):
                if self._closer.has_room:
                    self._answer_one(self._listener)
            await trio.sleep(ANSWERS_PAUSE_S)

    def close(self) -> None:
        """Give up the name."""
        if self._listener is not None:
            self._closer.close_connection(self._listener)
            self._listener = None

    def _answer_one(self, listener: socket.socket) -> None:
        # OSError: nobody waits, it has gone, or we are out of descriptors for a moment.
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(self._answer[:_ANSWER_MAX_BYTES])
            self._closer.close_connection(connection)

    def _bind(self) -> socket.socket | str:
        """A listener of the name, or why it cannot be had.

        Raises:
            OtherInstanceError: a daemon of root's or of our own user has it.
        """
        name = name_of(self._protocol)
        for _ in range(_ATTEMPTS_MAX):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                listener.setblocking(False)
                refuse_descriptors(listener)
                listener.bind(name)
                listener.listen(_BACKLOG)
            except OSError as error:
                listener.close()
                if error.errno != errno.EADDRINUSE:
                    return f"the system refuses it: {error.strerror}"
            else:
                return listener
            try:
                holder = _ask_holder(name)
            except ConnectionRefusedError:
                select.select([], [], [], _ATTEMPT_S)
                continue
            except OSError as error:
                return f"its holder cannot be asked: {error.strerror}"
            if holder.uid in (0, os.geteuid()):
                raise OtherInstanceError(self._describe(holder))
            return f"uid {holder.uid} ({holder.process}) has its name"
        return "somebody has its name and does not listen"

    def _describe(self, holder: _Holder) -> str:
        who = f"{holder.process}, {holder.answer or 'which does not answer'}"
        return (
            f"another routed has protocol {self._protocol} in this network namespace ({who}): "
            "end it, or give one of them another fib.protocol"
        )


def _ask_holder(name: str) -> _Holder:
    """Whose a name is.

    Raises:
        OSError: nobody listens, or its queue is full.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.setblocking(False)
        refuse_descriptors(client)
        client.connect(name)
        credentials = peer_credentials(client)
        client.settimeout(_ANSWER_TIMEOUT_S)
        answer = b""
        if credentials.uid in (0, os.geteuid()):
            # OSError: it has ended, or does not answer in time.
            with contextlib.suppress(OSError):
                answer = client.recv(_ANSWER_MAX_BYTES)
    shown = answer.decode("utf-8", "replace")
    shown = "".join(each if each.isprintable() else "?" for each in shown)
    return _Holder(credentials.uid, credentials.pid, shown)
