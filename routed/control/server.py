"""The management socket's trio end: an accept loop and one task for each session.

    accept --> role by SO_PEERCRED --> NONE, or no room: one parting RESULT, closed
                    |
                    v
               session: HELLO, then receive -> policy -> decode -> handler -> pages -> RESULT, again

One bad client harms only itself:

    garbage, oversize, forged or missing credentials   that session is closed, and logged
    descriptors that nobody asked for                   closed before the message is looked at
    stops reading                                       its own task waits in send; nothing is
                                                        buffered here beyond one page
    hangs up                                            the next send fails and ends its dump
    a large table                                       a checkpoint after each page, so heartbeats
                                                        and other sessions take turns with it
    strangers                                           cost one accept and one message: they hold
                                                        no session, so they cannot use them up
    many sessions                                       MAX_SESSIONS, the last few kept for admins;
                                                        when they are all taken, who has most of
                                                        them loses the one that was idle longest

Each message is authorised by two witnesses that must agree: SO_PEERCRED (who connected) gives the
role, and the message's own SCM_CREDENTIALS must name the same uid. A program that was tricked into
writing somebody else's bytes therefore gains nothing (`ipc/credentials.py`).

Invariants:
    An exception in a handler ends its request with `internal`, is logged, and ends nothing else.
    Every refusal and every change is reported to the log callback with uid and pid as the kernel
    knows them. What a stranger can trigger this way is for the callback to rate-limit.

Cancellation: cancelling `run` closes every session at once, and the listener stays open (its owner
is whoever made it).
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NoReturn

import trio

from ipc.codec import decode, encode
from ipc.control import (
    PARTING_REQUEST_ID,
    PROTOCOL_VERSION,
    REQUEST_CLASSES,
    ControlType,
    Hello,
    Result,
    ResultCode,
    Role,
    RouteChange,
    Welcome,
)
from ipc.credentials import (
    CredentialsError,
    PeerCredentials,
    credentials_space,
    message_uid,
    peer_credentials,
)
from ipc.fdpass import AncillaryMessage, descriptor_space, pack_descriptor, take_descriptors
from ipc.framing import (
    CONTROL_FRAME_MAX_BYTES,
    Frame,
    FrameError,
    IpcError,
    pack_frame,
    unpack_frame,
)
from routed.control.caller import Caller
from routed.control.handlers import HANDLERS, Daemon, Dump, Final, Stream
from routed.control.policy import REQUIRED_ROLE, AccessList, is_allowed
from routed.control.tables import PageShelf, Table
from routed.control.views import pack_pages

__all__ = [
    "EVENT_CHANGED",
    "EVENT_DEFECT",
    "EVENT_REFUSED",
    "MAX_SESSIONS",
    "LogCallback",
    "ManagementServer",
]

MAX_SESSIONS = 256
"""Each holds a task, a descriptor, and at most one socket buffer (208 KiB) in the kernel."""

RESERVED_FOR_ADMIN = 16
"""Of those: however many readers there are, whoever may repair the daemon gets in."""

IDLE_MIN_S = 5.0
"""A user who has all sessions loses one to a newcomer of his own when it was idle so long."""

ROWS_PER_PAGE = 128
"""Views turned into rows between two checkpoints: under 2 ms of work."""

FIRST_PREFIXES = 16
MOST_PREFIXES = 256
"""Of a large table, looked at between two checkpoints: 0.1 ms of work at first, 2 ms later."""

ACCEPT_RETRY_S = 0.1
"""Pause when the process is out of descriptors; the listener would report ready for ever."""

EVENT_REFUSED = "client-refused"
"""A connection was turned away or cut off, or a request denied: uid, pid, reason."""
EVENT_CHANGED = "client-changed"
"""A request that changes something was carried out: uid, pid, request, outcome."""
EVENT_DEFECT = "internal-error"
"""Something of ours failed: where, error."""

LogCallback = Callable[[str, dict[str, str]], None]
"""Takes an event's name and its fields."""


_NO_TURN = contextlib.nullcontext()
"""For what is at hand, or soon made."""


class _Goodbye(Exception):
    """The client has hung up."""


class ManagementServer:
    """Serves the management socket of one daemon."""

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
            listener: a listening SOCK_SEQPACKET socket with SO_PASSCRED; stays the caller's.
            daemon: who answers.
            access: who may ask; may be replaced at any time through the attribute.
            log: told of refusals, changes and defects; must not block.
            max_sessions: above RESERVED_FOR_ADMIN.
        """
        self.access = access
        """Judged anew for every request, so replacing it works on open sessions too."""
        self.refusals: Counter[str] = Counter()
        """By what for: turned away (`admission`), cut off (`misuse`), ended for others (`idle`), a
        request denied (`role`)."""
        self._listener = listener
        self._daemon = daemon
        self._log = log
        self._max_sessions = max_sessions
        self._open: dict[int, _Session] = {}
        self._last_session = 0
        self._dump_turn = trio.Lock()
        self._shelf = PageShelf()

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._open)

    async def run(self) -> NoReturn:
        """Serve until cancelled."""
        self._listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(self._listener)
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
        """Start a session for a new connection, or turn it away."""
        connection.setblocking(False)
        try:
            caller = peer_credentials(connection)
        except OSError as error:
            connection.close()
            self._log(EVENT_REFUSED, {"uid": "-", "pid": "-", "reason": str(error)})
            return
        role = self.access.role_of(caller)
        room = self._max_sessions - (0 if role is Role.ADMIN else RESERVED_FOR_ADMIN)
        if role is Role.NONE:
            self._turn_away(connection, caller, self._denial(Role.READ, caller, "this socket"))
        elif self.sessions >= room and not self._make_room(caller):
            text = f"routed has {self.sessions} sessions open, which is all there may be"
            self._turn_away(connection, caller, Result(ResultCode.BUSY, (text,)))
        else:
            self._last_session += 1
            session = _Session(connection, caller, self._last_session, trio.current_time())
            self._open[session.number] = session
            nursery.start_soon(self._serve, session)

    def _make_room(self, newcomer: PeerCredentials) -> bool:
        """End the longest idle session of whoever has most of them; whether there was one.

        Sessions that hold leases are not idle, however quiet: routes hang on them.
        """
        counts = Counter(session.credentials.uid for session in self._open.values())
        most = max(counts.values(), default=0)
        is_greedy = counts[newcomer.uid] >= most - 1
        latest = trio.current_time() - (IDLE_MIN_S if is_greedy else 0.0)
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
        reason = "it was idle, and others need its place"
        longest.end(Result(ResultCode.GONE, (f"routed ended this session: {reason}",)))
        self._refused(longest.credentials, "idle", reason)
        return True

    def _turn_away(
        self, connection: socket.socket, caller: PeerCredentials, parting: Result
    ) -> None:
        """Say why, and close; a fresh socket takes one message without waiting."""
        with connection:
            try:
                connection.send(_pack_result(PARTING_REQUEST_ID, parting))
            except OSError:
                pass  # it has hung up already; the log line below is still due
        self._refused(caller, "admission", parting.lines[0])

    async def _serve(self, session: _Session) -> None:
        caller = session.credentials
        try:
            with session.scope:
                await self._converse(session)
        except _Goodbye:
            pass
        except IpcError as error:  # credentials, framing, codec: the client's doing
            self._refused(caller, "misuse", str(error))
        except Exception as error:  # noqa: BLE001 a defect ends its session, not the daemon
            self._log(EVENT_DEFECT, {"where": "session", "error": _defect_text(error)})
        finally:
            session.close()
            self._open.pop(session.number, None)
            self._daemon.session_ended(session.number)

    async def _converse(self, session: _Session) -> NoReturn:
        await self._greet(session)
        while True:
            session.idle_since = trio.current_time()
            frame = await session.receive()
            session.idle_since = float("inf")
            if frame.type == ControlType.HELLO:
                raise FrameError("a second hello")
            await self._answer(session, frame)

    async def _greet(self, session: _Session) -> None:
        frame = await session.receive()
        if frame.type != ControlType.HELLO:
            raise FrameError(f"no hello, but a message of type {frame.type}")
        hello = decode(Hello, frame.body)
        status = self._daemon.status()
        welcome = Welcome(
            PROTOCOL_VERSION,
            status.version,
            str(status.router_id),
            self.access.role_of(session.credentials),
        )
        # Sent on a mismatch too: the client then knows both versions and can say so.
        await session.send(Frame(ControlType.HELLO, frame.request_id, encode(welcome)))
        if hello.protocol_version != PROTOCOL_VERSION:
            raise FrameError(f"protocol version {hello.protocol_version}, not {PROTOCOL_VERSION}")

    async def _answer(self, session: _Session, frame: Frame) -> None:
        """Answer one request: what it is and who asks decide before its body is looked at."""
        caller = session.credentials
        role = self.access.role_of(caller)
        if not is_allowed(frame.type, role):
            denied = f"{_request_name(frame.type)}: beyond the role {role.label}"
            self._refused(caller, "role", denied)
            await session.send_result(frame.request_id, self._refusal(frame.type, caller))
            return
        request_type = ControlType(frame.type)
        request = decode(REQUEST_CLASSES[request_type], frame.body)
        if isinstance(request, RouteChange) and request.lease.is_session:
            session.holds_lease = True
        try:
            who = Caller(caller.uid, caller.pid, session.number)
            answer = await HANDLERS[request_type](self._daemon, request, who)
            if isinstance(answer, Stream):
                await self._send_stream(session, frame.request_id, answer)
            if isinstance(answer, Dump):
                answer = await self._send_dump(session, frame.request_id, answer)
            if isinstance(answer, Table):
                answer = await self._send_table(session, frame.request_id, answer)
        except (_Goodbye, CredentialsError):
            raise
        except Exception as error:  # noqa: BLE001 a defect ends its request, not the daemon
            answer = self._defect(request_type, error)
        self._report_change(caller, request_type, answer.result)
        await session.send_result(frame.request_id, answer.result, answer.descriptor)

    async def _send_dump(self, session: _Session, request_id: int, dump: Dump) -> Final:
        """Send chunk after chunk; one that has to be made first waits for its turn."""
        chunks = iter(dump.chunks)
        turn = _NO_TURN if isinstance(dump.chunks, list) else self._dump_turn
        while True:
            async with turn:
                chunk = next(chunks, None)
            if chunk is None:
                return Final(dump.result)
            for page in _slices(chunk, ROWS_PER_PAGE):
                for body in pack_pages(dump.view_class, page):
                    await session.send(Frame(ControlType.ROWS, request_id, body))

    async def _send_table(self, session: _Session, request_id: int, table: Table) -> Final:
        """Send a table; after its first page, which is short, it takes turns with all dumps.

        Between two rounds of the event loop one page is made, however many dumps there are: so a
        short answer waits for one page at most, and not for one of each dump.
        """
        after, limit = None, FIRST_PREFIXES
        while True:
            async with _NO_TURN if after is None else self._dump_turn:
                page = self._shelf.page(table, after, limit, trio.current_time())
            for body in page.bodies:
                await session.send(Frame(ControlType.ROWS, request_id, body))
            if page.after is None:
                return Final()
            after, limit = page.after, min(4 * limit, MOST_PREFIXES)

    async def _send_stream(self, session: _Session, request_id: int, stream: Stream) -> NoReturn:
        """Send changes as they come; ends when the client hangs up, or says anything."""
        has_changes = trio.Event()

        def wake() -> None:
            has_changes.set()

        stream.feed.on_change = wake
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect_silence, session)
                while True:
                    await has_changes.wait()
                    has_changes = trio.Event()
                    while views := stream.feed.take():
                        for body in pack_pages(stream.view_class, views):
                            await session.send(Frame(ControlType.ROWS, request_id, body))
                        await trio.lowlevel.checkpoint()
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
        finally:
            stream.feed.close()

    def _refusal(self, frame_type: int, caller: PeerCredentials) -> Result:
        if frame_type not in REQUIRED_ROLE:
            text = f"this routed knows no request of type {frame_type}"
            return Result(ResultCode.DENIED, (text,))
        request_type = ControlType(frame_type)
        return self._denial(REQUIRED_ROLE[request_type], caller, _request_name(frame_type))

    def _denial(self, required: Role, caller: PeerCredentials, what: str) -> Result:
        """A refusal that says which role would do, who has it, and what the caller has."""
        text = (
            f"{what} needs the role {required.label}, which {self.access.holders(required)} has; "
            f"you (uid {caller.uid}) have {self.access.role_of(caller).label}. "
            f"management.{required.label} in the configuration gives it"
        )
        return Result(ResultCode.DENIED, (text,))

    def _defect(self, request_type: ControlType, error: Exception) -> Final:
        detail = _defect_text(error)
        self._log(EVENT_DEFECT, {"where": _request_name(request_type), "error": detail})
        text = f"a defect in routed kept it from answering ({detail}); please report it"
        return Final(Result(ResultCode.INTERNAL, (text,)))

    def _report_change(
        self, caller: PeerCredentials, request_type: ControlType, result: Result
    ) -> None:
        if REQUIRED_ROLE[request_type] is Role.ADMIN:
            fields = {"request": _request_name(request_type), "outcome": result.code.value}
            self._log(EVENT_CHANGED, {**_who(caller), **fields})

    def _refused(self, caller: PeerCredentials, kind: str, reason: str) -> None:
        self.refusals[kind] += 1
        self._log(EVENT_REFUSED, {**_who(caller), "reason": reason})


async def _expect_silence(session: _Session) -> NoReturn:
    await session.receive()
    raise FrameError("a message while a monitor runs")


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The reason why a stream ended: either of its two tasks had one, the other was cancelled."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Session:
    """One client's frames, each vouched for by the kernel. Owns the connection."""

    def __init__(
        self, connection: socket.socket, credentials: PeerCredentials, number: int, now: float
    ) -> None:
        self.credentials = credentials
        self.number = number
        """Of this engine's life; never reused."""
        self.scope = trio.CancelScope()
        self.idle_since = now
        """Since when nothing is asked; infinite while something is answered."""
        self.holds_lease = False
        """Whether routes were leased for it."""
        self._connection = connection
        self._socket = trio.socket.from_stdlib_socket(connection)

    def end(self, parting: Result) -> None:
        """Say why if the client has room for it, and have the conversation end."""
        try:
            self._connection.send(_pack_result(PARTING_REQUEST_ID, parting))
        except OSError:
            pass  # it does not read, or has gone: it will see the end
        self.scope.cancel()

    def close(self) -> None:
        self._socket.close()

    async def receive(self) -> Frame:
        """The next frame.

        Raises:
            _Goodbye: the client has hung up.
            CredentialsError: the message was not written by the user who connected.
            FrameError: no frame, or over the limit.
        """
        try:
            message, ancillary, flags, _ = await self._socket.recvmsg(
                CONTROL_FRAME_MAX_BYTES + 1, credentials_space() + descriptor_space()
            )
        except ConnectionResetError:
            raise _Goodbye from None
        # No request carries a descriptor; one that came anyway is closed before anything else.
        take_descriptors(ancillary, accept=0)
        if not message:
            raise _Goodbye
        uid = message_uid(ancillary, flags)
        if uid != self.credentials.uid:
            raise CredentialsError(f"uid {uid} wrote on a connection of uid {self.credentials.uid}")
        return unpack_frame(message, CONTROL_FRAME_MAX_BYTES)

    async def send(self, frame: Frame, descriptor: int | None = None) -> None:
        """Send one frame, however long the client takes to make room for it.

        Raises:
            _Goodbye: the client has hung up.
        """
        await self._send_packed(pack_frame(frame, CONTROL_FRAME_MAX_BYTES), descriptor)

    async def send_result(
        self, request_id: int, result: Result, descriptor: int | None = None
    ) -> None:
        """End an answer; raises as `send`."""
        await self._send_packed(_pack_result(request_id, result), descriptor)

    async def _send_packed(self, message: bytes, descriptor: int | None) -> None:
        ancillary = pack_descriptor(descriptor)
        try:
            # Mostly there is room; then this is half the cost of the other, which lets everybody
            # else run first. Long answers do that between their pages, and `receive` does.
            self._connection.sendmsg([message], ancillary)
        except BlockingIOError:
            await self._wait_and_send(message, ancillary)
        except (BrokenPipeError, ConnectionResetError):
            raise _Goodbye from None

    async def _wait_and_send(self, message: bytes, ancillary: list[AncillaryMessage]) -> None:
        try:
            await self._socket.sendmsg([message], ancillary)
        except (BrokenPipeError, ConnectionResetError):
            raise _Goodbye from None


_PLAIN_OK = Result(ResultCode.OK)
_PLAIN_OK_BODY = encode(_PLAIN_OK)
"""How nearly every answer ends."""


def _pack_result(request_id: int, result: Result) -> bytes:
    """A RESULT frame; lines beyond the frame limit are left out and counted."""
    if result == _PLAIN_OK:
        return pack_frame(
            Frame(ControlType.RESULT, request_id, _PLAIN_OK_BODY), CONTROL_FRAME_MAX_BYTES
        )
    lines = result.lines
    while True:
        left_out = len(result.lines) - len(lines)
        shown = (*lines, f"... and {left_out} more lines") if left_out else lines
        body = encode(Result(result.code, shown))
        try:
            frame = Frame(ControlType.RESULT, request_id, body)
            return pack_frame(frame, CONTROL_FRAME_MAX_BYTES)
        except FrameError:
            lines = lines[: len(lines) // 2]


def _defect_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _request_name(frame_type: int) -> str:
    """`show routes` for SHOW_ROUTES; the number when there is no such type."""
    try:
        return ControlType(frame_type).name.lower().replace("_", " ")
    except ValueError:
        return str(frame_type)


def _who(caller: PeerCredentials) -> dict[str, str]:
    return {"uid": str(caller.uid), "pid": str(caller.pid)}


def _slices(views: Sequence[object], size: int) -> list[Sequence[object]]:
    return [views[start : start + size] for start in range(0, len(views), size)]
