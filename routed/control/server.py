"""The management socket: an accept loop, and one task for each session.

    accept --> role by SO_PEERCRED --> NONE, or no room: one parting RESULT, closed
                    |
                    v
               session: HELLO, then receive -> policy -> decode -> handler -> pages -> RESULT, again

A bad client harms only itself:

    garbage, oversize, forged or missing credentials   the session is closed, and this is logged
    descriptors that no request carries                 refused by the kernel (Linux 6.16), else
                                                        closed by a thread; the session ends
    does not read                                       its task waits in send; at most one page is
                                                        buffered here
    disconnects                                         the next send fails and ends its dump
    a large table                                       a checkpoint after each page, so heartbeats
                                                        and other sessions get their turns
    unprivileged clients                                cost one accept and one message: they get no
                                                        session, so they cannot exhaust sessions
    many sessions                                       MAX_SESSIONS, the last ones reserved for
                                                        admins; when none is free, the user with the
                                                        most sessions loses the one idle longest

Each message is authorised by two credentials that must agree: SO_PEERCRED (the process that
connected) gives the role, and the message's own SCM_CREDENTIALS must have the same uid. A program
that was tricked into writing another program's bytes therefore gains nothing
(`ipc/credentials.py`).

Invariants:
    An exception in a handler ends its request with `internal`, is logged, and ends nothing else.
    Every refusal and every change is passed to the log callback with the uid and pid that the
    kernel reports. The callback limits the rate of what any client can trigger.

Cancellation: cancelling `run` closes every session at once; the listener stays open, because its
owner is the caller.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

import trio

from ipc.closing import Closer
from ipc.codec import CodecError, decode, encode
from ipc.control import (
    PARTING_REQUEST_ID,
    PROTOCOL_VERSION,
    REQUEST_CLASSES,
    ClientHello,
    Configure,
    ControlType,
    Result,
    ResultCode,
    Role,
    RouteChange,
    Welcome,
)
from ipc.conversation import ALL_WELL
from ipc.credentials import (
    CredentialsError,
    PeerCredentials,
    peer_credentials,
)
from ipc.framing import (
    Frame,
    FrameError,
    IpcError,
)
from routed.control.answers import Final
from routed.control.caller import Caller
from routed.control.daemon import Daemon
from routed.control.handlers import HANDLERS
from routed.control.policy import REQUIRED_ROLE, AccessList, is_allowed
from routed.control.sending import AnswerSender
from routed.control.session import ClientGone, Misuse, Session, pack_result
from routed.model.command import ReloadAction

__all__ = [
    "EVENT_CHANGED",
    "EVENT_DEFECT",
    "EVENT_REFUSED",
    "MAX_SESSIONS",
    "LogCallback",
    "ManagementServer",
]

MAX_SESSIONS = 256
"""Most sessions. Each holds a task, a descriptor, and at most one socket buffer (208 KiB) in the
kernel."""

RESERVED_FOR_ADMIN = 16
"""Sessions of these for admins, who can connect however many readers there are."""

IDLE_MIN_S = 5.0
"""If a user has used up all sessions, a new one of that user replaces the one idle longest, once it
has been idle for this long."""

ACCEPT_RETRY_S = 0.1
"""Pause when the process is out of descriptors; the listener would stay ready all the time."""

EVENT_REFUSED = "client-refused"
"""A connection was refused or closed, or a request denied: uid, pid, reason."""
EVENT_CHANGED = "client-changed"
"""A request that changes the daemon was carried out: uid, pid, request, outcome."""
EVENT_DEFECT = "internal-error"
"""A defect: where, error."""

LogCallback = Callable[[str, dict[str, str]], None]
"""Called with the name of an event and its fields."""


class ManagementServer:
    """Owns the sessions of the management socket."""

    def __init__(
        self,
        listener: socket.socket,
        daemon: Daemon,
        access: AccessList,
        log: LogCallback,
        *,
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        """Prepare; nothing is accepted before `run`.

        Args:
            listener: a listening SOCK_SEQPACKET socket with SO_PASSCRED; its owner is the caller.
            daemon: answers the requests.
            access: the roles of users and groups.
            log: called with refusals, changes and defects; must not block.
            max_sessions: above RESERVED_FOR_ADMIN.
        """
        self._access = access
        self._refusals = daemon.client_refusals
        """By reason: connection refused (`admission`), session closed for a fault (`misuse`) or for
        another client (`idle`), request denied (`role`)."""
        self._listener = listener
        self._daemon = daemon
        self._log = log
        self._max_sessions = max_sessions
        self._open: dict[int, Session] = {}
        self._last_session = 0
        self._sender = AnswerSender()
        self._closer = Closer()

    @property
    def sessions(self) -> int:
        """Number of open sessions."""
        return len(self._open)

    def set_access(self, access: AccessList) -> None:
        """Use another access list, for open sessions as well: each request is checked."""
        self._access = access

    async def run(self) -> NoReturn:
        """Serve until cancelled."""
        self._listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(self._listener)
                if not self._closer.has_room:
                    await trio.sleep(ACCEPT_RETRY_S)
                    continue
                connection = await self._accept()
                if connection is not None:
                    self._admit(connection, nursery)

    async def _accept(self) -> socket.socket | None:
        try:
            return self._listener.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._log(EVENT_DEFECT, {"where": "management socket", "error": str(error)})
            await trio.sleep(ACCEPT_RETRY_S)
            return None

    def _admit(self, connection: socket.socket, nursery: trio.Nursery) -> None:
        """Start a session for a new connection, or refuse it."""
        connection.setblocking(False)
        try:
            caller = peer_credentials(connection)
        except OSError as error:
            self._closer.close_connection(connection)
            self._log(EVENT_REFUSED, {"uid": "-", "pid": "-", "reason": str(error)})
            return
        role = self._access.role_of(caller)
        room = self._max_sessions - (0 if role is Role.ADMIN else RESERVED_FOR_ADMIN)
        if role is Role.NONE:
            self._refuse_connection(
                connection, caller, self._denial(Role.READ, caller, "this socket")
            )
        elif self.sessions >= room and not self._free_session(caller):
            text = f"routed has {self.sessions} sessions open, which is all there may be"
            self._refuse_connection(connection, caller, Result(ResultCode.BUSY, (text,)))
        else:
            self._last_session += 1
            session = Session(
                connection, caller, self._last_session, trio.current_time(), self._closer
            )
            self._open[session.number] = session
            nursery.start_soon(self._serve, session)

    def _free_session(self, newcomer: PeerCredentials) -> bool:
        """End the session idle longest of the user with the most. Returns whether there was one.

        A session with leases is never idle: routes depend on it.
        """
        counts = Counter(session.credentials.uid for session in self._open.values())
        most = max(counts.values(), default=0)
        has_most = counts[newcomer.uid] >= most - 1
        latest = trio.current_time() - (IDLE_MIN_S if has_most else 0.0)
        idle = [
            session
            for session in self._open.values()
            if counts[session.credentials.uid] == most
            and not session.holds_lease
            and session.idle_since <= latest
        ]
        if not idle:
            return False
        longest = min(idle, key=lambda session: session.idle_since)
        del self._open[longest.number]
        reason = "it was idle, and another client needs it"
        longest.end(Result(ResultCode.GONE, (f"routed ended this session: {reason}",)))
        self._refused(longest.credentials, "idle", reason)
        return True

    def _refuse_connection(
        self, connection: socket.socket, caller: PeerCredentials, parting: Result
    ) -> None:
        """Send the reason and close; a new socket accepts one message without blocking."""
        try:
            connection.send(pack_result(PARTING_REQUEST_ID, parting))
        except OSError:
            pass  # it has disconnected already; the refusal is still logged
        self._closer.close_connection(connection)
        self._refused(caller, "admission", parting.lines[0])

    async def _serve(self, session: Session) -> None:
        caller = session.credentials
        try:
            with session.scope:
                await self._converse(session)
        except ClientGone:
            pass
        except IpcError as error:  # credentials, framing, codec: a fault of the client
            self._refused(caller, "misuse", str(error))
        except Exception as error:  # noqa: BLE001 a defect ends its session, not the daemon
            self._log(EVENT_DEFECT, {"where": "session", "error": _defect_text(error)})
        finally:
            session.close()
            self._open.pop(session.number, None)
            self._daemon.injection.session_ended(session.number)

    async def _converse(self, session: Session) -> NoReturn:
        await self._greet(session)
        while True:
            session.set_idle(trio.current_time())
            frame = await session.receive()
            session.set_busy()
            if frame.type == ControlType.HELLO:
                raise FrameError("a second hello")
            await self._answer(session, frame)

    async def _greet(self, session: Session) -> None:
        frame = await session.receive()
        if frame.type != ControlType.HELLO:
            raise FrameError(f"no hello, but a message of type {frame.type}")
        hello = decode(ClientHello, frame.body)
        status = self._daemon.status()
        welcome = Welcome(
            PROTOCOL_VERSION,
            status.version,
            str(status.router_id),
            self._access.role_of(session.credentials),
        )
        # Sent on a mismatch as well: the client then knows both versions and can report them.
        await session.send(Frame(ControlType.HELLO, frame.request_id, encode(welcome)))
        if hello.protocol_version != PROTOCOL_VERSION:
            raise FrameError(f"protocol version {hello.protocol_version}, not {PROTOCOL_VERSION}")

    async def _answer(self, session: Session, frame: Frame) -> None:
        """Answer one request. Its type and sender are checked before its body is decoded."""
        caller = session.credentials
        role = self._access.role_of(caller)
        if not is_allowed(frame.type, role):
            denied = f"{_request_name(frame.type)}: beyond the role {role.label}"
            self._refused(caller, "role", denied)
            await session.send_result(frame.request_id, self._refusal(frame, caller))
            return
        request_type = ControlType(frame.type)
        try:
            request = decode(REQUEST_CLASSES[request_type], frame.body)
        except CodecError as error:
            text = f"{_request_name(frame.type)} cannot be read: {error}"
            await session.send_result(frame.request_id, Result(ResultCode.USAGE, (text,)))
            raise  # the client does not speak this protocol: the session ends
        await self._carry_out(session, frame.request_id, request_type, request)

    async def _carry_out(
        self, session: Session, request_id: int, request_type: ControlType, request: object
    ) -> None:
        """Have the handler answer a request, send the answer, and log a change."""
        credentials = session.credentials
        if isinstance(request, RouteChange) and request.lease.is_session:
            session.set_holds_lease()
        end: Final | None
        try:
            caller = Caller(credentials.uid, credentials.pid, session.number)
            answer = await HANDLERS[request_type](self._daemon, request, caller)
            if isinstance(answer, Final):
                end = answer
            else:
                end = await self._sender.send(session, request_id, answer)
        except (ClientGone, CredentialsError, Misuse):
            raise
        except Exception as error:  # noqa: BLE001 a defect ends its request, not the daemon
            end = self._defect(request_type, error)
        self._report_change(credentials, request_type, ALL_WELL if end is None else end.result)
        if end is not None:
            await session.send_result(request_id, end.result, end.descriptor)

    def _refusal(self, frame: Frame, caller: PeerCredentials) -> Result:
        if frame.type not in REQUIRED_ROLE:
            text = f"this routed knows no request of type {frame.type}"
            return Result(ResultCode.DENIED, (text,))
        request_type = ControlType(frame.type)
        return self._denial(REQUIRED_ROLE[request_type], caller, _command_name(frame))

    def _denial(self, required: Role, caller: PeerCredentials, what: str) -> Result:
        """Make a refusal with the required role, the users that have it, and the caller's role."""
        text = (
            f"{what} needs the role {required.label}, which {self._access.holders(required)} has; "
            f"you (uid {caller.uid}) have {self._access.role_of(caller).label}. "
            f"management.{required.label} in the configuration gives it"
        )
        return Result(ResultCode.DENIED, (text,))

    def _defect(self, request_type: ControlType, error: Exception) -> Final:
        detail = _defect_text(error)
        self._log(EVENT_DEFECT, {"where": _request_name(request_type), "error": detail})
        text = f"a defect in routed prevented an answer ({detail}); please report it"
        return Final(Result(ResultCode.INTERNAL, (text,)))

    def _report_change(
        self, caller: PeerCredentials, request_type: ControlType, result: Result
    ) -> None:
        if REQUIRED_ROLE[request_type] is Role.ADMIN:
            fields = {"request": _request_name(request_type), "outcome": result.code.value}
            self._log(EVENT_CHANGED, {**_identity(caller), **fields})

    def _refused(self, caller: PeerCredentials, kind: str, reason: str) -> None:
        self._refusals[kind] += 1
        self._log(EVENT_REFUSED, {**_identity(caller), "reason": reason})


def _defect_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _request_name(frame_type: int) -> str:
    """Return `show routes` for SHOW_ROUTES; the number if there is no such type."""
    try:
        return ControlType(frame_type).name.lower().replace("_", " ")
    except ValueError:
        return str(frame_type)


def _command_name(frame: Frame) -> str:
    """Return the request as the user has typed it: `diff` and `reload` are one type."""
    if frame.type == ControlType.CONFIGURE:
        try:
            return ReloadAction(decode(Configure, frame.body).action).value
        except (CodecError, ValueError):
            pass  # not a valid request: only its type is known
    return _request_name(frame.type)


def _identity(caller: PeerCredentials) -> dict[str, str]:
    return {"uid": str(caller.uid), "pid": str(caller.pid)}
