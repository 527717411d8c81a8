"""Parser of commands: unique abbreviations, errors that list the choices, and completions.

One walk over the tree of `grammar.py` answers three questions: which command this is (`parse`),
what may follow (`expected`, for completion and `?`), and what the command does (`describe`).

A word is matched exactly, else as the beginning of exactly one choice, else it is a value. So `sh
nei` is `show neighbors`, and a name that equals a word can be given after that word is spelled out.

Failure: `ParseError`, whose text is a sentence and names the choices or the nearest match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ipc.control import AddressFamily, Role
from ipc.lazy_dataclass import dataclass, field
from ipc.route_rules import quoted
from routectl.commands import TREE
from routectl.grammar import (
    CONFIG_SECTIONS,
    FIB_STATES,
    LOG_LEVELS,
    PICTURE_FORMATS,
    ROUTE_SOURCES,
    ROUTE_TYPES,
    SHELLS,
    TRAFFIC_ORDERS,
    WATCH_TOPICS,
    Branch,
    Flag,
    Invocation,
    Keyword,
    Leaf,
    Local,
    LocalAction,
    Node,
    Positional,
    ValueKind,
    label_of,
)

__all__ = [
    "Choice",
    "LiveValues",
    "ParseError",
    "aligned",
    "complete",
    "describe",
    "expected",
    "match_word",
    "parse",
]

LiveValues = Callable[[ValueKind, str], Iterable[str]]
"""Returns the values of a kind that begin with a text, as the daemon knows them."""


class ParseError(Exception):
    """The words are not a command; the text names what is possible."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One possible continuation."""

    text: str
    """A word, or the kind of value in capitals."""
    help: str
    kind: ValueKind | None = None
    """Set if any value of this kind is possible."""


def parse(words: Sequence[str], family: AddressFamily | None = None) -> Invocation:
    """Parse a command.

    Args:
        words: as typed; abbreviations are accepted.
        family: from the options; stored in the invocation.

    Raises:
        ParseError: a word is unknown or ambiguous, the command is incomplete, or a value is not
            valid.
    """
    position = _walk(words)
    if isinstance(position.node, Branch):
        before = " ".join(position.spelled)
        raise ParseError(_incomplete(before, [choice.text for choice in position.choices()]))
    for argument in position.node.arguments:
        is_required = not isinstance(argument, Flag) and argument.is_required
        if is_required and argument.name not in position.values:
            before = " ".join(position.spelled)
            raise ParseError(
                f"{before} needs {label_of(argument)}, for example: {position.node.example}"
            )
    if position.awaited is not None:
        raise ParseError(f"{position.awaited.name} needs {position.awaited.kind.value} after it")
    return Invocation(position.node, position.values, family)


def expected(words: Sequence[str]) -> list[Choice]:
    """Return what may follow these complete words.

    Raises:
        ParseError: they are not the beginning of a command.
    """
    return _walk(words).choices()


def complete(words: Sequence[str], start: str, live_values: LiveValues) -> list[Choice]:
    """Return the completions of a word that begins with `start`, after these complete words.

    Returns nothing if the words are not the beginning of a command: completion shows no errors.
    """
    try:
        choices = expected(words)
    except ParseError:
        return []
    found = []
    for choice in choices:
        if choice.kind is None:
            found += [choice] if choice.text.startswith(start) else []
        else:
            help_text = choice.help
            found += [
                Choice(value, help_text)
                for value in _values(choice.kind, start, live_values)
                if value.startswith(start)
            ]
    return found


def describe(words: Sequence[str]) -> list[str]:
    """Return the help for a command or a branch, as lines.

    Raises:
        ParseError: the words are not the beginning of a command.
    """
    position = _walk(words, is_help=True)
    match position.node:
        case Branch():
            lines = [position.node.help, ""] if position.spelled else []
            return lines + aligned([(node.word, node.help) for node in position.node.children])
        case Leaf():
            return _describe_leaf(position.node, " ".join(position.spelled))


def _describe_leaf(leaf: Leaf, words: str) -> list[str]:
    usage = " ".join([words, *[argument.usage for argument in leaf.arguments]])
    lines = [leaf.help, "", f"  usage:    {usage}", f"  example:  {leaf.example}"]
    if leaf.role is not Role.NONE:
        lines.append(f"  role:     {leaf.role.label}")
    if leaf.arguments:
        lines += [
            "",
            *aligned([(label_of(argument), argument.help) for argument in leaf.arguments]),
        ]
    return lines


_WORDS: dict[ValueKind, tuple[str, ...]] = {
    ValueKind.SOURCE: ROUTE_SOURCES,
    ValueKind.TYPE: ROUTE_TYPES,
    ValueKind.STATE: FIB_STATES,
    ValueKind.TOPIC: WATCH_TOPICS,
    ValueKind.FORMAT: PICTURE_FORMATS,
    ValueKind.SHELL: SHELLS,
    ValueKind.LEVEL: LOG_LEVELS,
    ValueKind.ORDER: TRAFFIC_ORDERS,
    ValueKind.SECTION: CONFIG_SECTIONS,
}
"""The values of the kinds that have a fixed set of values."""


def aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Format pairs of a word and its meaning in two columns, one pair per line."""
    width = max(len(name) for name, _ in pairs)
    return [f"  {name.ljust(width)}  {text}" for name, text in pairs]


@dataclass(slots=True)
class _Position:
    """The position of a walk. Mutable, and owned by one walk."""

    node: Node = TREE
    spelled: list[str] = field(default_factory=list)
    """The command's words in full."""
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    awaited: Keyword | None = None
    """A keyword whose value is missing."""

    def choices(self) -> list[Choice]:
        """Return what may follow."""
        if isinstance(self.node, Branch):
            return [Choice(child.word, child.help) for child in self.node.children]
        if self.awaited is not None:
            return [_value_choice(self.awaited)]
        if self.node.action == Local(LocalAction.HELP):
            asked_about = _walk(self.values.get("command", ()), is_help=True)
            return asked_about.choices() if isinstance(asked_about.node, Branch) else []
        next_positional = self.next_positional()
        found = [] if next_positional is None else [_value_choice(next_positional)]
        return found + [Choice(word.name, word.help) for word in self.open_words()]

    def open_words(self) -> list[Keyword | Flag]:
        """Return the leaf's keywords and flags that were not given yet."""
        assert isinstance(self.node, Leaf)
        return [
            argument
            for argument in self.node.arguments
            if isinstance(argument, (Keyword, Flag)) and argument.name not in self.values
        ]

    def given_words(self) -> set[str]:
        """Return the leaf's keywords and flags that were given."""
        assert isinstance(self.node, Leaf)
        return {
            argument.name
            for argument in self.node.arguments
            if not isinstance(argument, Positional) and argument.name in self.values
        }

    def next_positional(self) -> Positional | None:
        """Return the positional that the next value is assigned to."""
        assert isinstance(self.node, Leaf)
        for argument in self.node.arguments:
            if isinstance(argument, Positional) and (
                argument.is_repeated or argument.name not in self.values
            ):
                return argument
        return None


def _value_choice(argument: Positional | Keyword) -> Choice:
    return Choice(argument.kind.value, argument.help, argument.kind)


def _walk(words: Sequence[str], *, is_help: bool = False) -> _Position:
    position = _Position()
    for word in words:
        if isinstance(position.node, Branch):
            _descend(position, position.node, word)
        elif not is_help:
            _take_argument(position, word)
    return position


def _descend(position: _Position, branch: Branch, word: str) -> None:
    by_word = {child.word: child for child in branch.children}
    name = match_word(word, list(by_word), " ".join(position.spelled))
    position.node = by_word[name]
    position.spelled.append(name)


def _take_argument(position: _Position, word: str) -> None:
    if position.awaited is not None:
        _take_value(position, position.awaited, word)
        return
    words = {argument.name: argument for argument in position.open_words()}
    candidates = [name for name in words if name == word] or [
        name for name in words if word and name.startswith(word)
    ]
    positional = position.next_positional()
    if candidates or positional is None:
        before = " ".join(position.spelled)
        if not candidates and word in position.given_words():
            raise ParseError(f"{word!r} after {before} is given twice")
        for argument in () if candidates else words.values():
            if isinstance(argument, Keyword) and word in _WORDS.get(argument.kind, ()):
                meant = f"{argument.name} {word}"
                raise ParseError(f"{word!r} after {before} is unknown; did you mean {meant!r}?")
        name = match_word(word, list(words), before)
        _take_word(position, words[name])
    else:
        choices = _WORDS.get(positional.kind)
        if choices is not None and word in position.given_words() and word not in choices:
            raise ParseError(f"{word!r} after {' '.join(position.spelled)} is given twice")
        earlier = position.values.get(positional.name, ())
        position.values[positional.name] = (*earlier, _checked(positional.kind, word))


def _take_value(position: _Position, keyword: Keyword, word: str) -> None:
    earlier = position.values[keyword.name]
    if keyword.kind is not ValueKind.ATTRIBUTE or word != "lock" or earlier:
        position.awaited = None
    position.values[keyword.name] = (*earlier, _checked(keyword.kind, word))


def _take_word(position: _Position, argument: Keyword | Flag) -> None:
    position.values[argument.name] = ()
    if isinstance(argument, Keyword):
        position.awaited = argument


def match_word(word: str, choices: Sequence[str], before: str) -> str:
    """Return the one choice that a word names.

    Raises:
        ParseError: it names none, or several.
    """
    if word in choices:
        return word
    found = [choice for choice in choices if word and choice.startswith(word)]
    if len(found) == 1:
        return found[0]
    place = f" after {before}" if before else ""
    if found:
        raise ParseError(f"{word!r}{place} is ambiguous: {', '.join(found)}")
    if not choices:
        raise ParseError(f"unexpected {quoted(word)} after {before}")
    raise ParseError(f"{quoted(word)}{place} is unknown; {_nearest(word, choices)}")


def _nearest(word: str, choices: Sequence[str]) -> str:
    import difflib  # needed for errors only

    near = difflib.get_close_matches(word, choices, 1)
    return f"did you mean {near[0]}?" if near else f"expected: {', '.join(choices)}"


def _incomplete(before: str, choices: Sequence[str]) -> str:
    after = f"{before} is incomplete" if before else "no command given"
    return f"{after}: {', '.join(choices)}"


def _checked(kind: ValueKind, word: str) -> str:
    """Return a value in the form that the daemon accepts.

    Raises:
        ParseError: the value is not valid for its kind.
    """
    if kind in _WORDS:
        return match_word(word, _WORDS[kind], kind.value.lower())
    match kind:
        case ValueKind.ADDRESS:
            return _checked_address(word)
        case ValueKind.DESTINATION:
            return _checked_prefix(word) if "/" in word else _checked_address(word)
        case ValueKind.PREFIX:
            return _checked_prefix(word)
        case ValueKind.NUMBER:
            return _checked_number(word)
        case ValueKind.LEASE:
            return word if word == "session" else _checked_duration(word, "30s or `session`")
        case ValueKind.DURATION:
            return _checked_duration(word, "30s")
        case _:
            return word


def _checked_number(word: str) -> str:
    if not (word.isascii() and word.isdigit()):
        raise ParseError(f"{quoted(word)} is not a number")
    if len(word) > _DIGITS_MAX or int(word) > _NUMBER_MAX:
        raise ParseError(f"{quoted(word)} is too large: the maximum is {_NUMBER_MAX}")
    return word


_DIGITS_MAX = 10
_NUMBER_MAX = (1 << 32) - 1
"""Largest number in a command; the daemon may allow less. Python refuses to convert a number of
several thousand digits, and the protocol cannot carry more than 64 bits."""


_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _checked_duration(word: str, example: str) -> str:
    """Convert a duration to seconds, as text."""
    number = word.rstrip("hms")
    unit = _UNIT_S.get(word[len(number) :])
    try:
        seconds = float(number) * (unit or 0.0)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise ParseError(f"{quoted(word)} is not a duration (like {example}); units: ms, s, m, h")
    return f"{seconds:g}"


def _checked_address(word: str) -> str:
    import ipaddress  # needed for addresses only

    _check_zone(word)
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise ParseError(f"{quoted(word)} is not an IP address") from None


def _checked_prefix(word: str) -> str:
    import ipaddress

    _check_zone(word)
    try:
        loose = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise ParseError(f"{quoted(word)} is not an IP prefix (like 10.0.0.0/8)") from None
    try:
        return str(ipaddress.ip_network(word))
    except ValueError:
        raise ParseError(f"{word} has host bits set; did you mean {loose}?") from None


def _check_zone(word: str) -> None:
    """Refuse a zone (`fe80::1%eth0`), which Python's `ipaddress` accepts and no route has.

    Raises:
        ParseError: the address has a zone.
    """
    if "%" in word:
        raise ParseError(f"{quoted(word)} has a zone; remove the part that begins with '%'")


def _values(kind: ValueKind, start: str, live_values: LiveValues) -> Iterable[str]:
    if kind in _WORDS:
        return _WORDS[kind]
    match kind:
        case ValueKind.LEASE:
            return ("session",)
        case (
            ValueKind.INTERFACE
            | ValueKind.NEIGHBOR
            | ValueKind.PREFIX
            | ValueKind.TABLE
            | ValueKind.PROBE
            | ValueKind.SESSION
        ):
            return live_values(kind, start)
        case _:
            return ()
