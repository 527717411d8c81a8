"""Parent and engine: every message between them.

The channel is one SOCK_SEQPACKET pair, made by the parent; the engine holds its end at fd 3. Which
end may send which message, and when, is the authority table's (`routed/imsg/authority.py`).

One life of an engine:

    parent                                engine
      |  <-- ENGINE_HELLO --------------    |      before anything else
      |  <-- REFUSALS_WATCHED ----------    |
      |  -- CONF_BEGIN, CONF_ITEM ... -->   |      phase CONFIGURING
      |  -- CONF_SECRETS ------------->     |
      |  -- CONF_DRAIN --------------->     |
      |  <-- CONF_READY --------------      |      checked, nothing changed yet
      |  -- CONF_DONE ---------------->     |      switches in one step
      |  <-- CONF_APPLIED ------------      |      phase RUNNING
      |  -- LINK_CHANGED ..., LINKS_COMPLETE, SOCKET_READY ... -->
      |  <-- FIB_UPDATE ..., FIB_IN_SYNC    |
      |  <-- NEXTHOPS_TO_VERIFY -------     |      then FIB_UPDATE ..., NEXTHOPS_VERIFIED
      |  -- FIB_PROGRESS ------------->     |
      |  -- RULES_CHANGED ------------>     |
      |  -- CONFIG_STATE ------------->     |
      |  <-- FIB_COMMANDED ------------     |      then FIB_COMMAND_DONE
      |  <-- RELOAD_REQUESTED ---------     |      then CONF_* again, RELOAD_FINISHED
      |  -- STOP --------------------->     |
      |  <-- STOPPED -----------------      |      goodbyes sent, nothing more to say

Size: a message is never too long for a frame. Each field has a bound (`routed.model.bounds`): text
for people is cut, and a message whose lists may be long has a method `halves`, which says how it
becomes several messages (`routed.imsg.frames`). `continues` marks all of these but the last; they
come one directly after the other. FIB_UPDATE alone is kept short by its sender
(`routed.engine.fib.desired`).

Flow: each side keeps what it has to say as state (dirty routes, dirty links) and sends from one
task, so neither can make the other buffer without bound, and neither reader ever waits on a sender.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Annotated, TypeVar

from routed.model.bounds import Items, Lines, TextBytes
from routed.model.command import FibCommand, ReloadAction
from routed.model.fib import PROGRESS_ROUTES_MAX, FibCounters, FibFailure, PreferredRoute, Reason
from routed.model.link import Interface
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, ImportedRoute, NextHop, OwnerName, RouteType
from routed.model.rule import PolicyRule
from routed.model.secret import SharedSecret

__all__ = [
    "ANSWER_BYTES_MAX",
    "ANSWER_LINE_BYTES_MAX",
    "CHANNEL_FD",
    "CONF_ITEM_BYTES",
    "FORMER_NEXT_HOPS_MAX",
    "JOURNAL_BYTES_MAX",
    "LOG_FIELD_BYTES_MAX",
    "LOG_LINES_KEPT",
    "LOG_TEXT_BYTES_MAX",
    "NEXT_HOPS_SUSPECTED_MAX",
    "PROBLEM_BYTES_MAX",
    "REFUSED_CALLS_MAX",
    "ConfApplied",
    "ConfBegin",
    "ConfDone",
    "ConfDrain",
    "ConfItem",
    "ConfReady",
    "ConfSecrets",
    "ConfigState",
    "Diagnose",
    "EngineHello",
    "FibColumns",
    "FibCommandDone",
    "FibCommanded",
    "FibCounters",
    "FibFailure",
    "FibInSync",
    "FibProgress",
    "FibUpdate",
    "FibValue",
    "JournalReady",
    "LinkChanged",
    "LinkRemoved",
    "LinksComplete",
    "LogEvent",
    "LogLevelChanged",
    "LogLevelRequested",
    "LogLine",
    "MessagesDropped",
    "NextHopReport",
    "NextHopsAsked",
    "NextHopsReported",
    "NextHopsToVerify",
    "NextHopsVerified",
    "Ping",
    "Pong",
    "RefusalsCounted",
    "RefusalsWatched",
    "ReloadFinished",
    "ReloadRequested",
    "RoutesImported",
    "RuleReport",
    "RulesChanged",
    "SocketKind",
    "SocketReady",
    "Stop",
    "Stopped",
]

LOG_LINES_KEPT = 500
"""For `show log`; at info and above."""


CHANNEL_FD = 3
"""Where the engine finds its channel to the parent."""


CONF_ITEM_BYTES = 60_000
"""A configuration travels as pieces of at most this many bytes, well under the frame limit."""
JOURNAL_BYTES_MAX = 256 * 1024 * 1024
"""No engine leaves a longer file of injected routes to the next one; the parent gives up such."""

PROBLEM_BYTES_MAX = 1000
"""The longest text about one problem."""
ANSWER_BYTES_MAX = 60_000
"""All lines of an answer for people: they fit in one RESULT of the control channel, too."""
ANSWER_LINE_BYTES_MAX = PROBLEM_BYTES_MAX
LOG_FIELD_BYTES_MAX = 2000
"""The longest field of a log line; `routed.log.logger` keeps the whole line shorter than twice
that."""

Word = Annotated[str, TextBytes(64)]
"""A name of ours, such as that of an event."""
FilePath = Annotated[str, TextBytes(8192)]
AnswerLines = Annotated[tuple[str, ...], Lines(ANSWER_BYTES_MAX, ANSWER_LINE_BYTES_MAX)]
NextHops = Annotated[tuple[NextHop, ...], Items(NEXT_HOPS_MAX)]

T = TypeVar("T")


def _halved(items: tuple[T, ...]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


class SocketKind(enum.IntEnum):
    """What a descriptor handed to the engine is for."""

    NEIGHBOR = 1
    """A UDP socket bound to one link, its NUP group joined."""
    MANAGEMENT = 2
    """The listening management socket."""
    METRICS = 3
    """The listening metrics socket; instead of an earlier one."""


@dataclass(frozen=True, slots=True)
class EngineHello:
    """The engine's first message: which code it runs. The fields never change, so that engine and
    parent of different versions understand each other so far."""

    version: Annotated[str, TextBytes(100)]
    """Of routed, for people."""
    declaration: Annotated[bytes, TextBytes(32)]
    """A digest of all messages as declared (`routed.imsg.digest`): the two must be the same."""


@dataclass(frozen=True, slots=True)
class ConfBegin:
    """A configuration follows, in pieces."""

    generation: int
    """Counts configurations of this daemon's life, from 1."""
    total_bytes: int
    started_at_ns: int
    """The daemon's start on CLOCK_MONOTONIC: an engine that comes back keeps the uptime."""
    engine_restarts: int
    """How many engines before this one have died."""
    violations: Annotated[dict[Word, int], Items(16)]
    """Rules that they broke, by kind (`routed.parent.engine_process.session.Conduct`)."""
    config_path: FilePath
    daemon_pid: int
    """The parent's, for `show status`: the engine may be in no position to ask."""
    origin_seqno: int
    """Where the engine's origin seqno starts: later than any that an earlier life used."""


@dataclass(frozen=True, slots=True)
class ConfItem:
    """One piece of the encoded configuration, in order."""

    piece: Annotated[bytes, TextBytes(CONF_ITEM_BYTES)]


@dataclass(frozen=True, slots=True)
class ConfSecrets:
    """The secrets that go with the configuration; its files are not the engine's to read. Several
    messages between CONF_BEGIN and CONF_DRAIN add up."""

    secrets: Annotated[tuple[SharedSecret, ...], Items(20)]

    def halves(self) -> tuple[ConfSecrets, ...]:
        """The same as several messages; none when it is as short as can be."""
        return tuple(map(ConfSecrets, _halved(self.secrets))) if len(self.secrets) > 1 else ()


@dataclass(frozen=True, slots=True)
class ConfDrain:
    """That was all: say whether it can be applied."""


@dataclass(frozen=True, slots=True)
class ConfReady:
    """The engine has it whole; a non-empty problem means no."""

    generation: int
    problem: Annotated[str, TextBytes(PROBLEM_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class ConfDone:
    """Switch to it now."""


@dataclass(frozen=True, slots=True)
class ConfApplied:
    """The engine runs by it."""

    generation: int


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link is there, or is different."""

    link: Interface
    continues: bool = False
    """More addresses of the link follow in the next message."""

    def halves(self) -> tuple[LinkChanged, ...]:
        """The same as several messages; none when it is as short as can be."""
        link = self.link
        if len(link.addresses) < 2:
            return ()
        first, second = _halved(link.addresses)
        return (
            LinkChanged(dataclasses.replace(link, addresses=first), continues=True),
            LinkChanged(dataclasses.replace(link, addresses=second), self.continues),
        )


@dataclass(frozen=True, slots=True)
class LinkRemoved:
    """A link is gone."""

    ifindex: int


FORMER_NEXT_HOPS_MAX = 1000
"""Next hops in one message; a router has as many as it has neighbors."""
NEXT_HOPS_SUSPECTED_MAX = 1000


@dataclass(frozen=True, slots=True)
class LinksComplete:
    """Every link that the host has was told: routes may be judged reachable or not."""

    former_next_hops: Annotated[tuple[tuple[Address, int], ...], Items(FORMER_NEXT_HOPS_MAX)]
    """Gateways and their links that routes of an earlier life go through; of an engine, or of a
    daemon whose routes have been read by now. At most FORMER_NEXT_HOPS_MAX."""


@dataclass(frozen=True, slots=True)
class SocketReady:
    """A descriptor comes along."""

    kind: SocketKind
    ifindex: int
    """The link of a NEIGHBOR socket; 0 otherwise."""
    family: Family | None
    """What a NEIGHBOR socket speaks over."""


@dataclass(frozen=True, slots=True)
class JournalReady:
    """A descriptor comes along: of one of the two files in which an engine leaves what clients
    injected to the next one. The parent holds them and never looks inside."""

    number: int
    """0 or 1."""


@dataclass(frozen=True, slots=True)
class FibValue:
    """What a route does, said once for all routes of a message that do it."""

    type: RouteType
    next_hops: NextHops


@dataclass(frozen=True, slots=True)
class FibColumns:
    """Routes of one table and family, as columns (`routed.imsg.columns`)."""

    table_id: int
    family: Family
    keys: bytes
    values: bytes
    """Indices into the message's values; empty in a removal."""


@dataclass(frozen=True, slots=True)
class FibUpdate:
    """The engine wants these in the kernel, and those no longer.

    Within one message no prefix of a table is in both.
    """

    serial: int
    """Counts updates from 1; progress is reported against it."""
    values: tuple[FibValue, ...]
    install: tuple[FibColumns, ...]
    remove: tuple[FibColumns, ...]
    completes_start: bool = False
    """With this one, all is sent that the engine had decided when it sent its first."""


@dataclass(frozen=True, slots=True)
class FibInSync:
    """Everything wanted has been said: what else is ours in the kernel is stale."""

    serial: int


@dataclass(frozen=True, slots=True)
class NextHopsAsked:
    """A client wants to see the kernel nexthop objects; the request id comes back."""

    after_id: int
    """Those with ids above this one."""


@dataclass(frozen=True, slots=True)
class NextHopReport:
    """How one kernel nexthop object stands."""

    id: int
    next_hops: NextHops
    """As routes want them."""
    active: NextHops
    """As the kernel has them."""
    problem: Reason
    left_out: int
    """How many more next hops the longer of the two lists has."""


@dataclass(frozen=True, slots=True)
class NextHopsReported:
    """Some of them, by id."""

    objects: Annotated[tuple[NextHopReport, ...], Items(100)]
    is_last: bool

    def halves(self) -> tuple[NextHopsReported, ...]:
        """The first half alone: it is one answer, and the engine asks for those after it."""
        first, _ = _halved(self.objects)
        return (NextHopsReported(first, is_last=False),) if first else ()


@dataclass(frozen=True, slots=True)
class NextHopsToVerify:
    """These are likely dead: groups that have others should do without them, at once.

    Said before the RIB has decided anything; `NextHopsVerified` follows.
    """

    legs: Annotated[tuple[tuple[Address, int], ...], Items(NEXT_HOPS_SUSPECTED_MAX)]
    """(gateway, ifindex) of each."""


@dataclass(frozen=True, slots=True)
class NextHopsVerified:
    """The RIB has decided about links and next hops as of now, and every desired route that follows
    from it was said: what was suspected is as the routes want it again."""


@dataclass(frozen=True, slots=True)
class FibProgress:
    """How far the kernel has followed. A route is installed when its update's serial is at or
    below `applied_serial` and it is not among the failures."""

    applied_serial: int
    failures: Annotated[tuple[FibFailure, ...], Items(PROGRESS_ROUTES_MAX)]
    """New or changed since the last progress."""
    recovered: Annotated[tuple[tuple[int, Prefix], ...], Items(PROGRESS_ROUTES_MAX)]
    """No longer failing."""
    counters: FibCounters
    preferred: Annotated[tuple[PreferredRoute, ...], Items(PROGRESS_ROUTES_MAX)] = ()
    """Foreign routes that the kernel prefers to ours; new or changed."""
    unpreferred: Annotated[tuple[tuple[int, Prefix], ...], Items(PROGRESS_ROUTES_MAX)] = ()
    """(table, prefix) where it prefers none any longer."""


@dataclass(frozen=True, slots=True)
class RuleReport:
    """How one policy rule of the configuration stands in the kernel."""

    rule: PolicyRule
    problem: Reason
    """Why the kernel does not have it; empty when it has."""


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """All of them, in order."""

    rules: Annotated[tuple[RuleReport, ...], Items(200)]
    continues: bool = False
    """More follow in the next message."""

    def halves(self) -> tuple[RulesChanged, ...]:
        """The same as several messages; none when it is as short as can be."""
        if len(self.rules) < 2:
            return ()
        first, second = _halved(self.rules)
        return RulesChanged(first, continues=True), RulesChanged(second, self.continues)


@dataclass(frozen=True, slots=True)
class RoutesImported:
    """What others keep in the kernel and we take into the RIB: what is new, and what is gone. No
    route is in both."""

    install: Annotated[tuple[ImportedRoute, ...], Items(300)]
    remove: Annotated[tuple[tuple[Prefix, OwnerName], ...], Items(300)]
    """(prefix, owner) of each."""

    def halves(self) -> tuple[RoutesImported, ...]:
        """The same as several messages; none when it is as short as can be."""
        if len(self.install) + len(self.remove) < 2:
            return ()
        if self.install and self.remove:
            return RoutesImported(self.install, ()), RoutesImported((), self.remove)
        install, remove = _halved(self.install), _halved(self.remove)
        return tuple(map(RoutesImported, install, remove))


@dataclass(frozen=True, slots=True)
class FibCommanded:
    """A client that may, asked for it; the request id comes back in the answer."""

    command: FibCommand
    uid: int
    pid: int


@dataclass(frozen=True, slots=True)
class FibCommandDone:
    """It is carried out; lines for people say what became of it."""

    is_ok: bool
    lines: AnswerLines


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """A client that may, asks about or for a configuration; the request id comes back in the
    answer."""

    uid: int
    pid: int
    action: ReloadAction = ReloadAction.RELOAD
    confirm_s: float | None = None
    """With RELOAD: the old one comes back unless it is confirmed so soon."""
    token: Word = ""
    """With CONFIRM: the configuration that is meant; empty for the one that waits."""


@dataclass(frozen=True, slots=True)
class ConfigState:
    """How the configuration in force stands."""

    phase: Word
    """`confirmed`, `switching`, `unconfirmed` or `returning`."""
    token: Word = ""
    """What a `confirm` may name; empty unless it is unconfirmed."""
    left_ns: int = 0
    """Until it is taken back."""
    asked_by: Word = ""
    """Who loaded it."""


@dataclass(frozen=True, slots=True)
class ReloadFinished:
    """How a reload went, whoever asked for it: request id 0 when a signal did."""

    is_ok: bool
    lines: AnswerLines
    """Problems, one line each, or what changed."""
    changes_state: bool = True
    """Whether this was an attempt to change something, for `show status`."""


REFUSED_CALLS_MAX = 600
"""Names of system calls: more than Linux has."""


@dataclass(frozen=True, slots=True)
class RefusalsWatched:
    """The descriptor that comes along tells of system calls that the engine is refused."""


@dataclass(frozen=True, slots=True)
class RefusalsCounted:
    """What engines of this daemon were refused so far."""

    calls: Annotated[dict[Word, int], Items(REFUSED_CALLS_MAX)]
    """By the system call's name."""


@dataclass(frozen=True, slots=True)
class MessagesDropped:
    """How many messages to its engines the parent could not send so far."""

    count: int


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A log line of the engine, which has no file and no socket to write it to."""

    event: Word
    """A name declared in routed/log/logger.py."""
    fields: Annotated[dict[Word, Annotated[str, TextBytes(LOG_FIELD_BYTES_MAX)]], Items(16)]


LOG_TEXT_BYTES_MAX = 8000
"""The longest line that `show log` shows."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that was logged, for `show log`: the engine cannot read the log itself."""

    at: float
    """Wall time, seconds since 1970."""
    level: Word
    process: Word
    event: Word
    text: Annotated[str, TextBytes(LOG_TEXT_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class LogLevelRequested:
    """A client that may, wants more or fewer lines; the request id comes back in the answer."""

    level: Word
    """debug, info, warning or error."""


@dataclass(frozen=True, slots=True)
class LogLevelChanged:
    """Log from this level on: the answer to a request, or news (request id 0)."""

    level: Word

    @property
    def is_ok(self) -> bool:
        """As in the answers to other requests."""
        return True

    @property
    def lines(self) -> tuple[str, ...]:
        """The same."""
        return (f"logging from {self.level} on, until the configuration says otherwise",)


@dataclass(frozen=True, slots=True)
class Diagnose:
    """Write a diagnostic dump to the log."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Say that your event loop turns."""


@dataclass(frozen=True, slots=True)
class Pong:
    """It does."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Say goodbye to the neighbors and end."""

    is_restart: bool
    """The daemon comes back at once: neighbors should keep forwarding."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The goodbyes are sent; the engine ends by itself now."""
