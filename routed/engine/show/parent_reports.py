"""Reports of the parent that are only shown: kept for `show` and the metrics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from ipc.lazy_dataclass import dataclass
from routed.imsg.messages import (
    ConfigState,
    LogLine,
    MessagesDropped,
    RefusalsCounted,
    ReloadFinished,
    RuleReport,
    RulesChanged,
)

__all__ = ["LOG_LINES_SHOWN", "LastReload", "ParentReports"]

LOG_LINES_SHOWN = 500
"""Lines of `show log`; the parent keeps as many for the next engine."""


@dataclass(frozen=True, slots=True)
class LastReload:
    """The outcome of the last reload."""

    is_ok: bool
    at: float
    """time.monotonic()."""
    text: str


class ParentReports:
    """Owns the last report of each kind."""

    def __init__(self) -> None:
        self.config_state = ConfigState("confirmed")
        self.confirm_until = 0.0
        """time.monotonic() at which an unconfirmed configuration is rolled back."""
        self.rules: tuple[RuleReport, ...] = ()
        self.refused_calls: Mapping[str, int] = {}
        """System calls that the sandbox has refused, by name."""
        self.messages_dropped = 0
        """Messages to engines that the parent could not send."""
        self.log_lines: deque[LogLine] = deque(maxlen=LOG_LINES_SHOWN)
        self.reloads: Counter[str] = Counter()
        """Number of reloads by outcome, since this engine started."""
        self.last_reload: LastReload | None = None
        self._rule_parts: list[RuleReport] = []

    def handle_rules(self, message: RulesChanged) -> None:
        """Keep the policy rules, once all parts of the report are there."""
        self._rule_parts += message.rules
        if not message.continues:
            self.rules, self._rule_parts = tuple(self._rule_parts), []

    def handle_config_state(self, state: ConfigState, now: float) -> None:
        """Keep the state of the configuration."""
        self.config_state = state
        self.confirm_until = now + state.left_ns / 1e9

    def handle_refusals(self, message: RefusalsCounted) -> None:
        """Keep the counts of refused system calls."""
        self.refused_calls = message.calls

    def handle_dropped(self, message: MessagesDropped) -> None:
        """Keep the count of messages that the parent could not send."""
        self.messages_dropped = message.count

    def handle_log_line(self, line: LogLine) -> None:
        """Keep one line of the log."""
        self.log_lines.append(line)

    def handle_reload(self, answer: ReloadFinished, now: float) -> None:
        """Count a reload, if it was to change the configuration.

        The state of the configuration arrives in a separate message.
        """
        if answer.changes_state:
            self.reloads["done" if answer.is_ok else "failed"] += 1
            text = answer.lines[0] if answer.lines else ""
            self.last_reload = LastReload(answer.is_ok, now, text)
