"""Answers to the engine's requests: each goes to the engine that sent the request, or nowhere.

An engine may end before its request is answered, and the request ids of each engine begin at 1
again. Hence a request has a *ticket* inside the parent: its request id and the number of the engine
that sent it. An answer with the ticket of a former engine is dropped, because the client has lost
its connection with that engine.
"""

from __future__ import annotations

from routed.parent.engine_process.supervisor import Supervisor

__all__ = ["EngineAnswers"]

_ID_BITS = 32


class EngineAnswers:
    """The sender of answers and notices to the running engine."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Send to the engine that a supervisor runs."""
        self._supervisor = supervisor

    def ticket(self, request_id: int) -> int:
        """Return the ticket of a request of the present engine; request ids are 1 or more."""
        return self._supervisor.restarts << _ID_BITS | request_id

    def send(self, ticket: int, answer: object) -> None:
        """Send an answer to the engine that sent the request, if it is still running.

        Args:
            ticket: ticket of the request; 0 for a signal, whose answer goes to the running engine.
            answer: the message.
        """
        engine, request_id = divmod(ticket, 1 << _ID_BITS)
        session = self._supervisor.running
        if session is not None and (ticket == 0 or engine == self._supervisor.restarts):
            session.send(answer, request_id=request_id)

    def notify(self, message: object) -> None:
        """Send a message that answers no request to the running engine, if there is one."""
        self.send(0, message)
