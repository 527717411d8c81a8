"""The lock of a protocol number: one daemon per network namespace and protocol number.

Two daemons with the same protocol number would each treat the other's routes as leftovers and
remove them, without end. Different tables do not prevent that: policy rules and nexthop objects are
identified by the protocol number alone, and if an object is removed, the kernel removes all routes
through it. Nor does a pid file prevent it.

    parent --binds--> \\0routed/protocol=205     an abstract Unix socket
    a second start: the name is in use -> it connects -> SO_PEERCRED has the holder's uid and pid,
                    one message has its configuration -> it reports both and exits

The pid comes from the kernel, not from the holder: it is the pid in the reader's PID namespace, if
the process has one there. The holder's own pid would be 1 in a container that shares the host's
network.

An abstract name exists once per network namespace, which is also the scope of the conflict, and the
kernel frees it when its holder ends. A lock file would not be visible to a container that shares
the host's network but not its /run, and without root there is no directory that every daemon can
write.

Any local user can bind the name. Hence a holder counts only if the kernel reports root or the
daemon's own user. Another holder prevents only the detection of a second daemon. The log says so,
and the name is tried again every minute (`ConfigSwitch`). A full queue, which hides the holder, is
treated in the same way: the lock protects against a mistake of the administrator, and an
unprivileged user must not be able to prevent the start of the daemon.

Invariants:
    No data from clients is read. Each client gets one message, at most ANSWERS_MAX clients in
    ANSWERS_PAUSE_S, and before that it waits in a bounded queue.
    No client can pass a descriptor to the daemon (`ipc.fdpass`, `ipc.closing`).

Failure: `OtherInstanceError` names the other daemon. If the name cannot be bound for another
reason, that is a `warning`, not an error.

Sources: unix(7); Linux copies the credentials of a listening socket to those that connect to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket

import trio

from ipc.closing import Closer
from ipc.credentials import peer_credentials
from ipc.fdpass import refuse_descriptors
from ipc.lazy_dataclass import dataclass

__all__ = ["InstanceLock", "OtherInstanceError", "name_of"]

ANSWERS_MAX = 8
ANSWERS_PAUSE_S = 0.1
"""The pause after each ANSWERS_MAX clients that were answered."""

_BACKLOG = 128
"""The most clients that wait for an answer; further ones cannot connect."""

_ANSWER_TIMEOUT_S = 2.0
"""The longest wait of a second daemon for an answer. Without an answer the lock counts as held."""
_ANSWER_MAX_BYTES = 512

_ATTEMPTS_MAX = 100
_ATTEMPT_S = 0.01
"""The pause between attempts while a process has bound the name and does not listen: it is another
starting daemon, between the two calls, or an unprivileged user's process."""


class OtherInstanceError(Exception):
    """Another daemon has the protocol number; the message says which."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that has bound the name."""

    uid: int
    pid: int
    """The pid in this PID namespace; 0 if it has none here."""
    answer: str
    """Its message; empty if it sent none."""

    @property
    def process(self) -> str:
        """The process as text, for a message."""
        return f"pid {self.pid}" if self.pid else "a process that is not visible here"


def name_of(protocol: int) -> str:
    """Return the abstract socket name of a protocol number's lock."""
    return f"\0routed/protocol={protocol}"


class InstanceLock:
    """The lock of a protocol number, or the reason why it is not held."""

    def __init__(self, protocol: int, config_path: str) -> None:
        """Bind the name.

        Args:
            protocol: protocol number of the daemon's routes, rules and nexthop objects.
            config_path: path of the configuration, sent to a second daemon.

        Raises:
            OtherInstanceError: a daemon of root or of the same user has the name.
        """
        self._protocol = protocol
        self._answer = f"configuration {config_path}".encode()
        self._closer = Closer()
        self._listener: socket.socket | None = None
        self._is_bound = trio.Event()
        self.warning = self._claim()
        """The reason why the name could not be bound in the constructor; empty if it was bound."""
        if self.is_held:
            self._is_bound.set()

    async def claim_again(self) -> str:
        """Bind the name, if it is not bound yet.

        Returns:
            The reason why the name cannot be bound; empty if it is bound.

        Raises:
            OtherInstanceError: a daemon of root or of the same user has the name.
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
        """Whether the name is bound, so that a second daemon would be detected."""
        return self._listener is not None

    async def answer(self) -> None:
        """Answer each client that connects, once the name is bound, until cancelled."""
        await self._is_bound.wait()
        assert self._listener is not None
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            for _ in range(ANSWERS_MAX):
                if self._closer.has_room:
                    self._answer_one(self._listener)
            await trio.sleep(ANSWERS_PAUSE_S)

    def close(self) -> None:
        """Release the name."""
        if self._listener is not None:
            self._closer.close_connection(self._listener)
            self._listener = None

    def _answer_one(self, listener: socket.socket) -> None:
        # OSError: no client waits, it has closed, or there are no free descriptors at present.
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.send(self._answer[:_ANSWER_MAX_BYTES])
            self._closer.close_connection(connection)

    def _bind(self) -> socket.socket | str:
        """Bind the name and listen. Returns the listener, or the reason why that is impossible.

        Raises:
            OtherInstanceError: a daemon of root or of the same user has the name.
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
                holder = _identify_holder(name)
            except ConnectionRefusedError:
                select.select([], [], [], _ATTEMPT_S)
                continue
            except OSError as error:
                return f"its holder does not answer: {error.strerror}"
            if holder.uid in (0, os.geteuid()):
                raise OtherInstanceError(self._describe(holder))
            return f"uid {holder.uid} ({holder.process}) has its name"
        return "a process has bound its name and does not listen"

    def _describe(self, holder: _Holder) -> str:
        who = f"{holder.process}, {holder.answer or 'which does not answer'}"
        return (
            f"another routed has protocol {self._protocol} in this network namespace ({who}): "
            "end it, or give one of them another fib.protocol"
        )


def _identify_holder(name: str) -> _Holder:
    """Identify the process that has bound a name.

    Raises:
        OSError: no process listens, or its queue is full.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.setblocking(False)
        refuse_descriptors(client)
        client.connect(name)
        credentials = peer_credentials(client)
        client.settimeout(_ANSWER_TIMEOUT_S)
        answer = b""
        if credentials.uid in (0, os.geteuid()):
            # OSError: the process has ended, or does not answer in time.
            with contextlib.suppress(OSError):
                answer = client.recv(_ANSWER_MAX_BYTES)
    shown = answer.decode("utf-8", "replace")
    shown = "".join(each if each.isprintable() else "?" for each in shown)
    return _Holder(credentials.uid, credentials.pid, shown)
