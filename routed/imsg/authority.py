"""Who may say what between parent and engine, and when: the authority table.

The authority of a message comes from the end it arrived at, never from what it says: the table is
looked up before a body is decoded, and a message from the wrong side, with a descriptor where none
belongs, or in the wrong phase ends the engine (a bug or an attack; the parent cannot tell which).

Numbers are never reused.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ipc.framing import IpcError
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
    NextHopsJudged,
    NextHopsSuspected,
    NextHopsTold,
    Ping,
    Pong,
    RefusalsCounted,
    RefusalsWatched,
    ReloadFinished,
    ReloadRequested,
    RoutesLearned,
    RulesChanged,
    SocketReady,
    Stop,
    Stopped,
)

__all__ = [
    "AUTHORITY",
    "MESSAGE_CLASSES",
    "Authority",
    "AuthorityError",
    "MessageType",
    "Phase",
    "Role",
    "check_authority",
]


class MessageType(enum.IntEnum):
    """NOUN_VERB, a prefix per family."""

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
    FIB_UPDATE = 20
    FIB_IN_SYNC = 21
    FIB_PROGRESS = 22
    FIB_COMMANDED = 23
    FIB_COMMAND_DONE = 24
    RULES_CHANGED = 25
    ROUTES_LEARNED = 26
    NEXTHOPS_SUSPECTED = 27
    NEXTHOPS_JUDGED = 28
    NEXTHOPS_ASKED = 29
    RELOAD_REQUESTED = 30
    RELOAD_FINISHED = 31
    NEXTHOPS_TOLD = 32
    CONFIG_STATE = 35
    LOG_EVENT = 40
    LOG_LINE = 41
    PING = 42
    PONG = 43
    LOG_LEVEL_REQUESTED = 44
    LOG_LEVEL_CHANGED = 45
    DIAGNOSE = 46
    ENGINE_HELLO = 47
    STOP = 50
    STOPPED = 51


class Role(enum.Enum):
    """The two ends of the channel."""

    PARENT = "parent"
    ENGINE = "engine"


class Phase(enum.Enum):
    """How far an engine's life has come, as the parent sees it."""

    CONFIGURING = "configuring"
    RUNNING = "running"
    STOPPING = "stopping"


class Authority(NamedTuple):
    """Who may send a message, whether a descriptor rides along, and when."""

    sender: Role
    message: type
    carries_descriptor: bool
    phases: frozenset[Phase]


_ALWAYS = frozenset(Phase)
_STARTING = frozenset({Phase.CONFIGURING})
_RUNNING = frozenset({Phase.RUNNING, Phase.STOPPING})
_CONFIGURED = frozenset({Phase.CONFIGURING, Phase.RUNNING})

AUTHORITY: dict[MessageType, Authority] = {
    MessageType.CONF_BEGIN: Authority(Role.PARENT, ConfBegin, False, _CONFIGURED),
    MessageType.CONF_ITEM: Authority(Role.PARENT, ConfItem, False, _CONFIGURED),
    MessageType.CONF_SECRETS: Authority(Role.PARENT, ConfSecrets, False, _CONFIGURED),
    MessageType.CONF_DRAIN: Authority(Role.PARENT, ConfDrain, False, _CONFIGURED),
    MessageType.CONF_READY: Authority(Role.ENGINE, ConfReady, False, _ALWAYS),
    MessageType.CONF_DONE: Authority(Role.PARENT, ConfDone, False, _CONFIGURED),
    MessageType.CONF_APPLIED: Authority(Role.ENGINE, ConfApplied, False, _ALWAYS),
    MessageType.ENGINE_HELLO: Authority(Role.ENGINE, EngineHello, False, _STARTING),
    # The one descriptor that an engine may hand over, before it has read a byte of anybody but
    # its parent.
    MessageType.REFUSALS_WATCHED: Authority(Role.ENGINE, RefusalsWatched, True, _STARTING),
    MessageType.REFUSALS_COUNTED: Authority(Role.PARENT, RefusalsCounted, False, _RUNNING),
    MessageType.MESSAGES_DROPPED: Authority(Role.PARENT, MessagesDropped, False, _RUNNING),
    MessageType.LINK_CHANGED: Authority(Role.PARENT, LinkChanged, False, _RUNNING),
    MessageType.LINK_REMOVED: Authority(Role.PARENT, LinkRemoved, False, _RUNNING),
    MessageType.LINKS_COMPLETE: Authority(Role.PARENT, LinksComplete, False, _RUNNING),
    MessageType.SOCKET_READY: Authority(Role.PARENT, SocketReady, True, _RUNNING),
    MessageType.JOURNAL_READY: Authority(Role.PARENT, JournalReady, True, _RUNNING),
    MessageType.FIB_UPDATE: Authority(Role.ENGINE, FibUpdate, False, _RUNNING),
    MessageType.FIB_IN_SYNC: Authority(Role.ENGINE, FibInSync, False, _RUNNING),
    MessageType.NEXTHOPS_SUSPECTED: Authority(Role.ENGINE, NextHopsSuspected, False, _RUNNING),
    MessageType.NEXTHOPS_JUDGED: Authority(Role.ENGINE, NextHopsJudged, False, _RUNNING),
    MessageType.NEXTHOPS_ASKED: Authority(Role.ENGINE, NextHopsAsked, False, _RUNNING),
    MessageType.NEXTHOPS_TOLD: Authority(Role.PARENT, NextHopsTold, False, _CONFIGURED),
    MessageType.FIB_PROGRESS: Authority(Role.PARENT, FibProgress, False, _RUNNING),
    MessageType.ROUTES_LEARNED: Authority(Role.PARENT, RoutesLearned, False, _RUNNING),
    MessageType.RULES_CHANGED: Authority(Role.PARENT, RulesChanged, False, _RUNNING),
    MessageType.FIB_COMMANDED: Authority(Role.ENGINE, FibCommanded, False, _RUNNING),
    MessageType.FIB_COMMAND_DONE: Authority(Role.PARENT, FibCommandDone, False, _CONFIGURED),
    MessageType.RELOAD_REQUESTED: Authority(Role.ENGINE, ReloadRequested, False, _RUNNING),
    MessageType.RELOAD_FINISHED: Authority(Role.PARENT, ReloadFinished, False, _CONFIGURED),
    MessageType.CONFIG_STATE: Authority(Role.PARENT, ConfigState, False, _RUNNING),
    MessageType.LOG_EVENT: Authority(Role.ENGINE, LogEvent, False, _ALWAYS),
    MessageType.LOG_LINE: Authority(Role.PARENT, LogLine, False, _RUNNING),
    MessageType.LOG_LEVEL_REQUESTED: Authority(Role.ENGINE, LogLevelRequested, False, _RUNNING),
    MessageType.LOG_LEVEL_CHANGED: Authority(Role.PARENT, LogLevelChanged, False, _RUNNING),
    MessageType.DIAGNOSE: Authority(Role.PARENT, Diagnose, False, _RUNNING),
    MessageType.PING: Authority(Role.PARENT, Ping, False, _RUNNING),
    MessageType.PONG: Authority(Role.ENGINE, Pong, False, _RUNNING),
    MessageType.STOP: Authority(Role.PARENT, Stop, False, _ALWAYS),
    MessageType.STOPPED: Authority(Role.ENGINE, Stopped, False, frozenset({Phase.STOPPING})),
}

MESSAGE_CLASSES: dict[type, MessageType] = {
    authority.message: message_type for message_type, authority in AUTHORITY.items()
}


class AuthorityError(IpcError):
    """A message that its sender may not send, or not now, or not like this."""


def check_authority(type_number: int, sender: Role, phase: Phase, *, has_descriptor: bool) -> type:
    """Judge a message by the table before its body is looked at.

    Args:
        type_number: the frame's type, as received.
        sender: the end that the frame came from.
        phase: how far the engine's life has come, as the receiver knows.
        has_descriptor: whether a descriptor came along.

    Returns:
        The class to decode the body as.

    Raises:
        AuthorityError: an unknown type, the wrong sender or phase, a descriptor too many or
            missing.
    """
    try:
        message_type = MessageType(type_number)
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
