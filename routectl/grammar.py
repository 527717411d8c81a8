"""The notation in which commands are declared; the commands themselves are in `commands.py`.

Parsing and abbreviations (`parse.py`), completion (`completer.py`), `?` and `help`, the client
(`execute.py`), the completion scripts, the manual page and the completeness test all walk the tree
that is made of these. A leaf has words, help, an example, the role that the daemon will ask for,
arguments, and what it does.

    Branch("show", ...)
      Leaf("routes", arguments=(Positional, Keyword, Flag, Flag), action=Ask(build, form))

What a leaf does is one of:

    Ask      a request for the daemon, whose rows are shown in a form
    Command  a request that changes something; its result's lines are shown
    Check    the same, or a file that is judged here
    Save     a request whose rows are pieces of a text, which goes into a file
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
    CONFIG_SECTIONS,
    AddressFamily,
    Lease,
    Request,
    Role,
    SnapshotOpen,
)
from routectl.iproute import ROUTE_TYPES
from routectl.render.text import Form

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
    NAME = "NAME"
    """The name of a configuration that waits for a confirmation."""
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
    SECTION = "SECTION"
    """A key at the top of the configuration."""


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
class Check:
    """Have the daemon judge its configuration file, or judge the file that was named here."""

    build: Callable[[Invocation], Request]


@dataclass(frozen=True, slots=True)
class Save:
    """Write the text of the rows to the file that was named."""

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


Action = Ask | Check | Command | Draw | ExplainAddress | Import | Lookup | Save | Watch | Local


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


def lease_of(invocation: Invocation) -> Lease:
    """The lease that a command asks for."""
    value = invocation.value("lease")
    if value is None:
        return Lease()
    return Lease(is_session=True) if value == "session" else Lease(float(value))
