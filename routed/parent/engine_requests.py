"""The requests of the engine: one table that names the handler of each message class.

    notices    desired routes, next hops to verify    --> RouteAdmission
    requests   nexthop objects, FIB commands          --> KernelSyncs    --answer--.
               reloads                                --> Transactions  --answer--+--> EngineAnswers
               log level                              --> DaemonLog     --answer--+
               programs of the dataplane              --> Dataplane     --answer--'

The engine is not trusted: the session (`routed.parent.engine_process.session`) consults the
authority table before it decodes a message, and bounds the number of unanswered requests before it
calls a handler of this table.
"""

from __future__ import annotations

import os

import trio

from ipc.framing import IpcError
from routed.imsg.dataplane import ProgramsAsked
from routed.imsg.messages import (
    FibCommanded,
    FibInSync,
    FibUpdate,
    LogLevelChanged,
    LogLevelRequested,
    NextHopsAsked,
    NextHopsToVerify,
    NextHopsVerified,
    ReloadRequested,
)
from routed.model.command import FibCommand
from routed.parent.dataplane import Dataplane
from routed.parent.engine_answers import EngineAnswers
from routed.parent.engine_process.session import EngineHandlers
from routed.parent.kernel import KernelSyncs
from routed.parent.log_output import DaemonLog
from routed.parent.reload import Transactions
from routed.parent.reload_queue import ReloadRequest

__all__ = ["EngineRequests"]


class EngineRequests:
    """The handlers of the engines' messages that concern more than one session."""

    def __init__(
        self,
        kernel: KernelSyncs,
        transactions: Transactions,
        log: DaemonLog,
        answers: EngineAnswers,
        nursery: trio.Nursery,
        dataplane: Dataplane,
    ) -> None:
        """Fill the dispatch table.

        Args:
            kernel: programs desired routes and executes FIB commands.
            transactions: carries out reloads.
            log: whose level clients set.
            answers: sends each answer to the engine that sent the request.
            nursery: runs the commands that take a while.
            dataplane: describes its programs.
        """
        self._kernel = kernel
        self._transactions = transactions
        self._log = log
        self._answers = answers
        self._nursery = nursery
        self._dataplane = dataplane
        admission = kernel.admission
        self.handlers = EngineHandlers(
            notices={
                FibUpdate: admission.handle_update,
                FibInSync: admission.handle_in_sync,
                NextHopsToVerify: admission.handle_to_verify,
                NextHopsVerified: admission.handle_verified,
            },
            requests={
                NextHopsAsked: self._handle_nexthops_asked,
                FibCommanded: self._handle_fib_command,
                ReloadRequested: self._handle_reload,
                LogLevelRequested: self._handle_log_level,
                ProgramsAsked: self._handle_programs_asked,
            },
        )
        """The dispatch table, by message class."""

    def _handle_nexthops_asked(self, message: NextHopsAsked, request_id: int) -> None:
        answer = self._kernel.nexthops_after(message.after_id)
        self._answers.send(self._answers.ticket(request_id), answer)

    def _handle_programs_asked(self, _message: ProgramsAsked, request_id: int) -> None:
        answer = self._dataplane.report_programs()
        self._answers.send(self._answers.ticket(request_id), answer)

    def _handle_fib_command(self, message: FibCommanded, request_id: int) -> None:
        self._log.logger.emit("fib-command", command=message.command.value, uid=message.uid)
        ticket = self._answers.ticket(request_id)
        self._nursery.start_soon(self._execute, ticket, message.command)

    async def _execute(self, ticket: int, command: FibCommand) -> None:
        self._answers.send(ticket, await self._kernel.execute(command))

    def _handle_reload(self, message: ReloadRequested, request_id: int) -> None:
        self._transactions.ask(
            ReloadRequest(
                self._answers.ticket(request_id),
                f"uid {message.uid} pid {message.pid}",
                message.action,
                message.confirm_s,
                message.uid,
                _login_of(message.pid),
                message.token,
            )
        )

    def _handle_log_level(self, message: LogLevelRequested, request_id: int) -> None:
        """Set the log level, or open the file of the log again.

        Raises:
            IpcError: the level does not exist. A correct engine never requests such a level.
        """
        if not message.level:
            self._nursery.start_soon(self._reopen_log, self._answers.ticket(request_id))
            return
        try:
            self._log.set_level(message.level)
        except ValueError as error:
            raise IpcError(str(error)) from error
        self._answers.send(self._answers.ticket(request_id), LogLevelChanged(self._log.level))

    async def _reopen_log(self, ticket: int) -> None:
        problem = await self._log.reopen()
        text = problem or "the log file is open again"
        self._answers.send(ticket, LogLevelChanged(self._log.level, not problem, text))


def _login_of(pid: int) -> int | None:
    """Return the session id of a client's process: one terminal, or one login.

    None if the process has ended, or is in another PID namespace.
    """
    try:
        return os.getsid(pid) if pid > 0 else None
    except OSError:
        return None
