"""The declarations of all log events."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = [
    "EVENTS",
    "EventSpec",
    "Level",
]


class Level(enum.IntEnum):
    """Severity; higher is worse. The names are those of the configuration."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class EventSpec(NamedTuple):
    """The declaration of an event."""

    level: Level
    fields: tuple[str, ...]
    per_minute: int = 0
    """Most lines a minute; 0 is no limit. The limit applies to parent and engine separately."""
    is_engines: bool = False
    """Whether the engine may log it. The parent ends an engine that logs any other event, so an
    engine cannot forge the parent's lines."""


_D, _I, _W, _E = Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR


def _engines(level: Level, fields: tuple[str, ...], per_minute: int = 0) -> EventSpec:
    return EventSpec(level, fields, per_minute, is_engines=True)


_LIMITED = 30
"""Lines a minute for events that an unauthenticated sender can trigger."""


EVENTS: dict[str, EventSpec] = {
    # the daemon
    "starting": EventSpec(_I, ("version", "pid", "config", "router_id")),
    "ready": EventSpec(_I, ("after_ms", "routes", "failed")),
    "stopping": EventSpec(_I, ("reason", "on_exit")),
    "stopped": EventSpec(_I, ("routes_kept",)),
    "daemon-failed": EventSpec(_E, ("reason",)),
    "log-level": EventSpec(_I, ("level",), _LIMITED),
    "diagnostic": _engines(_I, ("what", "value")),
    "message-dropped": _engines(_E, ("message", "problem"), _LIMITED),
    "internal-error": _engines(_E, ("where", "error"), 600),  # a traceback has many lines
    # configuration
    "reload-begun": EventSpec(_I, ("asked_by",), 120),
    "reload-done": EventSpec(_I, ("changes", "took_ms"), 120),
    "reload-unconfirmed": EventSpec(_I, ("within_s", "token"), 120),
    "reload-confirmed": EventSpec(_I, ("asked_by",), 120),
    "config-refused": EventSpec(_W, ("path", "instead")),
    "config-refused-in-force": EventSpec(_W, ("path", "missing")),
    "state-file-problem": EventSpec(_W, ("problem",), 120),
    "state-files-written": EventSpec(_I, ("directory",), 120),
    "rolled-back": EventSpec(_W, ("why",), 120),
    "reload-failed": EventSpec(_E, ("problem",), 600),  # a file may have many problems
    "reload-needs-restart": EventSpec(_W, ("keys",), 120),
    "metrics-not-served": EventSpec(_E, ("problem",), 10),
    # the engine
    "engine-started": EventSpec(_I, ("pid", "user", "restarts")),
    "engine-died": EventSpec(_E, ("pid", "status", "restart_in_ms")),
    "engine-version-differs": EventSpec(_E, ("parent", "engine")),
    "engine-given-up": EventSpec(_E, ("deaths", "within_s")),
    "engine-output": EventSpec(_W, ("line",), _LIMITED),
    "engine-misbehaved": EventSpec(_E, ("problem",)),
    "privileges-dropped": EventSpec(_I, ("kept",)),
    "config-of-another": EventSpec(_W, ("path", "owner"), 120),
    "config-out-of-reach": EventSpec(_W, ("path", "uid")),
    "sandboxed": _engines(_I, ("by",)),
    "sandbox-degraded": _engines(_W, ("missing",)),
    "sandbox-violated": EventSpec(_E, ("pid",)),
    "sandbox-refused": EventSpec(_W, ("pid", "call"), _LIMITED),
    "sandbox-uncounted": EventSpec(_W, ("pid", "call")),
    "sandbox-limited": _engines(_I, ("missing",)),
    "engine-not-started": EventSpec(_E, ("error",), _LIMITED),
    "engine-hangs": EventSpec(_E, ("pid", "pings")),
    "journal-given-up": EventSpec(_W, ("number", "reason")),
    "instance-lock-missing": EventSpec(_W, ("reason",), 120),
    "instance-lock-held": EventSpec(_I, (), 120),
    "listener-not-renewed": EventSpec(_W, ("problem",), _LIMITED),
    "parent-silent": _engines(_E, ("for_s",), 10),
    "parent-back": _engines(_W, ("after_s",), 10),
    "engine-lines-dropped": EventSpec(_W, ("lines",), _LIMITED),
    "engine-runs-as-root": EventSpec(_W, ("reason",)),
    # links and sockets
    "link-up": EventSpec(_I, ("link", "ifindex"), 120),
    "link-down": EventSpec(_I, ("link", "ifindex", "reason"), 120),
    "socket-opened": EventSpec(_D, ("link", "family")),
    "nup-not-on-port": EventSpec(_W, ("link",), 60),
    "socket-failed": EventSpec(_W, ("link", "problem"), 60),
    # the dataplane
    "dataplane-attached": EventSpec(_I, ("link", "hook"), 120),
    "dataplane-detached": EventSpec(_I, ("link",), 120),
    "dataplane-not-attached": EventSpec(_W, ("link", "reason", "detail"), 120),
    # the FIB
    "fib-in-sync": EventSpec(_I, ("desired", "adopted", "swept")),
    "former-table-swept": EventSpec(_I, ("table", "protocol", "routes")),
    "former-table-left": EventSpec(_W, ("table", "protocol", "reason")),
    "fib-drift": EventSpec(_W, ("prefix", "what"), _LIMITED),
    "nexthop-drift": EventSpec(_W, ("id", "by"), _LIMITED),
    "nexthop-suspected": EventSpec(_I, ("groups",), _LIMITED),
    "nexthop-refused": EventSpec(_W, ("via", "ifindex", "reason"), _LIMITED),
    "nexthop-weight-limit": EventSpec(_I, ("limit",)),
    "nexthop-compat-mode": EventSpec(_I, ("mode", "problem")),
    "fib-command": EventSpec(_I, ("command", "uid"), _LIMITED),
    "fib-drift-storm": EventSpec(_W, ("routes",), _LIMITED),
    "fib-resync": EventSpec(_D, ("reason", "drifted")),
    "fib-overrun": EventSpec(_W, ("overruns",), _LIMITED),
    "fib-route-failed": EventSpec(_W, ("prefix", "reason"), _LIMITED),
    "fib-routes-failed": EventSpec(_W, ("more",), _LIMITED),
    "fib-route-recovered": EventSpec(_I, ("prefix",), _LIMITED),
    "fib-route-shadowed": EventSpec(_W, ("prefix", "by", "priority"), _LIMITED),
    "fib-routes-shadowed": EventSpec(_W, ("more",), _LIMITED),
    "fib-route-refused": EventSpec(_E, ("prefix", "problem"), _LIMITED),
    "rule-added": EventSpec(_I, ("rule",), _LIMITED),
    "rule-removed": EventSpec(_I, ("rule",), _LIMITED),
    "rule-failed": EventSpec(_W, ("rule", "reason"), _LIMITED),
    "netlink-error": EventSpec(_W, ("what", "error"), _LIMITED),
    "routes-not-learned": EventSpec(_I, ("routes", "reason"), _LIMITED),
    "next-hops-left-out": _engines(_W, ("prefix", "next_hops", "used"), _LIMITED),
    "nexthop-cut": EventSpec(_I, ("id", "next_hops", "shown"), _LIMITED),
    # neighbors
    "adjacency-up": _engines(_I, ("neighbor", "link", "address"), 600),
    "adjacency-down": _engines(_I, ("neighbor", "link", "address", "reason"), 600),
    "adjacency-change": _engines(_D, ("neighbor", "link", "old", "new", "reason")),
    "nup-trace": _engines(_D, ("code", "link", "source", "detail")),
    "nup-dropped": _engines(_I, ("code", "link", "source", "detail"), _LIMITED),
    # BFD and probes
    "bfd-up": _engines(_I, ("session", "peer"), 600),
    "bfd-down": _engines(_W, ("session", "peer", "diagnostic", "remote_state"), 600),
    "bfd-socket-failed": EventSpec(_W, ("session", "problem"), 60),
    "probe-up": _engines(_I, ("probe", "reason"), 600),
    "probe-down": _engines(_W, ("probe", "reason"), 600),
    "probe-socket-failed": EventSpec(_W, ("probe", "problem"), 60),
    "liveness-started": EventSpec(_I, ("pid", "restarts"), 60),
    "liveness-stopped": EventSpec(_I, ("pid",), 60),
    "liveness-died": EventSpec(_E, ("pid", "status"), 60),
    "liveness-misbehaved": EventSpec(_E, ("problem",), 60),
    "liveness-output": EventSpec(_W, ("line",), 60),
    # the observer
    "observer-started": EventSpec(_I, ("pid", "restarts"), 60),
    "observer-stopped": EventSpec(_I, ("pid",), 60),
    "observer-died": EventSpec(_E, ("pid", "status"), 60),
    "observer-misbehaved": EventSpec(_E, ("problem",), 60),
    "collector-failed": EventSpec(_W, ("collector", "problem"), 60),
    "observer-output": EventSpec(_W, ("line",), 60),
    # management
    "client-refused": _engines(_W, ("uid", "pid", "reason"), _LIMITED),
    "client-changed": _engines(_I, ("uid", "pid", "request", "outcome"), 600),
    "injected-restored": _engines(_I, ("routes",)),
    "lease-ended": _engines(_I, ("owner", "routes", "why"), 600),
}  # fmt: skip
