"""routed and its clients: every request, every answer, and the version of both.

One connection is one session over SOCK_SEQPACKET, frames of `ipc.framing` up to
CONTROL_FRAME_MAX_BYTES:

    client                                routed
      |  -- HELLO Hello(version) ------->   |
      |  <-- HELLO Welcome --------------   |   or RESULT(denied | usage), and the end
      |  -- SHOW_ROUTES, id 2 ---------->   |
      |  <-- ROWS, id 2 -----------------   |   zero or more pages
      |  <-- ROWS, id 2 -----------------   |
      |  <-- RESULT, id 2 ---------------   |   exactly one, or LAST_ROWS in the place of the last
      |                                     |   page and a RESULT(ok) that has nothing to say
      |  -- SNAPSHOT_OPEN, id 3 -------->   |
      |  <-- RESULT + descriptor, id 3 --   |

A session answers one request at a time, in order; later requests wait in the socket. A RESULT with
request id 0 answers no request: it gives the reason why the daemon closes the connection (too many
sessions, no role at all).

The client's identity comes from the kernel alone (`ipc.credentials`); no message carries one. The
role that each request needs is in the allow-list of `routed/control/policy.py`.

Rows are generic: a page names its columns and then gives plain values. So a new column reaches
`--json` through an old client, and the columns only grow (DESIGN section 7).

Size: a page is at most PAGE_BYTES, a row at most ROW_BYTES_MAX; truncation is reported (LEFT_OUT,
the last line of a RESULT). So every answer of the daemon fits its frames.

Invariants:
    Numbers are never reused. `ClientHello` and `Result` never change their fields, so that two
    programs of different versions can still decode them.

Failure: `CodecError` for a body that does not match its declared class (the sender's fault).
"""

from __future__ import annotations

import enum

from ipc.bfd_requests import ShowBfdSessions
from ipc.framing import CONTROL_FRAME_MAX_BYTES
from ipc.lazy_dataclass import dataclass
from ipc.nup_requests import ShowNupRoutes
from ipc.plain_requests import ShowMemory, ShowMetrics, ShowNextHops, ShowRules
from ipc.probe_requests import ShowProbes
from ipc.route_changes import (
    Lease,
    PackedRoutes,
    RouteAttributes,
    RouteChange,
    RouteNextHop,
    RouteOperation,
    RouteRenew,
)
from ipc.show_requests import (
    AddressFamily,
    Explain,
    Monitor,
    ShowConfig,
    ShowCounters,
    ShowFib,
    ShowInterfaces,
    ShowLog,
    ShowNeighbors,
    ShowProtocol,
    ShowRoute,
    ShowRoutes,
    ShowStatus,
    Topology,
)
from ipc.traffic import ClearTraffic, ShowDataplane, ShowRouteTraffic, ShowTraffic

__all__ = [
    "CONFIG_SECTIONS",
    "DEFAULT_SOCKET",
    "LEFT_OUT",
    "PAGE_BYTES",
    "PARTING_REQUEST_ID",
    "PROTOCOL_VERSION",
    "REQUEST_CLASSES",
    "REQUEST_TYPES",
    "RESULT_LINE_BYTES_MAX",
    "ROUTE_NEXT_HOPS_MAX",
    "ROW_BYTES_MAX",
    "AddressFamily",
    "ClearNeighbor",
    "ClientHello",
    "Configure",
    "ControlType",
    "Explain",
    "Fib",
    "LastRows",
    "Lease",
    "Monitor",
    "PackedRoutes",
    "RecordNup",
    "Reload",
    "Request",
    "Result",
    "ResultCode",
    "Role",
    "RouteAttributes",
    "RouteChange",
    "RouteNextHop",
    "RouteOperation",
    "RouteRenew",
    "Rows",
    "SetLogLevel",
    "ShowBfdSessions",
    "ShowConfig",
    "ShowCounters",
    "ShowFib",
    "ShowInterfaces",
    "ShowLog",
    "ShowMemory",
    "ShowMetrics",
    "ShowNeighbors",
    "ShowNextHops",
    "ShowNupRoutes",
    "ShowProbes",
    "ShowProtocol",
    "ShowRoute",
    "ShowRoutes",
    "ShowRules",
    "ShowStatus",
    "SnapshotOpen",
    "Topology",
    "Welcome",
]

PROTOCOL_VERSION = 1
"""Incremented when a request or an answer changes its fields; both ends refuse other versions."""

DEFAULT_SOCKET = "/run/routed/routed.sock"

PAGE_BYTES = CONTROL_FRAME_MAX_BYTES // 2
"""A page of rows is at most this long, unless one row alone is longer."""

ROW_BYTES_MAX = CONTROL_FRAME_MAX_BYTES - 1024
"""Largest row in bytes; in a longer one, the ends of the longest values are cut off."""

LEFT_OUT = "left_out"
"""The additional column of a page with a truncated row: what is left out, by column."""

RESULT_LINE_BYTES_MAX = 2000
CONFIG_SECTIONS = (
    "router_id", "user", "sandbox", "pid_file", "log", "fib", "interfaces", "tables", "static",
    "bfd", "probes", "redistribute", "management", "keys", "filters", "summaries", "learn",
    "rules", "allow_martians", "metrics", "dataplane",
)  # fmt: skip
"""The top-level keys of routes.yaml; a test compares them with the schema."""

ROUTE_NEXT_HOPS_MAX = 256
"""Most next hops of one injected route."""

PARTING_REQUEST_ID = 0


class ControlType(enum.IntEnum):
    """Frame types; a client cannot even name a message of `routed.imsg.messages`."""

    HELLO = 1
    ROWS = 2
    RESULT = 3
    LAST_ROWS = 4
    SHOW_STATUS = 10
    SHOW_NEIGHBORS = 11
    SHOW_INTERFACES = 12
    SHOW_ROUTES = 13
    SHOW_ROUTE = 14
    SHOW_FIB = 15
    SHOW_COUNTERS = 16
    SHOW_MEMORY = 17
    SHOW_RULES = 18
    TOPOLOGY = 19
    EXPLAIN = 20
    MONITOR = 21
    SHOW_LOG = 22
    SHOW_CONFIG = 23
    SHOW_PROTOCOL = 24
    SHOW_NEXTHOPS = 25
    SHOW_METRICS = 26
    SHOW_DATAPLANE = 27
    SHOW_TRAFFIC = 28
    SHOW_BFD_SESSIONS = 29
    SNAPSHOT_OPEN = 30
    SHOW_ROUTE_TRAFFIC = 31
    SHOW_NUP_ROUTES = 32
    SHOW_PROBES = 33
    RELOAD = 40
    FIB = 41
    CONFIGURE = 43
    CLEAR_NEIGHBOR = 44
    LOG_LEVEL = 45
    RECORD = 46
    CLEAR_TRAFFIC = 47
    ROUTE_CHANGE = 50
    ROUTE_RENEW = 51


class ResultCode(enum.Enum):
    """The outcome of a request."""

    OK = "ok"
    DENIED = "denied"
    """The caller's role does not permit the request."""
    NOT_FOUND = "not_found"
    USAGE = "usage"
    """The request itself is wrong: malformed, or with an impossible value."""
    BUSY = "busy"
    """Not possible now; a later attempt may succeed."""
    GONE = "gone"
    """The subject of the request, or the daemon, disappeared meanwhile."""
    INTERNAL = "internal"
    """A defect of routed; its log has more."""
    FAILED = "failed"
    """The request was valid but failed; nothing has changed."""


class Role(enum.IntEnum):
    """Permissions of a caller; each role includes the lower ones."""

    NONE = 0
    READ = 1
    """Look: show, lookup."""
    ADMIN = 2
    """Change: reload, inject routes."""

    @property
    def label(self) -> str:
        """The name of the role, for display."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The first message of a client."""

    protocol_version: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to Hello."""

    protocol_version: int
    routed_version: str
    router_id: str
    role: Role
    """The caller's own."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One page of an answer."""

    columns: tuple[str, ...]
    values: tuple[tuple[object, ...], ...]
    """Rows of plain values, each as long as `columns`."""


@dataclass(frozen=True, slots=True)
class LastRows(Rows):
    """The last page, which also ends the answer with success."""


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an answer."""

    code: ResultCode
    lines: tuple[str, ...] = ()
    """Text for display: what was done, or why it failed."""


@dataclass(frozen=True, slots=True)
class SnapshotOpen:
    """The FIB snapshot: the result carries its descriptor, read-only."""


@dataclass(frozen=True, slots=True)
class Fib:
    """A command for the kernel FIB as a whole; answered when it has finished."""

    command: str
    """`couple`, `decouple` or `resync`."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration file again and apply the difference."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Check the configuration file, show its changes, load it, confirm it, or roll it back."""

    action: str
    """check, diff, plan, reload, confirm or rollback."""
    confirm_s: float | None = None
    """Seconds after a `reload` until the old one is restored unless the new one is confirmed."""
    token: str = ""
    """Token of the configuration to `confirm`; empty for the pending one."""


@dataclass(frozen=True, slots=True)
class ClearNeighbor:
    """Reset every adjacency with a neighbor."""

    neighbor: str
    """Router id of the neighbor, or its address on a link."""


@dataclass(frozen=True, slots=True)
class SetLogLevel:
    """Set the log level until a configuration sets another, or open the log file again."""

    level: str
    """debug, info, warning or error; or `reopen`."""


@dataclass(frozen=True, slots=True)
class RecordNup:
    """Record the inputs of NUP; `off` answers with the recording, in rows of text."""

    action: str
    """on or off."""


Request = (
    ShowStatus
    | ShowNeighbors
    | ShowInterfaces
    | ShowRoutes
    | ShowRoute
    | ShowFib
    | ShowCounters
    | ShowLog
    | ShowMemory
    | ShowMetrics
    | ShowNextHops
    | ShowDataplane
    | ShowTraffic
    | ShowRouteTraffic
    | ShowRules
    | ShowBfdSessions
    | ShowNupRoutes
    | ShowProbes
    | ShowConfig
    | ShowProtocol
    | Topology
    | Explain
    | Monitor
    | SnapshotOpen
    | Fib
    | Reload
    | Configure
    | ClearNeighbor
    | ClearTraffic
    | SetLogLevel
    | RecordNup
    | RouteChange
    | RouteRenew
)

REQUEST_CLASSES: dict[ControlType, type[Request]] = {
    ControlType.SHOW_STATUS: ShowStatus,
    ControlType.SHOW_NEIGHBORS: ShowNeighbors,
    ControlType.SHOW_INTERFACES: ShowInterfaces,
    ControlType.SHOW_ROUTES: ShowRoutes,
    ControlType.SHOW_ROUTE: ShowRoute,
    ControlType.SHOW_FIB: ShowFib,
    ControlType.SHOW_COUNTERS: ShowCounters,
    ControlType.SHOW_LOG: ShowLog,
    ControlType.SHOW_MEMORY: ShowMemory,
    ControlType.SHOW_METRICS: ShowMetrics,
    ControlType.SHOW_RULES: ShowRules,
    ControlType.SHOW_NEXTHOPS: ShowNextHops,
    ControlType.SHOW_DATAPLANE: ShowDataplane,
    ControlType.SHOW_TRAFFIC: ShowTraffic,
    ControlType.SHOW_ROUTE_TRAFFIC: ShowRouteTraffic,
    ControlType.SHOW_BFD_SESSIONS: ShowBfdSessions,
    ControlType.SHOW_NUP_ROUTES: ShowNupRoutes,
    ControlType.SHOW_PROBES: ShowProbes,
    ControlType.SHOW_CONFIG: ShowConfig,
    ControlType.SHOW_PROTOCOL: ShowProtocol,
    ControlType.TOPOLOGY: Topology,
    ControlType.EXPLAIN: Explain,
    ControlType.MONITOR: Monitor,
    ControlType.SNAPSHOT_OPEN: SnapshotOpen,
    ControlType.FIB: Fib,
    ControlType.RELOAD: Reload,
    ControlType.CONFIGURE: Configure,
    ControlType.CLEAR_NEIGHBOR: ClearNeighbor,
    ControlType.CLEAR_TRAFFIC: ClearTraffic,
    ControlType.LOG_LEVEL: SetLogLevel,
    ControlType.RECORD: RecordNup,
    ControlType.ROUTE_CHANGE: RouteChange,
    ControlType.ROUTE_RENEW: RouteRenew,
}

REQUEST_TYPES: dict[type[Request], ControlType] = {
    request_class: request_type for request_type, request_class in REQUEST_CLASSES.items()
}
