"""Answers on their way to clients: pages of rows, sent as fast as the client reads, in turns.

A short successful answer is one message: its last page says that it is the last. A long one is sent
page by page. Pages that have to be made first are made one at a time in the whole daemon, so that a
short answer, a heartbeat or a route waits for at most one page, however many dumps there are.

The client is checked before each piece of work: an answer for a client that has disconnected ends
with the present piece. While its client does not read, a session holds one chunk of rows or one
page.

Failure: as `Session.send`: the client has disconnected, which ends what was being sent to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import NoReturn

import trio

from ipc.control import ControlType, ResultCode
from ipc.framing import Frame, FrameError
from routed.control.answers import Chunks, Dump, Final, RowStream, Views
from routed.control.rows import columns_of, pack_pages, pack_rows
from routed.control.session import Misuse, Session
from routed.control.tables import ResultPages, ResultTable

__all__ = ["AnswerSender"]

ROWS_PER_PAGE = 128
"""Views converted to rows between two checkpoints: less than 2 ms of work."""

FIRST_PREFIXES = 16
MOST_PREFIXES = 256
"""Prefixes of a large table between two checkpoints: 0.1 ms of work at first, 2 ms later."""

_NO_TURN = contextlib.nullcontext()
"""Turn of a first page, which is made quickly."""


class AnswerSender:
    """Owns the turn in which rows are made, and pages that several sessions share."""

    def __init__(self) -> None:
        self._dump_turn = trio.Lock()
        self._result_pages = ResultPages()

    async def send(
        self, session: Session, request_id: int, answer: Views | Dump | ResultTable | RowStream
    ) -> Final | None:
        """Send the rows of an answer.

        Returns:
            The end of the answer, for the caller to send; None if it was sent with the last page.

        Raises:
            ClientGone: the client has disconnected.
            Misuse, CredentialsError: it misbehaved while a stream ran.
        """
        match answer:
            case Views():
                return await self._send_views(session, request_id, answer)
            case Dump():
                return await self._send_dump(session, request_id, answer)
            case ResultTable():
                return await self._send_table(session, request_id, answer)
            case RowStream():
                return await self._send_stream(session, request_id, answer)

    async def _send_views(self, session: Session, request_id: int, answer: Views) -> Final | None:
        held = None
        for body in _bodies(answer.view_class, answer.views):
            if held is not None:
                await session.send(Frame(ControlType.ROWS, request_id, held))
            held = body
        if held is None:
            return Final(answer.result)
        if answer.result.code is ResultCode.OK and not answer.result.lines:
            await session.send(Frame(ControlType.LAST_ROWS, request_id, held))
            return None
        await session.send(Frame(ControlType.ROWS, request_id, held))
        return Final(answer.result)

    async def _send_dump(self, session: Session, request_id: int, dump: Dump) -> Final | None:
        """Send rows that are made in chunks, each in its turn.

        A body is held back until it is known whether it is the last one.
        """
        held = None
        async with contextlib.aclosing(_in_turns(dump.chunks, session, self._dump_turn)) as chunks:
            async for chunk in chunks:
                for body in _bodies(dump.view_class, chunk):
                    if held is not None:
                        await session.send(Frame(ControlType.ROWS, request_id, held))
                    held = body
        if held is None:
            return Final(dump.result_if_empty)
        await session.send(Frame(ControlType.LAST_ROWS, request_id, held))
        return None

    async def _send_table(
        self, session: Session, request_id: int, table: ResultTable
    ) -> Final | None:
        """Send a table; after its first page, which is short, it takes turns with dumps."""
        after, limit = None, FIRST_PREFIXES
        while True:
            async with _NO_TURN if after is None else self._dump_turn:
                session.check_client()
                page = self._result_pages.page(table, after, limit, trio.current_time())
            last = len(page.bodies) - 1 if page.after is None else None
            for number, body in enumerate(page.bodies):
                kind = ControlType.LAST_ROWS if number == last else ControlType.ROWS
                await session.send(Frame(kind, request_id, body))
            if page.after is None:
                return None if page.bodies else Final()
            after, limit = page.after, min(4 * limit, MOST_PREFIXES)

    async def _send_stream(self, session: Session, request_id: int, stream: RowStream) -> NoReturn:
        """Send changes as they occur, until the client disconnects or sends anything."""
        has_changes = trio.Event()

        def wake() -> None:
            has_changes.set()

        stream.feed.set_on_change(wake)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect_silence, session)
                while True:
                    await has_changes.wait()
                    has_changes = trio.Event()
                    while bodies := await self._next_changes(stream):
                        for body in bodies:
                            await session.send(Frame(ControlType.ROWS, request_id, body))
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
        finally:
            stream.feed.close()

    async def _next_changes(self, stream: RowStream) -> list[bytes]:
        """Make pages of changes, in turns with dumps and other streams; none without changes."""
        async with self._dump_turn:
            return list(pack_rows(columns_of(stream.view_class), stream.feed.pop_rows()))


async def _in_turns(
    chunks: Chunks, session: Session, turn: trio.Lock
) -> AsyncGenerator[Sequence[object], None]:
    """Iterate over chunks, each made in a turn of its own, while the client is connected.

    An asynchronous source waits for another process, so it takes no turn: it would delay all dumps.
    """
    if isinstance(chunks, AsyncGenerator):
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk
                session.check_client()
        return
    with contextlib.closing(chunks):
        while True:
            async with turn:
                session.check_client()
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            yield chunk


def _bodies(view_class: type, views: Sequence[object]) -> Iterator[bytes]:
    """Iterate over bodies of ROWS frames, a few views at a time."""
    for start in range(0, len(views), ROWS_PER_PAGE):
        yield from pack_pages(view_class, views[start : start + ROWS_PER_PAGE])


async def _expect_silence(session: Session) -> NoReturn:
    try:
        await session.receive()
    except FrameError as error:
        raise Misuse(str(error)) from error
    raise Misuse("a message while a monitor runs")


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return why a stream ended: one of its two tasks has a reason, the other was cancelled."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
