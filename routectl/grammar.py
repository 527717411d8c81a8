"""The notation in which commands are declared; the commands themselves are in `commands.py`.

Parsing and abbreviations (`parse.py`), completion (`completer.py`), `?` and `help`, execution
(`execute.py`), the completion scripts, the manual page and the completeness test all walk the tree
that is built from these classes. A leaf has its word, help, an example, the role that the daemon
requires, arguments, and an action.

    Branch("show", ...)
        Leaf("routes", arguments=(Positional, Keyword, Flag, Flag), action=Ask(build, form))

The action of a leaf is one of:

    Ask             a request to the daemon, whose rows are shown in a form
    Assess          the same; the exit status is the daemon's health
    Await           a request that is repeated until its rows show a state
    Command         a request that changes something; the lines of its result are shown
    Check           a request to check the daemon's file, or a local check of a named file
    Save            a request whose rows are parts of a text, which is written to a file
    Import          a file of routes, sent as many requests
    ExplainAddress  a request, and the kernel's own answer for comparison
    Watch           a request whose rows arrive until it is cancelled
    Draw            rows as a table or a picture
    Lookup          answered from the mapped snapshot
    Local           answered by routectl itself (help, quit, doctor), or by several requests
                    (report, top)

Nothing here uses a socket or a terminal.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence

from ipc.control import (
    CONFIG_SECTIONS,
    AddressFamily,
    Lease,
    Request,
    Role,
    SnapshotOpen,
)
from ipc.lazy_dataclass import dataclass, field
from routectl.iproute import ROUTE_TYPES
from routectl.render.text import Form, Row

__all__ = [
    "CONFIG_SECTIONS",
    "PICTURE_FORMATS",
    "ROUTE_SOURCES",
    "ROUTE_TYPES",
    "SHELLS",
    "WATCH_TOPICS",
    "Action",
    "Argument",
    "Ask",
    "Assess",
    "Await",
    "Branch",
    "Check",
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
    "label_of",
    "lease_of",
    "leaves",
]

ROUTE_SOURCES = ("connected", "static", "injected", "neighbor", "redistributed", "kernel")
"""Values of RouteSource; a test compares them."""

PICTURE_FORMATS = ("table", "dot", "mermaid", "svg")
SHELLS = ("bash", "zsh", "fish")

FIB_STATES = ("pending", "installed", "failed", "shadowed", "decoupled", "waiting")
"""The values of FibState, as a test verifies."""

LOG_LEVELS = ("debug", "info", "warning", "error")
TRAFFIC_ORDERS = ("bytes", "packets")
"""The values of TrafficOrder; a test compares them."""
WATCH_TOPICS = ("routes", "neighbors", "links")
"""Values of Topic; a test compares them."""


class ValueKind(enum.Enum):
    """The kind of value of an argument: decides how it is checked and completed."""

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
    ATTRIBUTE = "VALUE"
    """Of an attribute of a route; `lock` may stand before it."""
    OWNER = "OWNER"
    NAME = "NAME"
    """The token of a configuration that awaits its confirmation."""
    FILE = "FILE"
    SHELL = "SHELL"
    FORMAT = "FORMAT"
    """A format of a picture."""
    STATE = "STATE"
    """A state of a route in the FIB."""
    DESTINATION = "ADDRESS|PREFIX"
    """An address, or a prefix for its exact routes."""
    TOPIC = "TOPIC"
    """A topic of `monitor`."""
    LEVEL = "LEVEL"
    """A log level."""
    EVENT = "EVENT"
    """The name of a log event."""
    PATTERN = "WORD"
    """A regular expression."""
    SESSION = "SESSION"
    """The name of a BFD session."""
    ORDER = "ORDER"
    """What decides which rows of traffic come first."""
    TABLE = "TABLE"
    """The name or number of a table."""
    PROBE = "PROBE"
    """The name of a probe."""
    SECTION = "SECTION"
    """A top-level key of the configuration."""


@dataclass(frozen=True, slots=True)
class Positional:
    """A value that is recognised by its position."""

    name: str
    kind: ValueKind
    help: str
    is_required: bool = False
    is_repeated: bool = False
    """Whether it takes all values that follow; only the last positional may."""

    @property
    def usage(self) -> str:
        """The argument as a synopsis shows it."""
        text = self.kind.value + ("..." if self.is_repeated else "")
        return text if self.is_required else f"[{text}]"


@dataclass(frozen=True, slots=True)
class Keyword:
    """A word followed by its value; modifiers may be in any order."""

    name: str
    kind: ValueKind
    help: str
    is_required: bool = False

    @property
    def usage(self) -> str:
        """The argument as a synopsis shows it."""
        text = f"{self.name} {self.kind.value}"
        return text if self.is_required else f"[{text}]"


@dataclass(frozen=True, slots=True)
class Flag:
    """A single word; modifiers may be in any order."""

    name: str
    help: str

    @property
    def usage(self) -> str:
        """The argument as a synopsis shows it."""
        return f"[{self.name}]"


Argument = Positional | Keyword | Flag


def label_of(argument: Argument) -> str:
    """Return an argument as the help shows it."""
    match argument:
        case Positional():
            return argument.kind.value
        case Keyword():
            return f"{argument.name} {argument.kind.value}"
        case Flag():
            return argument.name


@dataclass(frozen=True, slots=True)
class Invocation:
    """A leaf and the values of its arguments."""

    leaf: Leaf
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Values by argument name; a flag that is given has an empty tuple."""
    family: AddressFamily | None = None
    """Address family selected with the options -4 and -6."""

    def value(self, name: str) -> str | None:
        """Return the single value of an argument, or None if it was not given."""
        given = self.values.get(name)
        return given[0] if given else None


@dataclass(frozen=True, slots=True)
class Fields:
    """Builds a request from the values of arguments, without conversion.

    It is data rather than a function, so that `routectl/quick.py` can do the same without importing
    this module.
    """

    request_class: type[Request]
    sources: tuple[str, ...] = ()
    """Source of each field, in order: an argument's name, `NAME?` for whether a flag is given,
    `=TEXT` for a constant, or `@family`."""

    def __call__(self, invocation: Invocation) -> Request:
        """Return the request of one invocation."""
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
    """Action: show the rows of a request."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Assess:
    """Action: show the health of the daemon, which is the exit status, too."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Await:
    """Action: send a request again and again until nothing is missing."""

    build: Callable[[Invocation], Request]
    missing: Callable[[Sequence[Row], Invocation], str]
    """What is missing according to the rows; empty if nothing is."""


@dataclass(frozen=True, slots=True)
class Command:
    """Action: send a request that changes something, and show the lines of its result."""

    build: Callable[[Invocation], Request]


@dataclass(frozen=True, slots=True)
class Check:
    """Action: have the daemon check its configuration file, or check a named file locally."""

    build: Callable[[Invocation], Request]


@dataclass(frozen=True, slots=True)
class Save:
    """Action: write the text in the rows to the named file."""

    build: Callable[[Invocation], Request]


@dataclass(frozen=True, slots=True)
class Import:
    """Action: send the routes of a file."""

    build: Callable[[Invocation], Request]
    """Builds a request with the role, operation and lease of all requests that will be sent."""


@dataclass(frozen=True, slots=True)
class ExplainAddress:
    """Action: query the daemon and the kernel, and compare their answers."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Draw:
    """Action: show rows as a table, or as a picture in the given `format`."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Watch:
    """Action: show rows as they arrive."""

    build: Callable[[Invocation], Request]
    form: Form


@dataclass(frozen=True, slots=True)
class Lookup:
    """Action: search the mapped snapshot."""

    form: Form
    build: Callable[[Invocation], Request] = lambda _invocation: SnapshotOpen()
    """Builds the only request of a lookup: it opens the snapshot."""


class LocalAction(enum.Enum):
    """The commands that routectl carries out itself."""

    HELP = "help"
    QUIT = "quit"
    COMPLETION = "completion"
    REPORT = "report"
    TOP = "top"
    DOCTOR = "doctor"


@dataclass(frozen=True, slots=True)
class Local:
    """Action: a command that routectl carries out itself."""

    action: LocalAction


Action = (
    Ask
    | Assess
    | Await
    | Check
    | Command
    | Draw
    | ExplainAddress
    | Import
    | Lookup
    | Save
    | Watch
    | Local
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One command."""

    word: str
    help: str
    """A sentence without a full stop."""
    example: str
    """A complete command."""
    role: Role
    """Role that the daemon requires (`routed/control/policy.py` decides; a test compares them)."""
    action: Action
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """A word that is followed by others."""

    word: str
    help: str
    children: tuple[Node, ...]


Node = Branch | Leaf


def leaves(node: Node, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """Yield every command below a node, with its words."""
    words = (*before, node.word) if node.word else before
    match node:
        case Leaf():
            yield words, node
        case Branch():
            for child in node.children:
                yield from leaves(child, words)


def lease_of(invocation: Invocation) -> Lease:
    """Return the lease that the arguments of a command describe."""
    value = invocation.value("lease")
    if value is None:
        return Lease()
    return Lease(is_session=True) if value == "session" else Lease(float(value))
