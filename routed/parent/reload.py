"""Changes of the configuration of a running daemon, as transactions.

    check, diff, plan          read the file and report its effect; change nothing
    reload                     load, check, compare, let the engine check, switch: all or nothing
    reload, confirm within N   the same; the old one is restored without a `confirm` in time
    confirm                    keep the configuration that waits for it
    rollback                   return to the configuration that was in force before

Changes wait in a queue and are carried out one by one (`routed.parent.reload_queue`); the table of
`routed.parent.reload_phases` has the action of each. Reviews (check, diff, plan) change nothing and
have their own task, so that a slow one delays neither a change nor the timer.

While a configuration waits for its confirmation nothing else is loaded: the former configuration
must stay unambiguous. The timer runs in this process, which no client can block, and the return
needs no approval: the parent holds the former configuration with its secrets in memory and switches
back at once, and an engine that does not switch is replaced by one that starts with it.

A confirmation is for one configuration. Each configuration that waits has a token; a `confirm`
without one is accepted from the user who loaded it, unless another configuration was reverted
recently, which may be meant instead.

Invariants:
    An answer of success means that the new configuration is in force, an error that the old one is.
    A configuration is recorded on disk as refused before the switch to it begins, until it is
    confirmed: whenever the parent ends, the next start uses the confirmed configuration.
    `ConfigHistory.running` is always a confirmed configuration; a plain reload confirms implicitly.
    State that could not be written to disk is named in the answer, and the write is retried.
    SIGHUP never loads a text that is refused; an edited file or `routectl reload` does.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from ipc.lazy_dataclass import dataclass
from routed.config.diff import ConfigDelta, compare
from routed.config.load import ConfigError
from routed.config.plan import plan, reload_steps
from routed.config.schema import Config
from routed.imsg.messages import ConfigState, ReloadFinished
from routed.model.command import ReloadAction
from routed.parent.config_history import ConfigHistory, refusal_of
from routed.parent.config_reader import ConfigReader
from routed.parent.config_switch import SECRETS_CHANGED, ConfigSwitch, InForce, SwitchError
from routed.parent.engine_answers import EngineAnswers
from routed.parent.log_output import DaemonLog
from routed.parent.reload_phases import NOT_KEPT, TRANSITIONS, Action, Event, ReloadPhase
from routed.parent.reload_queue import QUEUE_MAX, ReloadQueue, ReloadRequest, event_of
from routed.parent.service_manager import ServiceReporter

__all__ = ["KEEP_RETRY_S", "Transactions"]

SIGNAL_ATTEMPTS = 3
"""Most engines with which a reload by signal is tried; a client can repeat its request."""

AMBIGUOUS_S = 3600.0
"""Seconds for which a `confirm` without a token may mean a configuration that was reverted: the
longest confirmation timeout."""

KEEP_RETRY_S = 30.0
"""Seconds between two attempts to write state files."""

_TOKEN_BYTES = 3

_WAITS_LONG = ReloadFinished(False, ("too many reloads are waiting",), changes_state=False)
_NO_EARLIER = ReloadFinished(False, ("there is no earlier configuration",), changes_state=False)
_SUPERSEDED = ReloadFinished(False, ("superseded by a newer reload",), changes_state=False)


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    text: str
    former: InForce
    until: float
    token: str
    request: ReloadRequest


class Transactions:
    """The owner of the requests, the phase, and the configuration that waits for confirmation."""

    def __init__(
        self,
        switch: ConfigSwitch,
        history: ConfigHistory,
        reader: ConfigReader,
        log: DaemonLog,
        answers: EngineAnswers,
        reporter: ServiceReporter,
    ) -> None:
        """Start with an empty queue.

        Args:
            switch: switches both processes to a configuration.
            history: the last good configurations, for a rollback.
            reader: reads the configuration file.
            log: for reload events; each reload opens its file again.
            answers: sends each answer to the engine that sent the request.
            reporter: notifies the service manager when a reload begins and ends.
        """
        self.phase = ReloadPhase.CONFIRMED
        self._switch = switch
        self._daemon_log = log
        self._log = log.logger
        self._answers = answers
        self._reporter = reporter
        self._reader = reader
        self._path = reader.path
        self._history = history
        self._unconfirmed: _Unconfirmed | None = None
        self._must_return = False
        self._returned_at = float("-inf")
        self._elsewhere: str | None = None
        """A loaded text that moves the pid file: a start with it would not find the state files of
        this process, which record the refused text."""
        self._is_file_in_force = True
        self._has_started = trio.Event()
        self.has_kept_start = trio.Event()
        """Set once the initial configuration is on disk, or could not be written."""
        self._queue = ReloadQueue()
        self._changed = trio.Event()
        self._reviews_in, self._reviews = trio.open_memory_channel[ReloadRequest](QUEUE_MAX)

    def started(self, text: str, *, is_instead: bool = False) -> None:
        """Record the text that the daemon has started with: a rollback may return to it.

        Args:
            text: text of the configuration in force.
            is_instead: whether it is the last good one, because the file's text is refused.
        """
        if is_instead:
            self._log.emit("config-refused", path=self._path, instead=self._history.running_path)
        elif text == self._history.refused:
            missing = self._history.running_path
            self._log.emit("config-refused-in-force", path=self._path, missing=missing)
        self._history.put_in_force(text)
        self._set_file_in_force(is_in_force=not is_instead)
        self._has_started.set()

    def ask(self, request: ReloadRequest) -> None:
        """Queue a request; it is answered through `answers`."""
        if request.action in (ReloadAction.CHECK, ReloadAction.DIFF, ReloadAction.PLAN):
            try:
                self._reviews_in.send_nowait(request)
            except trio.WouldBlock:
                self._answers.send(request.ticket, _WAITS_LONG)
        elif self._queue.is_full_for(request):
            self._answers.send(request.ticket, _WAITS_LONG)
        else:
            for superseded in self._queue.put(request):
                if not superseded.is_signal:  # a signal has no answer
                    self._answers.send(superseded.ticket, _SUPERSEDED)
            self._wake()

    def returns_from_dying_engines(self) -> bool:
        """Whether the daemon, after too many deaths of engines, reverts instead of ending."""
        if TRANSITIONS[self.phase, Event.ENGINES_DYING].action is not Action.GO_BACK:
            return False
        self._must_return = True
        self._wake()
        return True

    @property
    def state(self) -> ConfigState:
        """Describe the state of the configuration for a new engine."""
        waiting, is_file = self._unconfirmed, self._is_file_in_force
        if waiting is None or self.phase is not ReloadPhase.UNCONFIRMED:
            return ConfigState(self.phase.value, is_file_in_force=is_file)
        left_ns = round((waiting.until - trio.current_time()) * 1e9)
        asked_by = waiting.request.asked_by
        return ConfigState(self.phase.value, waiting.token, left_ns, asked_by, is_file)

    def _set_file_in_force(self, *, is_in_force: bool) -> None:
        if is_in_force != self._is_file_in_force:
            self._is_file_in_force = is_in_force
            self._answers.notify(self.state)

    async def run(self) -> None:
        """Carry out requests, and return to the former configuration without a confirmation."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._review_loop)
            await self._has_started.wait()
            await self._write_state()
            self.has_kept_start.set()
            nursery.start_soon(self._write_state_loop)
            while True:
                await self._carry_out_next()

    def _wake(self) -> None:
        self._changed.set()

    async def _carry_out_next(self) -> None:
        """Wait for a request or for the confirmation timeout, whichever comes first."""
        self._changed = trio.Event()
        waiting = self._unconfirmed
        if waiting is not None and self._must_return:
            self._answers.send(0, await self._go_back(Event.ENGINES_DYING, "engines kept dying"))
        elif waiting is not None and trio.current_time() >= waiting.until:
            self._answers.send(0, await self._go_back(Event.TIME_UP, "not confirmed in time"))
        elif (request := self._queue.pop()) is not None:
            self._answers.send(request.ticket, await self._carry_out(request))
        else:
            with trio.move_on_at(float("inf") if waiting is None else waiting.until):
                await self._changed.wait()

    def _step(self, event: Event) -> Action:
        """Make the transition of the table. Returns the action, which the caller carries out."""
        before = self.phase
        self.phase, action = TRANSITIONS[before, event]
        if action is Action.DEFECT:
            self._log.emit(
                "internal-error", where="reload", error=f"{event.value} while {before.value}"
            )
        if self.phase is not before and self.phase is not ReloadPhase.UNCONFIRMED:
            self._answers.notify(self.state)
        return action

    async def _carry_out(self, request: ReloadRequest) -> ReloadFinished:
        problem = self._refusal_of(request)
        action = self._step(event_of(request, is_refused=bool(problem)))
        match request.action, action:
            case ReloadAction.RELOAD, Action.SWITCH:
                return await self._reload(request)
            case ReloadAction.ROLLBACK, Action.SWITCH:
                return await self._roll_back_to_previous(request.asked_by)
            case ReloadAction.ROLLBACK, Action.GO_BACK:
                return await self._return_to_former(request.asked_by)
            case ReloadAction.CONFIRM, Action.KEEP_NEW:
                return await self._confirm(request)
            case _:
                return self._refuse(request, problem)

    def _refusal_of(self, request: ReloadRequest) -> str:
        """Return why this user's request cannot be carried out in this phase; empty if it can."""
        if request.action is ReloadAction.CONFIRM:
            return self._problem_with_confirm(request)
        waiting = self._unconfirmed
        if waiting is None or request.action is not ReloadAction.RELOAD:
            return ""
        left_s = max(waiting.until - trio.current_time(), 0.0)
        return f"a configuration waits for `confirm` or `rollback` ({left_s:.0f} s left)"

    def _problem_with_confirm(self, request: ReloadRequest) -> str:
        waiting = self._unconfirmed
        if waiting is None:
            return "no configuration waits for a confirmation"
        named = f"run `confirm {waiting.token}` for the one of {waiting.request.asked_by}"
        if request.token:
            wrong = f"{request.token[:40]} is not the configuration that waits; {named}"
            return "" if request.token == waiting.token else wrong
        if request.uid != waiting.request.uid:
            return f"another user loaded the one that waits; {named}"
        is_same_login = request.login is not None and request.login == waiting.request.login
        if is_same_login or trio.current_time() >= self._returned_at + AMBIGUOUS_S:
            return ""
        return f"another configuration was reverted before this one; {named}"

    def _refuse(self, request: ReloadRequest, problem: str) -> ReloadFinished:
        if request.is_signal:  # the service manager waits for the end of the reload it requested
            with self._announced():
                pass
        if request.action is ReloadAction.CONFIRM:
            return ReloadFinished(False, (problem,), changes_state=False)
        return self._failed([problem or "internal error; see the log"])

    # --- reviews

    async def _review_loop(self) -> None:
        async for request in self._reviews:
            self._answers.send(request.ticket, await self._review(request.action))

    async def _review(self, action: ReloadAction) -> ReloadFinished:
        try:
            new, _ = await self._reader.load()
        except ConfigError as error:
            return ReloadFinished(
                False, tuple(str(problem) for problem in error.problems), changes_state=False
            )
        try:
            differing = await self._switch.compare_secrets(new)
        except SwitchError as error:
            return ReloadFinished(False, error.lines, changes_state=False)
        in_force = self._switch.in_force.config
        delta = await self._compare(in_force, new)
        lines = [*delta.changes, *differing]
        if action is ReloadAction.PLAN:
            links = self._switch.nup_sockets.link_plans(new.interfaces)
            steps = await self._reader.compute(lambda: plan(in_force, delta.effective, links))
            steps += reload_steps(differing, delta.needs_restart)
            lines = [step.packed() for step in steps]
            return ReloadFinished(True, tuple(lines), changes_state=False)
        if action is ReloadAction.CHECK:
            noun = "change" if len(lines) == 1 else "changes"
            lines = [f"{self._path} is valid; a reload would make {len(lines)} {noun}"]
        elif not lines:
            lines = ["nothing would change"]
        lines += [f"{key} changes at the next restart only" for key in delta.needs_restart]
        return ReloadFinished(True, tuple(lines), changes_state=False)

    async def _compare(self, old: Config, new: Config) -> ConfigDelta:
        return await self._reader.compute(lambda: compare(old, new))

    # --- changes

    async def _reload(self, request: ReloadRequest) -> ReloadFinished:
        attempts = SIGNAL_ATTEMPTS if request.is_signal else 1
        with self._announced():
            self._log.emit("reload-begun", asked_by=request.asked_by)
            while True:
                attempts -= 1
                if request.is_signal:
                    await self._switch.wait_for_engine()
                try:
                    return await self._load_and_switch(request)
                except ConfigError as error:
                    return self._give_up([str(problem) for problem in error.problems])
                except SwitchError as error:
                    if not (error.is_engine_gone and attempts):
                        return self._give_up(error.lines)

    async def _load_and_switch(self, request: ReloadRequest) -> ReloadFinished:
        """Load the file and switch to it. After an error nothing has changed.

        Raises:
            ConfigError: the file is invalid.
            SwitchError: the switch failed.
        """
        started = trio.current_time()
        new, text = await self._reader.load()
        if request.is_signal and text == self._history.refused:
            raise SwitchError([refusal_of(self._path)])
        former = self._switch.in_force
        delta = await self._compare(former.config, new)
        if new.pid_file != former.config.pid_file:
            self._elsewhere = text
        if request.confirm_s is not None and "pid_file" in delta.needs_restart:
            raise SwitchError(["pid_file: a rollback depends on it; change it without `confirm`"])
        refused = None if text == self._history.running else text
        async with self._refused_meanwhile(refused, is_required=request.confirm_s is not None):
            lines = await self._switch_to(new, delta, started)
        self._set_file_in_force(is_in_force=True)
        if request.confirm_s is None:
            await self._keep(Event.SWITCHED, text)
            return ReloadFinished(True, (*lines, *self._not_kept()))
        return self._await_confirmation(request, request.confirm_s, text, former, lines)

    @asynccontextmanager
    async def _refused_meanwhile(
        self, text: str | None, *, is_required: bool
    ) -> AsyncIterator[None]:
        """Record a text as refused on disk, before the switch to it or away from it.

        Args:
            text: text that no start may use; None changes nothing.
            is_required: whether the record is needed to revert after the end of this process.

        Raises:
            SwitchError: the record is required and cannot be written.
        """
        before = self._history.refused
        if text is not None and not await self._refuse_text(text) and is_required:
            await self._refuse_text(before)
            raise SwitchError([f"{self._history.directory} cannot be written: no rollback"])
        try:
            yield
        except SwitchError as error:
            if not error.was_applied:
                await self._refuse_text(before)
            else:
                error.lines += tuple(self._not_kept())
            raise

    async def _refuse_text(self, text: str | None) -> bool:
        """Record that no start may use a text. Returns whether the record is on disk."""
        self._history.refuse(text)
        return await self._write_state()

    async def _write_state(self) -> bool:
        """Write the state files that the next start reads. Returns whether they were written."""
        try:
            await self._reader.write(self._history.keep)
        except trio.TooSlowError:
            problem = f"{self._history.directory}: the file system does not answer"
            self._log.emit("state-file-problem", problem=problem)
        self._history.report_problems()
        return self._history.is_kept

    async def _write_state_loop(self) -> None:
        """Retry the write of state files that could not be written."""
        while True:
            await trio.sleep(KEEP_RETRY_S)
            if not self._history.is_kept and await self._write_state():
                self._log.emit("state-files-written", directory=self._history.directory)

    def _await_confirmation(
        self,
        request: ReloadRequest,
        confirm_s: float,
        text: str,
        former: InForce,
        lines: list[str],
    ) -> ReloadFinished:
        token = secrets.token_hex(_TOKEN_BYTES)
        until = trio.current_time() + confirm_s
        self._unconfirmed = _Unconfirmed(text, former, until, token, request)
        self._step(Event.SWITCHED_UNCONFIRMED)
        self._answers.notify(self.state)
        self._log.emit("reload-unconfirmed", within_s=f"{confirm_s:g}", token=token)
        advice = f"run `confirm` within {confirm_s:g} s, or the old configuration is restored"
        if SECRETS_CHANGED in lines:
            lines.append("a new daemon would read the key files as they are, confirmed or not")
        return ReloadFinished(True, (*lines, f"{advice}; this one is {token}"))

    async def _switch_to(self, new: Config, delta: ConfigDelta, started: float) -> list[str]:
        if delta.needs_restart:
            self._log.emit("reload-needs-restart", keys=", ".join(delta.needs_restart))
        changes = [*delta.changes, *await self._switch.switch(new, delta)]
        self._log_done(changes, started)
        lines = changes or ["nothing changed"]
        return lines + [f"{key} changes at the next restart only" for key in delta.needs_restart]

    def _log_done(self, changes: list[str], started: float) -> None:
        took_ms = round((trio.current_time() - started) * 1000)
        self._log.emit("reload-done", changes=len(changes), took_ms=took_ms)

    async def _keep(self, event: Event, text: str) -> None:
        """Record that the configuration in force is confirmed."""
        self._step(event)
        self._history.put_in_force(text)
        await self._write_state()

    async def _confirm(self, request: ReloadRequest) -> ReloadFinished:
        assert self._unconfirmed is not None  # by the table of transitions
        text, self._unconfirmed = self._unconfirmed.text, None
        self._history.put_in_force(text)
        await self._write_state()
        self._log.emit("reload-confirmed", asked_by=request.asked_by)
        return ReloadFinished(True, ("confirmed", *self._not_kept()))

    # --- returns to an earlier configuration

    async def _roll_back_to_previous(self, asked_by: str) -> ReloadFinished:
        """Switch to the configuration before the confirmed one, by its text, like a reload."""
        text = self._history.previous
        if text is None:
            self._step(Event.FAILED)
            return _NO_EARLIER
        started = trio.current_time()
        with self._announced():
            try:
                new = await self._reader.decode(text, self._history.previous_path)
                delta = await self._compare(self._switch.in_force.config, new)
                async with self._refused_meanwhile(self._history.running, is_required=False):
                    lines = await self._switch_to(new, delta, started)
            except ConfigError as error:
                return self._give_up(map(str, error.problems), is_about_file=False)
            except SwitchError as error:
                return self._give_up(error.lines, is_about_file=False)
        await self._keep(Event.SWITCHED, text)
        self._log.emit("rolled-back", why=asked_by)
        return ReloadFinished(True, (*lines, *self._not_kept(), *await self._still_says(text)))

    async def _go_back(self, event: Event, why: str) -> ReloadFinished:
        """Return to the former configuration without a request."""
        self._step(event)
        answer = await self._return_to_former(why)
        # The report of the last reload must show that it was reverted.
        return ReloadFinished(False, (NOT_KEPT[event], *answer.lines))

    async def _return_to_former(self, why: str) -> ReloadFinished:
        """Restore the former configuration; it is in memory and needs no check.

        If cancelled, when the daemon ends: the next start uses the former configuration.
        """
        waiting = self._unconfirmed
        assert waiting is not None  # by the table of transitions
        started = trio.current_time()
        left = self._switch.in_force.config
        with self._announced():
            problems = await self._switch.switch_back(waiting.former)
        self._unconfirmed = None
        self._must_return = False
        self._returned_at = trio.current_time()
        self._step(Event.ENGINE_FOLLOWS)
        delta = await self._compare(left, waiting.former.config)
        if waiting.text == self._history.running:  # only secrets had changed
            self._history.put_in_force(waiting.text)
            await self._write_state()
        self._log_done(list(delta.changes), started)
        self._log.emit("rolled-back", why=why)
        lines = list(delta.changes) or ["nothing changed"]
        still = await self._still_says(self._history.running)
        return ReloadFinished(True, (*lines, *problems, *self._not_kept(), *still))

    # --- answers

    def _not_kept(self) -> list[str]:
        """List warnings about changes that are not on disk and are lost with this process."""
        kept = self._history
        if kept.refused is not None and kept.refused == self._elsewhere:
            where = f"only {kept.directory} records that it was reverted"
            return [f"{self._path} names another pid_file: the next start uses it, because {where}"]
        if kept.is_kept:
            return []
        assert kept.running is not None  # the daemon runs
        # After a rollback a start uses `running`, and the file differs from it.
        is_former = kept.next_start(kept.running) != kept.running
        goes_by = f"the former configuration, {kept.running_path}" if is_former else self._path
        return [f"{kept.directory} cannot be written: the next start uses {goes_by}"]

    async def _still_says(self, in_force: str | None) -> list[str]:
        """List warnings about a configuration file that differs from the one in force."""
        try:
            is_in_force = await self._reader.text() == in_force
            self._set_file_in_force(is_in_force=is_in_force)
            if is_in_force:
                return await self._keys_still_hold()
        except ConfigError as error:
            self._set_file_in_force(is_in_force=False)
            return [f"{error.problems[0]}: correct it before the next reload"]
        return [f"{self._path} is not in force: correct it before the next reload"]

    async def _keys_still_hold(self) -> list[str]:
        """List warnings about key files that differ from the secrets in force."""
        try:
            if not await self._switch.compare_secrets(self._switch.in_force.config):
                return []
        except SwitchError as error:
            return list(error.lines)
        return ["key files have changed: correct them before the next reload"]

    @contextmanager
    def _announced(self) -> Iterator[None]:
        """Notify the service manager of a reload, and reopen the log file (it may be renamed)."""
        with self._reporter.reload_announced():
            self._daemon_log.begin_reopening()
            yield

    def _give_up(self, problems: Iterable[str], *, is_about_file: bool = True) -> ReloadFinished:
        """Report a switch that failed: the old configuration is in force."""
        self._step(Event.FAILED)
        if is_about_file:
            self._set_file_in_force(is_in_force=False)
        return self._failed(problems)

    def _failed(self, problems: Iterable[str]) -> ReloadFinished:
        lines = tuple(problems)
        for problem in lines:
            self._log.emit("reload-failed", problem=problem)
        return ReloadFinished(False, lines)
