"""What an engine may ask of the daemon, and where the answers go: the parent's counter.

    engine --desired routes--------> KernelSide   (judged first: `routed.parent.route_admission`)
           --FIB commands--> KernelSide --answer--.
           --reloads-------> Transactions --answer-+--> the engine that asked
           --log level-----> DaemonLog ----answer--'

An answer may take longer than the life of the engine that asked, and request ids begin anew with
each engine. So a request carries a ticket in here, its id and the life that it came from, and an
answer whose life is over is dropped: the client is gone with its engine.
"""

from __future__ import annotations

import os

import trio

from ipc.framing import IpcError
from routed.imsg.messages import (
    FibCommanded,
    FibProgress,
    FibUpdate,
    LogLevelChanged,
    LogLevelRequested,
    NextHopsToVerify,
    ReloadFinished,
    ReloadRequested,
    RoutesImported,
)
from routed.model.command import FibCommand
from routed.model.link import Interface
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.kernel import KernelSide
from routed.parent.log_output import DaemonLog
from routed.parent.reload import Transactions
from routed.parent.reload_queue import ReloadRequest

__all__ = ["EngineRequests"]

_ID_BITS = 32


class EngineRequests:
    """Stands between one engine after another and the rooms of the parent; their `EngineHost`."""

    def __init__(
        self,
        kernel: KernelSide,
        transactions: Transactions,
        log: DaemonLog,
        supervisor: Supervisor,
        nursery: trio.Nursery,
    ) -> None:
        """Open the counter.

        Args:
            kernel: where desired routes and FIB commands go.
            transactions: where reloads go.
            log: whose level clients set.
            supervisor: of the engines.
            nursery: for commands that take a while.
        """
        self._kernel = kernel
        self._transactions = transactions
        self._log = log
        self._supervisor = supervisor
        self._nursery = nursery

    # --- what it should be told, when its turn comes

    def link(self, ifindex: int) -> Interface | None:
        """A link as it is now."""
        return self._kernel.link(ifindex)

    def pop_progress(self) -> FibProgress | None:
        """The FIB's news as a message."""
        return self._kernel.pop_progress()

    def take_learned(self) -> RoutesImported | None:
        """Others' routes as a message."""
        return self._kernel.take_learned()

    # --- desired routes

    def fib_update(self, update: FibUpdate) -> None:
        """The engine's desired routes, judged before they are taken."""
        self._kernel.desired.update(update)

    def fib_in_sync(self) -> None:
        """The engine has said everything."""
        self._kernel.desired.in_sync()

    def nexthops_to_verify(self, message: NextHopsToVerify) -> None:
        """Next hops are likely dead: the groups first, the routes when they are decided."""
        self._kernel.sync.suspect(message.legs)

    def nexthops_verified(self) -> None:
        """The RIB has decided about them."""
        self._kernel.desired.judged()

    # --- questions

    def nexthops_asked(self, request_id: int, after_id: int) -> None:
        """A client wants to see the nexthop objects."""
        self._answer(self._ticket(request_id), self._kernel.nexthops_after(after_id))

    def fib_commanded(self, request_id: int, request: FibCommanded) -> None:
        """A client asks; the answer follows when it is carried out."""
        self._log.logger.emit("fib-command", command=request.command.value, uid=request.uid)
        self._nursery.start_soon(self._carry_out, self._ticket(request_id), request.command)

    async def _carry_out(self, ticket: int, command: FibCommand) -> None:
        self._answer(ticket, await self._kernel.carry_out(command))

    def reload_requested(self, request_id: int, request: ReloadRequested) -> None:
        """A client asks."""
        self._transactions.ask(
            ReloadRequest(
                self._ticket(request_id),
                f"uid {request.uid} pid {request.pid}",
                request.action,
                request.confirm_s,
                request.uid,
                _login_of(request.pid),
                request.token,
            )
        )

    def answer_reload(self, ticket: int, answer: ReloadFinished) -> None:
        """Tell the engine how a reload went.

        Args:
            ticket: the request's; 0 when a signal asked, and whichever engine there is should know.
            answer: for it.
        """
        self._answer(ticket or self._ticket(0), answer)

    def log_level_requested(self, request_id: int, request: LogLevelRequested) -> None:
        """A client asks.

        Raises:
            IpcError: there is no such level, as an honest engine knows.
        """
        try:
            self._log.set_level(request.level)
        except ValueError as error:
            raise IpcError(str(error)) from error
        self._answer(self._ticket(request_id), LogLevelChanged(self._log.level))

    def tell_level(self) -> None:
        """The engine keeps lines to itself that would not be written."""
        self._answer(self._ticket(0), LogLevelChanged(self._log.level))

    def tell_config_state(self) -> None:
        """The engine shows how the configuration stands."""
        self._answer(self._ticket(0), self._transactions.state)

    def _ticket(self, request_id: int) -> int:
        return self._supervisor.restarts << _ID_BITS | request_id

    def _answer(self, ticket: int, answer: object) -> None:
        life, request_id = divmod(ticket, 1 << _ID_BITS)
        session = self._supervisor.running
        if session is not None and life == self._supervisor.restarts:
            session.send(answer, request_id=request_id)


def _login_of(pid: int) -> int | None:
    """The session of a client: one terminal, or one login. None when it has ended, or is in another
    PID namespace."""
    try:
        return os.getsid(pid) if pid > 0 else None
    except OSError:
        return None
