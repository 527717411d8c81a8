"""Requests from the engine to the parent, and the parent's answers.

    clients --ask--> ParentClient --request, request id--> SendQueue --> parent
                          ^----------- receive_answer <------ receive loop <--+

Each request has its own id, which the answer repeats. An answer for which no request waits
any more is dropped: its client has disconnected, or the request has timed out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

import trio

from routed.control.daemon import CommandOutcome, ParentRequest
from routed.imsg.dataplane import ProgramsAsked, ProgramsReported
from routed.imsg.messages import (
    FibCommandDone,
    FibCommanded,
    LogLevelChanged,
    LogLevelRequested,
    NextHopsAsked,
    NextHopsReported,
    ReloadFinished,
    ReloadRequested,
)

__all__ = ["REQUEST_TIMEOUT_S", "ParentAnswer", "ParentClient"]

REQUEST_TIMEOUT_S = 120.0
"""Time that a client waits for an answer of the parent."""

ParentAnswer = (
    ReloadFinished | FibCommandDone | LogLevelChanged | NextHopsReported | ProgramsReported
)

_Answer = TypeVar("_Answer", bound=ParentAnswer)
_CommandAnswer = ReloadFinished | FibCommandDone | LogLevelChanged

_COMMAND_ANSWERS: dict[type[ParentRequest], type[_CommandAnswer]] = {
    ReloadRequested: ReloadFinished,
    FibCommanded: FibCommandDone,
    LogLevelRequested: LogLevelChanged,
}


class _PendingRequest(Generic[_Answer]):
    """A request that has been sent, and its answer once it is there."""

    def __init__(self, answer_class: type[_Answer]) -> None:
        self.answer_class = answer_class
        self.answer: _Answer | None = None
        self.answered = trio.Event()

    def receive(self, answer: ParentAnswer) -> None:
        """Keep the first answer of the right class; drop any other."""
        if self.answer is None and isinstance(answer, self.answer_class):
            self.answer = answer
            self.answered.set()


class ParentClient:
    """Owns the requests that wait for an answer."""

    def __init__(self, send: Callable[[object, int], None]) -> None:
        """Begin without requests.

        Args:
            send: queues a message with its request id for the parent.
        """
        self._send = send
        self._pending: dict[int, _PendingRequest[ParentAnswer]] = {}
        self._last_request_id = 0

    async def command(self, request: ParentRequest) -> CommandOutcome:
        """Have the parent carry out a client's command.

        Cancellation: the parent may carry out the command all the same.
        """
        answer = await self._ask(request, _COMMAND_ANSWERS[type(request)])
        if answer is None:
            return CommandOutcome(False, (f"no answer within {REQUEST_TIMEOUT_S:g} s",))
        return CommandOutcome(answer.is_ok, answer.lines)

    async def ask_nexthops(self, after_id: int) -> NextHopsReported | None:
        """Ask for the next kernel nexthop objects after an id; None if no answer came in time."""
        return await self._ask(NextHopsAsked(after_id), NextHopsReported)

    async def ask_programs(self) -> ProgramsReported | None:
        """Ask for the programs of the dataplane; None if no answer came in time."""
        return await self._ask(ProgramsAsked(), ProgramsReported)

    async def _ask(self, request: object, answer_class: type[_Answer]) -> _Answer | None:
        """Send a request and wait for its answer; None if none came in time."""
        self._last_request_id += 1
        request_id = self._last_request_id
        pending = _PendingRequest(answer_class)
        self._pending[request_id] = cast("_PendingRequest[ParentAnswer]", pending)
        self._send(request, request_id)
        try:
            with trio.move_on_after(REQUEST_TIMEOUT_S):
                await pending.answered.wait()
            return pending.answer
        finally:
            del self._pending[request_id]

    def receive_answer(self, request_id: int, answer: ParentAnswer) -> None:
        """Hand an answer to the request that waits for it, if one still does."""
        pending = self._pending.get(request_id)
        if pending is not None:
            pending.receive(answer)
