"""Parent and engine: every message between them.

The channel is one SOCK_SEQPACKET pair, made by the parent; the engine holds its end at fd 3. Which
end may send which message, and when, is the authority table's (`routed/imsg/authority.py`).

One incarnation of an engine:

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
      |  <-- STOPPED -----------------      |      GOODBYE sent; the engine exits

Size: a message is never too long for a frame. Each field has a bound (`routed.model.bounds`): text
for people is cut, and a message whose lists may be long has a method `halves`, which says how it
is split into several messages (`routed.imsg.frames`). `continues` is set in all of these but the
last; they follow one another directly. FIB_UPDATE alone is kept short by its sender
(`routed.engine.fib.desired`).

Flow: each side keeps unsent information as state (dirty routes, dirty links) and sends from one
task, so neither can make the other buffer without bound, and no reader ever waits for a sender.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, TypeVar

from ipc.lazy_dataclass import dataclass
from routed.model.bounds import Items, Lines, TextBytes
from routed.model.command import FibCommand, ReloadAction
from routed.model.fib import PROGRESS_ROUTES_MAX, FibCounters, FibFailure, PreferredRoute, Reason
from routed.model.kernel_attributes import KernelAttributes
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
    "NEXT_HOPS_TO_VERIFY_MAX",
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
"""Log lines at info and above that are kept for `show log`."""

CHANNEL_FD = 3
"""Descriptor number of the engine's channel to the parent."""

CONF_ITEM_BYTES = 60_000
"""Largest piece of an encoded configuration, in bytes; well below the frame limit."""
JOURNAL_BYTES_MAX = 256 * 1024 * 1024
"""Largest file of injected routes for the next engine; the parent drops a larger one."""

PROBLEM_BYTES_MAX = 1000
"""The longest text about one problem."""
ANSWER_BYTES_MAX = 60_000
"""Total size of the text lines of an answer; they also fit in one RESULT of the control channel."""
ANSWER_LINE_BYTES_MAX = PROBLEM_BYTES_MAX
LOG_FIELD_BYTES_MAX = 2000
"""Largest field of a log line; `routed.log.logger` limits all fields together to twice that."""

Word = Annotated[str, TextBytes(64)]
"""A name that routed defines, such as an event name."""
FilePath = Annotated[str, TextBytes(8192)]
AnswerLines = Annotated[tuple[str, ...], Lines(ANSWER_BYTES_MAX, ANSWER_LINE_BYTES_MAX)]
NextHops = Annotated[tuple[NextHop, ...], Items(NEXT_HOPS_MAX)]

T = TypeVar("T")


def _halved(items: tuple[T, ...]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


class SocketKind(enum.IntEnum):
    """Purpose of a descriptor that is passed to the engine."""

    NEIGHBOR = 1
    """A UDP socket bound to one link and joined to its NUP multicast group."""
    MANAGEMENT = 2
    """The listening management socket."""
    METRICS = 3
    """The listening metrics socket; replaces an earlier one."""


@dataclass(frozen=True, slots=True)
class EngineHello:
    """The engine's first message: the version of its code. The fields never change, so that an
    engine and a parent of different versions can both decode it."""

    version: Annotated[str, TextBytes(100)]
    """The version of routed, for display."""
    declaration: Annotated[bytes, TextBytes(32)]
    """A digest of all messages as declared (`routed.imsg.digest`): the two must be the same."""


@dataclass(frozen=True, slots=True)
class ConfBegin:
    """Start of a configuration; its pieces follow."""

    generation: int
    """Number of this configuration since the daemon started, from 1."""
    total_bytes: int
    started_at_ns: int
    """The daemon's start on CLOCK_MONOTONIC, so that uptime survives an engine restart."""
    engine_restarts: int
    """How many engines before this one have died."""
    violations: Annotated[dict[Word, int], Items(16)]
    """Violations by those engines, by kind (`routed.parent.engine_process.session.Conduct`)."""
    config_path: FilePath
    daemon_pid: int
    """The parent's, for `show status`; the engine may be unable to read it itself."""
    origin_seqno: int
    """Initial origin seqno of the engine; later than any that an earlier incarnation used."""


@dataclass(frozen=True, slots=True)
class ConfItem:
    """One piece of the encoded configuration, in order."""

    piece: Annotated[bytes, TextBytes(CONF_ITEM_BYTES)]


@dataclass(frozen=True, slots=True)
class ConfSecrets:
    """The secrets of the configuration; the engine cannot read the secret files itself. Several
    messages between CONF_BEGIN and CONF_DRAIN accumulate."""

    secrets: Annotated[tuple[SharedSecret, ...], Items(20)]

    def halves(self) -> tuple[ConfSecrets, ...]:
        """Return equivalent shorter messages; none if it cannot be divided."""
        return tuple(map(ConfSecrets, _halved(self.secrets))) if len(self.secrets) > 1 else ()


@dataclass(frozen=True, slots=True)
class ConfDrain:
    """End of the configuration: the engine reports whether it can apply it."""


@dataclass(frozen=True, slots=True)
class ConfReady:
    """The engine has received the configuration; a non-empty problem means it cannot apply it."""

    generation: int
    problem: Annotated[str, TextBytes(PROBLEM_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class ConfDone:
    """Request to switch to the new configuration now."""


@dataclass(frozen=True, slots=True)
class ConfApplied:
    """The engine uses the new configuration."""

    generation: int


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link was added or has changed."""

    link: Interface
    continues: bool = False
    """More addresses of the link follow in the next message."""

    def halves(self) -> tuple[LinkChanged, ...]:
        """Return equivalent shorter messages; none if it cannot be divided."""
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
    """A link was removed."""

    ifindex: int


FORMER_NEXT_HOPS_MAX = NEXT_HOPS_TO_VERIFY_MAX = 1000
"""Most next hops in one message. A router has about as many as it has neighbors, and the RIB alone
verifies any others."""


@dataclass(frozen=True, slots=True)
class LinksComplete:
    """All links of the host have been reported: reachability of routes may be evaluated."""

    former_next_hops: Annotated[tuple[tuple[Address, int], ...], Items(FORMER_NEXT_HOPS_MAX)]
    """Gateways and links used by routes of an earlier incarnation of the engine, or of an earlier
    daemon whose routes have been read by now. At most FORMER_NEXT_HOPS_MAX."""


@dataclass(frozen=True, slots=True)
class SocketReady:
    """A socket for the engine; the message carries its descriptor."""

    kind: SocketKind
    ifindex: int
    """The link of a NEIGHBOR socket; 0 otherwise."""
    family: Family | None
    """The address family of a NEIGHBOR socket."""


@dataclass(frozen=True, slots=True)
class JournalReady:
    """One of the two files through which an engine passes injected routes to its successor; the
    message carries its descriptor. The parent keeps both files open and never reads them."""

    number: int
    """0 or 1."""


@dataclass(frozen=True, slots=True)
class FibValue:
    """Forwarding attributes, sent once for all routes of a message that share them."""

    type: RouteType
    next_hops: NextHops
    attributes: KernelAttributes | None = None


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
    """Changes to the desired routes: routes to install or replace, and prefixes to remove.

    Within one message no prefix of a table is in both.
    """

    serial: int
    """Counts updates from 1; progress is reported against it."""
    values: tuple[FibValue, ...]
    install: tuple[FibColumns, ...]
    remove: tuple[FibColumns, ...]
    completes_start: bool = False
    """Set in the update that completes the changes pending when the first one was sent."""


@dataclass(frozen=True, slots=True)
class FibInSync:
    """All desired routes have been sent: any other route of ours in the kernel is stale."""

    serial: int


@dataclass(frozen=True, slots=True)
class NextHopsAsked:
    """A client's request for the kernel nexthop objects; the answer repeats the request id."""

    after_id: int
    """Only objects with ids above this one."""


@dataclass(frozen=True, slots=True)
class NextHopReport:
    """State of one kernel nexthop object."""

    id: int
    next_hops: NextHops
    """The desired next hops."""
    active: NextHops
    """The next hops in the kernel."""
    problem: Reason
    left_out: int
    """How many more next hops the longer of the two lists has."""


@dataclass(frozen=True, slots=True)
class NextHopsReported:
    """Some of the kernel nexthop objects, in order of id."""

    objects: Annotated[tuple[NextHopReport, ...], Items(100)]
    is_last: bool

    def halves(self) -> tuple[NextHopsReported, ...]:
        """Only the first half: the engine requests the remaining objects afterwards."""
        first, _ = _halved(self.objects)
        return (NextHopsReported(first, is_last=False),) if first else ()


@dataclass(frozen=True, slots=True)
class NextHopsToVerify:
    """Next hops that have probably failed: groups with other members should drop them at once.

    Sent before the RIB has selected new best paths; `NextHopsVerified` follows.
    """

    next_hops: Annotated[tuple[tuple[Address, int], ...], Items(NEXT_HOPS_TO_VERIFY_MAX)]
    """(gateway, ifindex) of each."""


@dataclass(frozen=True, slots=True)
class NextHopsVerified:
    """The RIB has evaluated the current links and next hops, and all resulting desired routes have
    been sent: the next hops to verify are again as the desired routes have them."""


@dataclass(frozen=True, slots=True)
class FibProgress:
    """Progress of the FIB in the kernel. A route is installed when its update's serial is at or
    below `applied_serial` and it is not among the failures."""

    applied_serial: int
    failures: Annotated[tuple[FibFailure, ...], Items(PROGRESS_ROUTES_MAX)]
    """Failures that are new or changed since the last progress message."""
    recovered: Annotated[tuple[tuple[int, Prefix], ...], Items(PROGRESS_ROUTES_MAX)]
    """Routes that no longer fail."""
    counters: FibCounters
    preferred: Annotated[tuple[PreferredRoute, ...], Items(PROGRESS_ROUTES_MAX)] = ()
    """Foreign routes that the kernel prefers to ours; new or changed."""
    unpreferred: Annotated[tuple[tuple[int, Prefix], ...], Items(PROGRESS_ROUTES_MAX)] = ()
    """(table, prefix) of routes that no foreign route is preferred to any longer."""


@dataclass(frozen=True, slots=True)
class RuleReport:
    """State of one configured policy rule in the kernel."""

    rule: PolicyRule
    problem: Reason
    """Why the rule is not in the kernel; empty if it is."""


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """All policy rules, in order."""

    rules: Annotated[tuple[RuleReport, ...], Items(200)]
    continues: bool = False
    """More follow in the next message."""

    def halves(self) -> tuple[RulesChanged, ...]:
        """Return equivalent shorter messages; none if it cannot be divided."""
        if len(self.rules) < 2:
            return ()
        first, second = _halved(self.rules)
        return RulesChanged(first, continues=True), RulesChanged(second, self.continues)


@dataclass(frozen=True, slots=True)
class RoutesImported:
    """Changes to the foreign kernel routes that are imported into the RIB: added and removed. No
    route is in both."""

    install: Annotated[tuple[ImportedRoute, ...], Items(300)]
    remove: Annotated[tuple[tuple[Prefix, OwnerName], ...], Items(300)]
    """(prefix, owner) of each."""

    def halves(self) -> tuple[RoutesImported, ...]:
        """Return equivalent shorter messages; none if it cannot be divided."""
        if len(self.install) + len(self.remove) < 2:
            return ()
        if self.install and self.remove:
            return RoutesImported(self.install, ()), RoutesImported((), self.remove)
        install, remove = _halved(self.install), _halved(self.remove)
        return tuple(map(RoutesImported, install, remove))


@dataclass(frozen=True, slots=True)
class FibCommanded:
    """A FIB command, sent on behalf of an authorised client. The answer repeats the request id."""

    command: FibCommand
    uid: int
    pid: int


@dataclass(frozen=True, slots=True)
class FibCommandDone:
    """The FIB command has finished; the lines describe the result for display."""

    is_ok: bool
    lines: AnswerLines


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """A configuration command of an authorised client. The answer repeats the request id."""

    uid: int
    pid: int
    action: ReloadAction = ReloadAction.RELOAD
    confirm_s: float | None = None
    """With RELOAD: time in which it must be confirmed, or the old configuration is restored."""
    token: Word = ""
    """With CONFIRM: the configuration to confirm; empty for the pending one."""


@dataclass(frozen=True, slots=True)
class ConfigState:
    """State of the configuration in force."""

    phase: Word
    """`confirmed`, `switching`, `unconfirmed` or `returning`."""
    token: Word = ""
    """The identifier that `confirm` accepts; empty unless the configuration is unconfirmed."""
    left_ns: int = 0
    """Time until it is rolled back."""
    asked_by: Word = ""
    is_file_in_force: bool = True
    """False if the file, as it was read last, is not what is in force."""


@dataclass(frozen=True, slots=True)
class ReloadFinished:
    """Result of a reload, whatever requested it; request id 0 if that was a signal."""

    is_ok: bool
    lines: AnswerLines
    """Problems, one line each, or what changed."""
    changes_state: bool = True
    """Whether this was an attempt to change something, for `show status`."""


REFUSED_CALLS_MAX = 600
"""Names of system calls: more than Linux has."""


@dataclass(frozen=True, slots=True)
class RefusalsWatched:
    """Carries the seccomp listener, which reports the system calls refused to the engine."""


@dataclass(frozen=True, slots=True)
class RefusalsCounted:
    """Number of system calls refused to the engines of this daemon so far."""

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
    """A new log level, sent on behalf of an authorised client. The answer repeats the request
    id."""

    level: Word
    """debug, info, warning or error; empty to open the file of the log again."""


@dataclass(frozen=True, slots=True)
class LogLevelChanged:
    """The log level in force: the answer to a request, or a notification (request id 0)."""

    level: Word
    is_ok: bool = True
    text: Word = ""
    """What became of the file that was to be opened again; empty if the level was set."""

    @property
    def lines(self) -> tuple[str, ...]:
        """As in the answers to other requests."""
        if self.text:
            return (self.text,)
        return (f"logging from {self.level} on, until the configuration says otherwise",)


@dataclass(frozen=True, slots=True)
class Diagnose:
    """Write a diagnostic dump to the log."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Request for a `Pong`, which shows that the engine's event loop runs."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `Ping`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Request to send the neighbors GOODBYE or RESTART and exit."""

    is_restart: bool
    """The daemon restarts at once: neighbors should keep forwarding."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The neighbors have been notified; the engine now exits by itself."""
