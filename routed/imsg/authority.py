"""The authority table: which end of the parent-engine channel may send which message, and when.

The authority of a message comes from the end it arrived at, never from its content: the table is
consulted before a body is decoded. A message from the wrong side, with an unexpected descriptor, or
in the wrong phase ends the engine (a bug or an attack; the parent cannot distinguish the two).

Numbers are never reused.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ipc.framing import IpcError
from routed.imsg.dataplane import (
    DataplaneArrayReady,
    DataplaneChanged,
    ProgramsAsked,
    ProgramsReported,
)
from routed.imsg.liveness_channel import LivenessChannelReady
from routed.imsg.messages import (
    ConfApplied,
    ConfBegin,
    ConfDone,
    ConfDrain,
    ConfigState,
    ConfItem,
    ConfReady,
    ConfSecrets,
    Diagnose,
    EngineHello,
    FibCommandDone,
    FibCommanded,
    FibInSync,
    FibProgress,
    FibUpdate,
    JournalReady,
    LinkChanged,
    LinkRemoved,
    LinksComplete,
    LogEvent,
    LogLevelChanged,
    LogLevelRequested,
    LogLine,
    MessagesDropped,
    NextHopsAsked,
    NextHopsReported,
    NextHopsToVerify,
    NextHopsVerified,
    Ping,
    Pong,
    RefusalsCounted,
    RefusalsWatched,
    ReloadFinished,
    ReloadRequested,
    RoutesImported,
    RulesChanged,
    SocketReady,
    Stop,
    Stopped,
)
from routed.imsg.observer_channel import ObserverChannelReady

__all__ = [
    "AUTHORITY",
    "MESSAGE_CLASSES",
    "Authority",
    "AuthorityError",
    "ChannelEnd",
    "EnginePhase",
    "ImsgType",
    "check_authority",
]


class ImsgType(enum.IntEnum):
    """Frame types, named NOUN_VERB with a prefix per family."""

    CONF_BEGIN = 1
    CONF_ITEM = 2
    CONF_DRAIN = 3
    CONF_READY = 4
    CONF_DONE = 5
    CONF_APPLIED = 6
    CONF_SECRETS = 7
    REFUSALS_WATCHED = 8
    REFUSALS_COUNTED = 9
    LINK_CHANGED = 10
    LINK_REMOVED = 11
    LINKS_COMPLETE = 12
    MESSAGES_DROPPED = 13
    SOCKET_READY = 15
    JOURNAL_READY = 16
    LIVENESS_CHANNEL = 17
    OBSERVER_CHANNEL = 18
    FIB_UPDATE = 20
    FIB_IN_SYNC = 21
    FIB_PROGRESS = 22
    FIB_COMMANDED = 23
    FIB_COMMAND_DONE = 24
    RULES_CHANGED = 25
    ROUTES_IMPORTED = 26
    NEXTHOPS_TO_VERIFY = 27
    NEXTHOPS_VERIFIED = 28
    NEXTHOPS_ASKED = 29
    RELOAD_REQUESTED = 30
    RELOAD_FINISHED = 31
    NEXTHOPS_REPORTED = 32
    CONFIG_STATE = 35
    LOG_EVENT = 40
    LOG_LINE = 41
    PING = 42
    PONG = 43
    LOG_LEVEL_REQUESTED = 44
    LOG_LEVEL_CHANGED = 45
    DIAGNOSE = 46
    ENGINE_HELLO = 47
    DATAPLANE_ARRAY = 48
    DATAPLANE_CHANGED = 49
    STOP = 50
    STOPPED = 51
    PROGRAMS_ASKED = 52
    PROGRAMS_REPORTED = 53


class ChannelEnd(enum.Enum):
    """The two ends of the channel."""

    PARENT = "parent"
    ENGINE = "engine"


class EnginePhase(enum.Enum):
    """Phase of an engine's incarnation, as the parent sees it."""

    CONFIGURING = "configuring"
    RUNNING = "running"
    STOPPING = "stopping"


class Authority(NamedTuple):
    """The permitted sender and phases of a message, and whether it carries a descriptor."""

    sender: ChannelEnd
    message: type
    carries_descriptor: bool
    phases: frozenset[EnginePhase]


_ALWAYS = frozenset(EnginePhase)
_STARTING = frozenset({EnginePhase.CONFIGURING})
_RUNNING = frozenset({EnginePhase.RUNNING, EnginePhase.STOPPING})
_CONFIGURED = frozenset({EnginePhase.CONFIGURING, EnginePhase.RUNNING})

AUTHORITY: dict[ImsgType, Authority] = {
    ImsgType.CONF_BEGIN: Authority(ChannelEnd.PARENT, ConfBegin, False, _CONFIGURED),
    ImsgType.CONF_ITEM: Authority(ChannelEnd.PARENT, ConfItem, False, _CONFIGURED),
    ImsgType.CONF_SECRETS: Authority(ChannelEnd.PARENT, ConfSecrets, False, _CONFIGURED),
    ImsgType.CONF_DRAIN: Authority(ChannelEnd.PARENT, ConfDrain, False, _CONFIGURED),
    ImsgType.CONF_READY: Authority(ChannelEnd.ENGINE, ConfReady, False, _ALWAYS),
    ImsgType.CONF_DONE: Authority(ChannelEnd.PARENT, ConfDone, False, _CONFIGURED),
    ImsgType.CONF_APPLIED: Authority(ChannelEnd.ENGINE, ConfApplied, False, _ALWAYS),
    ImsgType.ENGINE_HELLO: Authority(ChannelEnd.ENGINE, EngineHello, False, _STARTING),
    # The only descriptor that an engine may send, before it has read any input but its parent's.
    ImsgType.REFUSALS_WATCHED: Authority(ChannelEnd.ENGINE, RefusalsWatched, True, _STARTING),
    ImsgType.REFUSALS_COUNTED: Authority(ChannelEnd.PARENT, RefusalsCounted, False, _RUNNING),
    ImsgType.MESSAGES_DROPPED: Authority(ChannelEnd.PARENT, MessagesDropped, False, _RUNNING),
    ImsgType.LINK_CHANGED: Authority(ChannelEnd.PARENT, LinkChanged, False, _RUNNING),
    ImsgType.LINK_REMOVED: Authority(ChannelEnd.PARENT, LinkRemoved, False, _RUNNING),
    ImsgType.LINKS_COMPLETE: Authority(ChannelEnd.PARENT, LinksComplete, False, _RUNNING),
    ImsgType.SOCKET_READY: Authority(ChannelEnd.PARENT, SocketReady, True, _RUNNING),
    ImsgType.JOURNAL_READY: Authority(ChannelEnd.PARENT, JournalReady, True, _RUNNING),
    ImsgType.LIVENESS_CHANNEL: Authority(ChannelEnd.PARENT, LivenessChannelReady, True, _RUNNING),
    ImsgType.OBSERVER_CHANNEL: Authority(ChannelEnd.PARENT, ObserverChannelReady, True, _RUNNING),
    ImsgType.FIB_UPDATE: Authority(ChannelEnd.ENGINE, FibUpdate, False, _RUNNING),
    ImsgType.FIB_IN_SYNC: Authority(ChannelEnd.ENGINE, FibInSync, False, _RUNNING),
    ImsgType.NEXTHOPS_TO_VERIFY: Authority(ChannelEnd.ENGINE, NextHopsToVerify, False, _RUNNING),
    ImsgType.NEXTHOPS_VERIFIED: Authority(ChannelEnd.ENGINE, NextHopsVerified, False, _RUNNING),
    ImsgType.NEXTHOPS_ASKED: Authority(ChannelEnd.ENGINE, NextHopsAsked, False, _RUNNING),
    ImsgType.NEXTHOPS_REPORTED: Authority(ChannelEnd.PARENT, NextHopsReported, False, _CONFIGURED),
    ImsgType.FIB_PROGRESS: Authority(ChannelEnd.PARENT, FibProgress, False, _RUNNING),
    ImsgType.ROUTES_IMPORTED: Authority(ChannelEnd.PARENT, RoutesImported, False, _RUNNING),
    ImsgType.RULES_CHANGED: Authority(ChannelEnd.PARENT, RulesChanged, False, _RUNNING),
    ImsgType.FIB_COMMANDED: Authority(ChannelEnd.ENGINE, FibCommanded, False, _RUNNING),
    ImsgType.FIB_COMMAND_DONE: Authority(ChannelEnd.PARENT, FibCommandDone, False, _CONFIGURED),
    ImsgType.RELOAD_REQUESTED: Authority(ChannelEnd.ENGINE, ReloadRequested, False, _RUNNING),
    ImsgType.RELOAD_FINISHED: Authority(ChannelEnd.PARENT, ReloadFinished, False, _CONFIGURED),
    ImsgType.CONFIG_STATE: Authority(ChannelEnd.PARENT, ConfigState, False, _RUNNING),
    ImsgType.DATAPLANE_ARRAY: Authority(ChannelEnd.PARENT, DataplaneArrayReady, True, _RUNNING),
    ImsgType.DATAPLANE_CHANGED: Authority(ChannelEnd.PARENT, DataplaneChanged, False, _RUNNING),
    ImsgType.PROGRAMS_ASKED: Authority(ChannelEnd.ENGINE, ProgramsAsked, False, _RUNNING),
    ImsgType.PROGRAMS_REPORTED: Authority(ChannelEnd.PARENT, ProgramsReported, False, _CONFIGURED),
    ImsgType.LOG_EVENT: Authority(ChannelEnd.ENGINE, LogEvent, False, _ALWAYS),
    ImsgType.LOG_LINE: Authority(ChannelEnd.PARENT, LogLine, False, _RUNNING),
    ImsgType.LOG_LEVEL_REQUESTED: Authority(ChannelEnd.ENGINE, LogLevelRequested, False, _RUNNING),
    ImsgType.LOG_LEVEL_CHANGED: Authority(ChannelEnd.PARENT, LogLevelChanged, False, _RUNNING),
    ImsgType.DIAGNOSE: Authority(ChannelEnd.PARENT, Diagnose, False, _RUNNING),
    ImsgType.PING: Authority(ChannelEnd.PARENT, Ping, False, _RUNNING),
    ImsgType.PONG: Authority(ChannelEnd.ENGINE, Pong, False, _RUNNING),
    ImsgType.STOP: Authority(ChannelEnd.PARENT, Stop, False, _ALWAYS),
    ImsgType.STOPPED: Authority(
        ChannelEnd.ENGINE, Stopped, False, frozenset({EnginePhase.STOPPING})
    ),
}

MESSAGE_CLASSES: dict[type, ImsgType] = {
    authority.message: message_type for message_type, authority in AUTHORITY.items()
}


class AuthorityError(IpcError):
    """A message that the table does not permit: by its sender, phase or descriptor."""


def check_authority(
    type_number: int, sender: ChannelEnd, phase: EnginePhase, *, has_descriptor: bool
) -> type:
    """Check a message against the table before its body is decoded.

    Args:
        type_number: the frame's type, as received.
        sender: the end that the frame came from.
        phase: the engine's phase, as the receiver knows it.
        has_descriptor: whether a descriptor was received with the frame.

    Returns:
        The class to decode the body as.

    Raises:
        AuthorityError: unknown type, wrong sender or phase, unexpected or missing descriptor.
    """
    try:
        message_type = ImsgType(type_number)
    except ValueError:
        raise AuthorityError(f"message type {type_number} does not exist") from None
    authority = AUTHORITY[message_type]
    if authority.sender is not sender:
        raise AuthorityError(f"{message_type.name} is not for the {sender.value} to send")
    if phase not in authority.phases:
        raise AuthorityError(f"{message_type.name} does not belong to the phase {phase.value}")
    if authority.carries_descriptor is not has_descriptor:
        word = "lacks its" if authority.carries_descriptor else "carries a"
        raise AuthorityError(f"{message_type.name} {word} descriptor")
    return authority.message
