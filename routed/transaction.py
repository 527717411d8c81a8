"""Changing the configuration of a running daemon, as a transaction.

    check, diff, plan          read the file, say what it would do, change nothing
    reload                     load, check, compare, let the engine check, switch: all or nothing
    reload, confirm within N   the same; without a `confirm` in time the old one comes back
    confirm                    it stays
    rollback                   back to what was in force before

Requests wait in a queue and are carried out one by one. Of several plain reloads that wait, the
last one is done and answers for all.

While a configuration waits for its confirmation nothing else may be loaded: the way back would no
longer be clear. The clock runs here, in the process that no client can cut off: the old one comes
back when the client has died, or when the change took away the link that it came by.

Invariants:
    An error before the switch leaves everything as it was.
    A configuration that was taken back, or that nobody has confirmed yet, is not what the next
    start goes by, although the file says it.
    `LastGood.running` is always a configuration that was confirmed (a plain reload is), and what an
    unconfirmed one falls back to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from ipc.internal import ReloadAction, ReloadFinished
from routed.config.diff import ConfigDelta, compare
from routed.config.load import ConfigError, load_text, read_text
from routed.config.plan import LinkPlan, plan
from routed.config.schema import Config
from routed.last_good import LastGood
from routed.log import Logger

__all__ = ["ReloadRequest", "SwitchError", "TransactionHost", "Transactions"]

_QUEUE = 16
"""Requests that may wait; each is answered, so a client that asks more is told to come later."""


class SwitchError(Exception):
    """The daemon could not switch; it runs by the old configuration. The lines say why."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """Who asked for what: a client (request id, words for the log) or a signal (request id 0)."""

    request_id: int
    asked_by: str
    action: ReloadAction = ReloadAction.RELOAD
    confirm_s: float | None = None
    """With RELOAD: come back unless confirmed so soon."""

    @property
    def may_be_superseded(self) -> bool:
        """Whether a later one of the kind answers for it."""
        return self.action is ReloadAction.RELOAD and self.confirm_s is None


class TransactionHost(Protocol):
    """What the parent does for a transaction."""

    @property
    def config(self) -> Config:
        """In force."""
        ...

    async def switch(self, new: Config, delta: ConfigDelta) -> list[str]:
        """Follow a configuration on both sides.

        Returns:
            What changed beside the delta.

        Raises:
            SwitchError: it cannot be; nothing has changed.
        """
        ...

    async def problems_of(self, new: Config) -> list[str]:
        """What else is wrong with a configuration that was read: its key files."""
        ...

    def link_plans(self, new: Config) -> list[LinkPlan]:
        """Every link, with what NUP does there now and would do."""
        ...

    def answer(self, request_id: int, answer: ReloadFinished) -> None:
        """Tell the engine."""
        ...

    def begin_reload(self) -> None:
        """A reload begins: for the service manager and the log file."""
        ...

    def end_reload(self) -> None:
        """It has ended."""
        ...


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    text: str
    until: float


class Transactions:
    """Owns the queue of requests and what waits for a confirmation."""

    def __init__(
        self, host: TransactionHost, log: Logger, config_path: str, last_good: LastGood
    ) -> None:
        self._host = host
        self._log = log
        self._path = config_path
        self._last_good = last_good
        self._unconfirmed: _Unconfirmed | None = None
        self._requests_in, self._requests = trio.open_memory_channel[ReloadRequest](_QUEUE)

    def started(self) -> None:
        """The daemon has started by the file: that is what a rollback may come back to."""
        try:
            text = read_text(self._path)
            is_in_force = load_text(text, self._path) == self._host.config
        except ConfigError:
            is_in_force = False  # edited since; the next reload will say what is wrong
            text = ""
        if is_in_force:
            self._last_good.put_in_force(text)
        elif text and text == self._last_good.refused:
            self._log.emit("config-refused", path=self._path, instead=self._last_good.running_path)

    def ask(self, request: ReloadRequest) -> None:
        """Queue a request; it is answered through the host."""
        try:
            self._requests_in.send_nowait(request)
        except trio.WouldBlock:
            self._host.answer(
                request.request_id, ReloadFinished(False, ("too many reloads are waiting",))
            )

    async def run(self) -> None:
        """Carry out requests, and go back when a confirmation does not come."""
        while True:
            request = await self._next()
            if request is None:
                await self._time_is_up()
                continue
            self._host.answer(request.request_id, await self._carry_out(request))

    async def _next(self) -> ReloadRequest | None:
        """The next request; None when the time for a confirmation is up."""
        until = self._unconfirmed.until if self._unconfirmed else float("inf")
        with trio.move_on_at(until):
            request = await self._requests.receive()
            while request.may_be_superseded:
                try:
                    newer = self._requests.receive_nowait()
                except trio.WouldBlock:
                    break
                superseded = ReloadFinished(False, ("superseded by a newer reload",))
                self._host.answer(request.request_id, superseded)
                request = newer
            return request
        return None

    async def _carry_out(self, request: ReloadRequest) -> ReloadFinished:
        match request.action:
            case ReloadAction.CHECK | ReloadAction.DIFF | ReloadAction.PLAN:
                return await self._review(request.action)
            case ReloadAction.CONFIRM:
                return self._confirm(request)
            case ReloadAction.RELOAD if self._unconfirmed is None:
                return await self._reload(request)
            case ReloadAction.RELOAD:
                return self._failed([self._waits()])
            case ReloadAction.ROLLBACK:
                return await self._rollback(request)

    # --- looking

    async def _review(self, action: ReloadAction) -> ReloadFinished:
        try:
            new, _ = await self._load()
        except ConfigError as error:
            return ReloadFinished(
                False, tuple(str(problem) for problem in error.problems), changes_state=False
            )
        problems = await self._host.problems_of(new)
        if problems:
            return ReloadFinished(False, tuple(problems), changes_state=False)
        delta = compare(self._host.config, new)
        lines = list(delta.changes)
        if action is ReloadAction.PLAN:
            lines = plan(self._host.config, delta.effective, self._host.link_plans(new))
        if action is ReloadAction.CHECK:
            noun = "change" if len(lines) == 1 else "changes"
            lines = [f"{self._path} is right; a reload would make {len(lines)} {noun}"]
        elif not lines:
            lines = ["nothing would change"]
        lines += [f"{key} changes at the next restart only" for key in delta.needs_restart]
        return ReloadFinished(True, tuple(lines), changes_state=False)

    async def _load(self) -> tuple[Config, str]:
        text = await trio.to_thread.run_sync(read_text, self._path)
        return await trio.to_thread.run_sync(load_text, text, self._path), text

    # --- changing

    async def _reload(self, request: ReloadRequest) -> ReloadFinished:
        self._host.begin_reload()
        try:
            return await self._load_and_switch(request)
        finally:
            self._host.end_reload()

    async def _load_and_switch(self, request: ReloadRequest) -> ReloadFinished:
        started = trio.current_time()
        self._log.emit("reload-begun", asked_by=request.asked_by)
        try:
            new, text = await self._load()
            lines = await self._switch(new, started)
        except ConfigError as error:
            return self._failed([str(problem) for problem in error.problems])
        except SwitchError as error:
            return self._failed(error.lines)
        if request.confirm_s is None:
            self._last_good.put_in_force(text)
            return ReloadFinished(True, tuple(lines))
        self._last_good.refuse(text)
        self._unconfirmed = _Unconfirmed(text, trio.current_time() + request.confirm_s)
        self._log.emit("reload-unconfirmed", within_s=f"{request.confirm_s:g}")
        lines.append(
            f"say `confirm` within {request.confirm_s:g} s, or the old configuration comes back"
        )
        return ReloadFinished(True, tuple(lines))

    async def _switch(self, new: Config, started: float) -> list[str]:
        delta = compare(self._host.config, new)
        if delta.needs_restart:
            self._log.emit("reload-needs-restart", keys=", ".join(delta.needs_restart))
        changes = [*delta.changes, *await self._host.switch(new, delta)]
        took_ms = round((trio.current_time() - started) * 1000)
        self._log.emit("reload-done", changes=len(changes), took_ms=took_ms)
        lines = changes or ["nothing changed"]
        return lines + [f"{key} changes at the next restart only" for key in delta.needs_restart]

    def _confirm(self, request: ReloadRequest) -> ReloadFinished:
        if self._unconfirmed is None:
            return ReloadFinished(False, ("nothing waits for a confirmation",), changes_state=False)
        self._last_good.put_in_force(self._unconfirmed.text)
        self._unconfirmed = None
        self._log.emit("reload-confirmed", asked_by=request.asked_by)
        return ReloadFinished(True, ("confirmed",))

    async def _rollback(self, request: ReloadRequest) -> ReloadFinished:
        if self._unconfirmed is not None:
            return await self._go_back(self._last_good.running, request.asked_by)
        return await self._go_back(self._last_good.previous, request.asked_by)

    async def _time_is_up(self) -> None:
        answer = await self._go_back(self._last_good.running, "nobody confirmed in time")
        if answer.is_ok:
            # Whoever looks at the last reload should see that it did not last.
            answer = ReloadFinished(False, ("not confirmed in time: rolled back", *answer.lines))
        self._host.answer(0, answer)

    async def _go_back(self, text: str | None, why: str) -> ReloadFinished:
        was_in_force = self._last_good.running if self._unconfirmed is None else None
        self._unconfirmed = None
        if text is None:
            return self._failed(["there is no earlier configuration to go back to"])
        started = trio.current_time()
        self._host.begin_reload()
        try:
            new = await trio.to_thread.run_sync(load_text, text, self._last_good.previous_path)
            lines = await self._switch(new, started)
        except ConfigError as error:
            return self._failed([str(problem) for problem in error.problems])
        except SwitchError as error:
            return self._failed(error.lines)
        finally:
            self._host.end_reload()
        if was_in_force is not None and was_in_force != text:
            self._last_good.refuse(was_in_force)
        self._last_good.put_in_force(text)
        self._log.emit("rolled-back", why=why)
        note = f"{self._path} still says otherwise: mend it before the next reload"
        return ReloadFinished(True, (*lines, note))

    def _waits(self) -> str:
        assert self._unconfirmed is not None  # the caller has looked
        left_s = max(self._unconfirmed.until - trio.current_time(), 0.0)
        return f"a configuration waits for `confirm` ({left_s:.0f} s left); or say `rollback`"

    def _failed(self, problems: Iterable[str]) -> ReloadFinished:
        lines = tuple(problems)
        for problem in lines:
            self._log.emit("reload-failed", problem=problem)
        return ReloadFinished(False, lines)
