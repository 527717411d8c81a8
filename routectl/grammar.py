"""The command tree, as data: the one place where a command is declared.

Parsing and abbreviations (`parse.py`), completion (`completer.py`), `?` and `help`, the client
(`execute.py`) and the completeness test all walk this tree; so will the shell completion scripts
and the manual page. To add a command, add a leaf: words, help, an example, the role that the daemon
will ask for, the arguments, and what it does.

    Branch("show", ...)
      Leaf("routes", arguments=(Positional, Keyword, Flag, Flag), action=Ask(build, form))

What a leaf does is one of:

    Ask      a request for the daemon, whose rows are shown in a form
    Command  a request that changes something; its result's lines are shown
    Import   a file of routes, as many requests
    Explain  a request, and the kernel's own answer beside it
    Watch    a request whose rows come for as long as one looks
    Draw     rows as a table or a picture
    Lookup   answered from the mapped snapshot
    Local    answered by routectl itself (help, quit), or by several requests (report, top)

Nothing here knows a socket or a terminal.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ipc.control import (
    AddressFamily,
    Configure,
    Explain,
    Fib,
    Lease,
    Monitor,
    Reload,
    Request,
    Role,
    RouteAttributes,
    RouteChange,
    RouteNextHop,
    RouteOperation,
    RouteRenew,
    ShowCounters,
    ShowFib,
    ShowInterfaces,
    ShowLog,
    ShowMemory,
    ShowNeighbors,
    ShowRoute,
    ShowRoutes,
    ShowRules,
    ShowStatus,
    SnapshotOpen,
    Topology,
)
from ipc.routes import one_route
from routectl.iproute import ROUTE_TYPES
from routectl.render import views
from routectl.render.text import Form

__all__ = [
    "PICTURE_FORMATS",
    "ROUTE_SOURCES",
    "ROUTE_TYPES",
    "SHELLS",
    "TREE",
    "WATCH_TOPICS",
    "Action",
    "Argument",
    "Ask",
    "Branch",
    "Command",
    "Draw",
    "ExplainAddress",
    "Fields",
    "Flag",
    "Import",
    "Invocation",
    "Keyword",
    "Leaf",
    "Local",
    "LocalAction",
    "Lookup",
    "Node",
    "Positional",
    "ValueKind",
    "Watch",
    "lease_of",
    "leaves",
]

ROUTE_SOURCES = ("connected", "static", "injected", "neighbor", "redistributed", "kernel")
"""The words of RouteSource; a test holds them to it."""


PICTURE_FORMATS = ("table", "dot", "mermaid", "svg")
SHELLS = ("bash", "zsh", "fish")

LOG_LEVELS = ("debug", "info", "warning", "error")
WATCH_TOPICS = ("routes", "neighbors", "links")
"""The words of Topic; a test holds them to it."""


class ValueKind(enum.Enum):
    """What may stand for an argument; decides how it is checked and completed."""

    ADDRESS = "ADDRESS"
    PREFIX = "PREFIX"
    SOURCE = "SOURCE"
    INTERFACE = "INTERFACE"
    NEIGHBOR = "NEIGHBOR"
    COMMAND = "COMMAND"
    NUMBER = "NUMBER"
    LEASE = "LEASE"
    """A duration such as 30s, or `session`."""
    DURATION = "DURATION"
    TYPE = "TYPE"
    """A type of route."""
    OWNER = "OWNER"
    FILE = "FILE"
    SHELL = "SHELL"
    FORMAT = "FORMAT"
    """Of a picture."""
    TOPIC = "TOPIC"
    """What can be watched."""
    LEVEL = "LEVEL"
    """How severe a line of the log is."""
    EVENT = "EVENT"
    """The name of an event of the log."""


@dataclass(frozen=True, slots=True)
class Positional:
    """A value in its place."""

    name: str
    kind: ValueKind
    help: str
    is_required: bool = False
    is_repeated: bool = False
    """Takes every value that follows; only the last positional may."""

    @property
    def usage(self) -> str:
        """As a synopsis writes it."""
        text = self.kind.value + ("..." if self.is_repeated else "")
        return text if self.is_required else f"[{text}]"


@dataclass(frozen=True, slots=True)
class Keyword:
    """A word and the value after it, in any order among the modifiers."""

    name: str
    kind: ValueKind
    help: str
    is_required: bool = False

    @property
    def usage(self) -> str:
        """As a synopsis writes it."""
        text = f"{self.name} {self.kind.value}"
        return text if self.is_required else f"[{text}]"


@dataclass(frozen=True, slots=True)
class Flag:
    """A word alone, in any order among the modifiers."""

    name: str
    help: str

    @property
    def usage(self) -> str:
        """As a synopsis writes it."""
        return f"[{self.name}]"


Argument = Positional | Keyword | Flag


@dataclass(frozen=True, slots=True)
class Invocation:
    """A leaf with the values that were given."""

    leaf: Leaf
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By argument name; a flag that was given has an empty tuple."""
    family: AddressFamily | None = None
    """From the options -4 and -6."""

    def value(self, name: str) -> str | None:
        """The one value of an argument, or None when it was not given."""
        given = self.values.get(name)
        return given[0] if given else None


@dataclass(frozen=True, slots=True)
class Fields:
    """Builds a request whose fields are the values of arguments, as they are.

    Data rather than a function, so that `routectl/quick.py` can do the same without this module.
    """

    request_class: type[Request]
    sources: tuple[str, ...] = ()
    """For each field in order: an argument's name, `NAME?` for whether a flag was given,
    `=TEXT` for that very text, or `@family`."""

    def __call__(self, invocation: Invocation) -> Request:
        """The request of one invocation."""
        make: Callable[..., Request] = self.request_class
        return make(*[_field(invocation, source) for source in self.sources])


def _field(invocation: Invocation, source: str) -> object:
    if source.startswith("="):
        return source[1:]
    if source == "@family":
        return invocation.family
    if source.endswith("?"):
        return source[:-1] in invocation.values
    return invocation.value(source)


@dataclass(frozen=True, slots=True)
class Ask:
    """Show the rows of a request."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Command:
    """Have something done, and say what the daemon says."""

    build: Callable[[Invocation], Request]


@dataclass(frozen=True, slots=True)
class Import:
    """Send the routes of a file."""

    build: Callable[[Invocation], Request]
    """A request as they will be sent, for its role and its lease."""


@dataclass(frozen=True, slots=True)
class ExplainAddress:
    """Ask the daemon, and the kernel, and compare."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Draw:
    """Show rows as a table, or as the picture that `format` names."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Watch:
    """Show rows as they come."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Lookup:
    """Search the mapped snapshot."""

    form: Form
    build: Callable[[Invocation], Request] = lambda _invocation: SnapshotOpen()
    """What the daemon is asked for, once: the snapshot's descriptor."""


class LocalAction(enum.Enum):
    """What routectl does by itself."""

    HELP = "help"
    QUIT = "quit"
    COMPLETION = "completion"
    REPORT = "report"
    TOP = "top"


@dataclass(frozen=True, slots=True)
class Local:
    """No daemon needed."""

    action: LocalAction


Action = Ask | Command | Draw | ExplainAddress | Import | Lookup | Watch | Local


@dataclass(frozen=True, slots=True)
class Leaf:
    """One command."""

    word: str
    help: str
    """A sentence without a full stop."""
    example: str
    """A whole command, as one would type it."""
    role: Role
    """What the daemon will ask for (`routed/control/policy.py` decides; a test compares)."""
    action: Action
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """A word that others follow."""

    word: str
    help: str
    children: tuple[Node, ...]


Node = Branch | Leaf


def leaves(node: Node, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """Every command below a node, with its words."""
    words = (*before, node.word) if node.word else before
    match node:
        case Leaf():
            yield words, node
        case Branch():
            for child in node.children:
                yield from leaves(child, words)


_SHOW_ROUTES = Fields(ShowRoutes, ("@family", "prefix", "longer?", "source", "selected?"))


def _reload(invocation: Invocation) -> Request:
    confirm = invocation.value("confirm")
    if "plan" in invocation.values:
        return Configure("plan", None if confirm is None else float(confirm))
    return Reload() if confirm is None else Configure("reload", float(confirm))


def lease_of(invocation: Invocation) -> Lease:
    """The lease that a command asks for."""
    value = invocation.value("lease")
    if value is None:
        return Lease()
    return Lease(is_session=True) if value == "session" else Lease(float(value))


def _change_route(operation: RouteOperation) -> Callable[[Invocation], Request]:
    def build(invocation: Invocation) -> Request:
        packed, prefix_len = _packed(invocation.value("prefix") or "")
        return one_route(
            operation,
            packed,
            prefix_len,
            _attributes(invocation),
            lease=lease_of(invocation),
            owner=invocation.value("owner") or "",
        )

    return build


def _attributes(invocation: Invocation) -> RouteAttributes:
    via, dev = invocation.value("via"), invocation.value("dev")
    next_hop = RouteNextHop(via, dev, is_onlink="onlink" in invocation.values)
    return RouteAttributes(
        invocation.value("type") or "unicast",
        (next_hop,) if via or dev else (),
        int(invocation.value("metric") or 0),
        int(invocation.value("tag") or 0),
    )


def _packed(prefix: str) -> tuple[bytes, int]:
    import socket  # there already, wherever a request is sent

    address, _, length = prefix.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address), int(length)


def _import_routes(invocation: Invocation) -> Request:
    replaces = "replace" in invocation.values
    return RouteChange(
        RouteOperation.REPLACE if replaces else RouteOperation.ADD,
        (),
        lease=lease_of(invocation),
        owner=invocation.value("owner") or "",
    )


def _renew_routes(invocation: Invocation) -> Request:
    return RouteRenew(float(invocation.value("lease") or 0), invocation.value("owner") or "")


_PREFIX = Positional("prefix", ValueKind.PREFIX, "Only this prefix")
_LONGER = Flag("longer", "With a prefix: everything inside it")

_SHOW = Branch(
    "show",
    "Look at the daemon's state",
    (
        Leaf(
            "status",
            "The daemon as a whole: identity, health, totals",
            "show status",
            Role.READ,
            Ask(Fields(ShowStatus), views.STATUS),
        ),
        Leaf(
            "neighbors",
            "Neighbors and the state of the adjacency with each",
            "show neighbors interface eth0",
            Role.READ,
            Ask(Fields(ShowNeighbors, ("neighbor", "interface")), views.NEIGHBORS),
            (
                Positional("neighbor", ValueKind.NEIGHBOR, "Only this router id or address"),
                Keyword("interface", ValueKind.INTERFACE, "Only those on this interface"),
            ),
        ),
        Leaf(
            "interfaces",
            "Interfaces, their addresses, and whether NUP runs there",
            "show interfaces eth0",
            Role.READ,
            Ask(Fields(ShowInterfaces, ("interface",)), views.INTERFACES),
            (Positional("interface", ValueKind.INTERFACE, "Only this interface"),),
        ),
        Leaf(
            "routes",
            "The RIB: every candidate of every prefix, * marks the selected one",
            "show routes 10.0.0.0/8 longer source static",
            Role.READ,
            Ask(_SHOW_ROUTES, views.ROUTES),
            (
                _PREFIX,
                _LONGER,
                Keyword("source", ValueKind.SOURCE, "Only candidates of this source"),
                Flag("selected", "Only selected candidates"),
            ),
        ),
        Leaf(
            "route",
            "The candidates of the longest prefix that covers an address",
            "show route 192.0.2.1",
            Role.READ,
            Ask(Fields(ShowRoute, ("address",)), views.ROUTES),
            (Positional("address", ValueKind.ADDRESS, "The destination", is_required=True),),
        ),
        Leaf(
            "fib",
            "What the kernel should hold, and whether it does",
            "show fib 10.0.0.0/8 longer",
            Role.READ,
            Ask(Fields(ShowFib, ("@family", "prefix", "longer?")), views.FIB),
            (_PREFIX, _LONGER),
        ),
        Leaf(
            "rules",
            "The policy rules of the configuration, and whether the kernel has them",
            "show rules",
            Role.READ,
            Ask(lambda _: ShowRules(), views.RULES),
        ),
        Leaf(
            "counters",
            "Everything that is counted, with its meaning",
            "show counters",
            Role.READ,
            Ask(Fields(ShowCounters), views.COUNTERS),
        ),
        Leaf(
            "log",
            "The last lines of the log, oldest first; at info and above",
            "show log level warning",
            Role.READ,
            Ask(Fields(ShowLog, ("level", "event")), views.LOG),
            (
                Keyword("level", ValueKind.LEVEL, "The least severe that is wanted"),
                Keyword("event", ValueKind.EVENT, "Lines of this event only"),
            ),
        ),
        Leaf(
            "memory",
            "What the daemon's memory is used for",
            "show memory",
            Role.READ,
            Ask(Fields(ShowMemory), views.MEMORY),
        ),
    ),
)

_LEASE = Keyword(
    "lease", ValueKind.LEASE, "Vanish after this time unless renewed, or with the `session`"
)
_OWNER = Keyword("owner", ValueKind.OWNER, "A name that sets several owners of one user apart")
_ROUTE_WORDS: tuple[Argument, ...] = (
    Positional("prefix", ValueKind.PREFIX, "The destination", is_required=True),
    Keyword("via", ValueKind.ADDRESS, "The next router"),
    Keyword("dev", ValueKind.INTERFACE, "The link; required for a link-local `via`"),
    Flag("onlink", "Take `via` as reachable on `dev` although no subnet says so"),
    Keyword("type", ValueKind.TYPE, "`unicast`, or how packets are refused"),
    Keyword("metric", ValueKind.NUMBER, "Decides between injected routes; lower wins"),
    Keyword("tag", ValueKind.NUMBER, "A mark that policy can match"),
    _LEASE,
    _OWNER,
)

_ROUTE = Branch(
    "route",
    "Inject routes, for as long as their owner lives or a lease runs",
    (
        Leaf(
            "add",
            "Inject a route; refused when the same owner has one to that prefix",
            "route add 192.0.2.1/32 dev eth0 lease 30s",
            Role.ADMIN,
            Command(_change_route(RouteOperation.ADD)),
            _ROUTE_WORDS,
        ),
        Leaf(
            "replace",
            "Inject a route, in the place of the owner's own; renews its lease",
            "route replace 203.0.113.0/24 via 10.0.0.2 metric 10 tag 7",
            Role.ADMIN,
            Command(_change_route(RouteOperation.REPLACE)),
            _ROUTE_WORDS,
        ),
        Leaf(
            "delete",
            "Take an injected route away",
            "route delete 192.0.2.1/32",
            Role.ADMIN,
            Command(_change_route(RouteOperation.DELETE)),
            (
                Positional("prefix", ValueKind.PREFIX, "The destination", is_required=True),
                Keyword("owner", ValueKind.OWNER, "Whose, as `show routes` writes it"),
            ),
        ),
        Leaf(
            "import",
            "Inject the routes of a file, a line each as `ip route` writes it; - is standard input",
            "route import routes.txt replace owner batch",
            Role.ADMIN,
            Import(_import_routes),
            (
                Positional("file", ValueKind.FILE, "The file", is_required=True),
                Flag("replace", "Take the place of what the owner has, instead of refusing"),
                _LEASE,
                _OWNER,
            ),
        ),
        Leaf(
            "renew",
            "Begin the timed leases of an owner anew",
            "route renew lease 30s",
            Role.ADMIN,
            Command(_renew_routes),
            (
                Keyword("lease", ValueKind.DURATION, "How long from now", is_required=True),
                _OWNER,
            ),
        ),
    ),
)

TREE = Branch(
    "",
    "Commands",
    (
        _SHOW,
        Leaf(
            "lookup",
            "Longest match for addresses, from the snapshot in shared memory",
            "lookup 192.0.2.1 2001:db8::1",
            Role.READ,
            Lookup(views.LOOKUP),
            (
                Positional(
                    "addresses",
                    ValueKind.ADDRESS,
                    "The destinations",
                    is_required=True,
                    is_repeated=True,
                ),
            ),
        ),
        Branch(
            "fib",
            "The kernel FIB as a whole",
            (
                Leaf(
                    "couple",
                    "Put every wanted route into the kernel again",
                    "fib couple",
                    Role.ADMIN,
                    Command(lambda _: Fib("couple")),
                ),
                Leaf(
                    "decouple",
                    "Take every route of ours out of the kernel, and keep the RIB",
                    "fib decouple",
                    Role.ADMIN,
                    Command(lambda _: Fib("decouple")),
                ),
                Leaf(
                    "resync",
                    "Read the kernel now, repair what is not as it should be, say what it was",
                    "fib resync",
                    Role.ADMIN,
                    Command(lambda _: Fib("resync")),
                ),
            ),
        ),
        Leaf(
            "topology",
            "The network as NUP knows it, as a table or a picture",
            "topology format svg",
            Role.READ,
            Draw(Fields(Topology), views.TOPOLOGY),
            (Keyword("format", ValueKind.FORMAT, "table, dot, mermaid or svg"),),
        ),
        Leaf(
            "report",
            "The daemon's state as one HTML page, with tables and the picture of the network",
            "report",
            Role.NONE,
            Local(LocalAction.REPORT),
        ),
        Leaf(
            "top",
            "Neighbors, rates and the FIB on a full screen, again and again; q leaves",
            "top",
            Role.NONE,
            Local(LocalAction.TOP),
        ),
        Leaf(
            "explain",
            "Which route an address takes, which lost and why, and what the kernel says",
            "explain 192.0.2.1",
            Role.READ,
            ExplainAddress(Fields(Explain, ("address",)), views.EXPLAIN),
            (Positional("address", ValueKind.ADDRESS, "The destination", is_required=True),),
        ),
        Leaf(
            "monitor",
            "Changes of routes, neighbors and links as they happen, a line each",
            "monitor routes",
            Role.READ,
            Watch(lambda invocation: Monitor(invocation.values.get("topics", ())), views.CHANGES),
            (Positional("topics", ValueKind.TOPIC, "Only these", is_repeated=True),),
        ),
        _ROUTE,
        Leaf(
            "reload",
            "Read the configuration file again and apply the difference",
            "reload",
            Role.ADMIN,
            Command(_reload),
            (
                Flag("plan", "Only say what would change in the kernel, adjacencies and sockets"),
                Keyword(
                    "confirm", ValueKind.DURATION, "Go back unless `confirm` is said in this time"
                ),
            ),
        ),
        Leaf(
            "confirm",
            "Keep the configuration that was loaded with `reload confirm`",
            "confirm",
            Role.ADMIN,
            Command(Fields(Configure, ("=confirm",))),
        ),
        Leaf(
            "rollback",
            "Go back to the configuration that was in force before",
            "rollback",
            Role.ADMIN,
            Command(Fields(Configure, ("=rollback",))),
        ),
        Branch(
            "config",
            "Look at the configuration file before it is loaded",
            (
                Leaf(
                    "check",
                    "Whether the file is right; every error with its line",
                    "config check",
                    Role.ADMIN,
                    Command(Fields(Configure, ("=check",))),
                ),
                Leaf(
                    "diff",
                    "What the file says otherwise than the configuration in force",
                    "config diff",
                    Role.ADMIN,
                    Command(Fields(Configure, ("=diff",))),
                ),
            ),
        ),
        Leaf(
            "help",
            "What a command does and how it is written",
            "help show routes",
            Role.NONE,
            Local(LocalAction.HELP),
            (Positional("command", ValueKind.COMMAND, "Its words", is_repeated=True),),
        ),
        Leaf(
            "completion",
            "The completion script of a shell: source <(routectl completion bash)",
            "completion bash",
            Role.NONE,
            Local(LocalAction.COMPLETION),
            (Positional("shell", ValueKind.SHELL, "bash, zsh or fish", is_required=True),),
        ),
        Leaf("quit", "Leave the shell", "quit", Role.NONE, Local(LocalAction.QUIT)),
        Leaf("exit", "Leave the shell", "exit", Role.NONE, Local(LocalAction.QUIT)),
    ),
)
