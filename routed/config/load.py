"""Decoder of routes.yaml: a `Config`, or all problems at once, each with file, line and column.

The file is composed into YAML nodes, which have positions, and decoded according to the classes of
`schema.py`. Loading it into plain dictionaries would lose the positions, silently keep the last of
two equal keys, and let YAML guess types (see `scalars.py`).

    text --compose--> nodes --decode by schema--> values --> Config
                                                     |
                                                     +--> Draft --find_problems--> more problems

Combinations of values are checked even if other values are invalid, so that one attempt shows all
problems; an entry with an invalid value is left out of these checks.

Failure: `ConfigError` with every problem found, sorted by position; nothing is loaded in part.
Bounds: a file of at most MAX_BYTES and MAX_DEPTH levels; at most one value for each character, and
ALIASED_MAX more by aliases, whose values count each time that the alias is used. The depth, and the
number of values (MAX_NODES), are checked while the file is composed, before any recursion: neither
libyaml's binding nor this decoder ever recurses deeper than MAX_DEPTH.

Other threads keep running, however long the text is: no single call into C processes all of it, and
the nodes are freed one by one.
"""

from __future__ import annotations

import difflib
import functools
import gc
import itertools
import os
import re
import stat
import typing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from routed.config import hints, permissions
from routed.config.check import Draft, find_problems
from routed.config.options import inline_classes
from routed.config.scalars import Reader
from routed.config.schema import (
    Config,
    ListOf,
    MapOf,
    NamedLists,
    Nested,
    Option,
    Scalar,
    options_of,
)

__all__ = [
    "PROBLEMS_SHOWN_MAX",
    "ConfigError",
    "Problem",
    "load_file",
    "load_text",
    "read_text",
]

MAX_BYTES = 256 * 1024 * 1024
MAX_NODES = 20_000_000
ALIASED_MAX = 100_000
"""The most values that aliases may add to those in the text: some seconds of decoding."""

MAX_DEPTH = 32
"""The most levels of nesting, by brackets or indentation; the schema needs far fewer."""

PROBLEMS_SHOWN_MAX = 100
"""The most problems shown of one file; the number of the others follows."""
_PROBLEM_TEXT_MAX = 400
"""The most characters of a key or a message, which may quote a value of any length."""

_SURE = 0.75
"""The similarity (`difflib`) from which a misspelt key certainly stands for an option."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A loader that leaves every scalar as text, which the readers of the schema interpret. It is
    libyaml's, eight times faster, if PyYAML was built with it."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}

    _depth = 0
    _count = 0

    def descend_resolver(self, parent: Any, index: object) -> None:
        """Count a node. Both composers call this before each node, before they recurse into it.

        Raises:
            yaml.MarkedYAMLError: the node is nested too deeply, or exceeds MAX_NODES.
        """
        del index
        self._count += 1
        if self._count > MAX_NODES:
            words = f"more than {MAX_NODES} values"
            raise yaml.MarkedYAMLError(problem=words, problem_mark=parent.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            words = f"nested deeper than {MAX_DEPTH} levels"
            raise yaml.MarkedYAMLError(problem=words, problem_mark=parent.start_mark)

    def ascend_resolver(self) -> None:
        """Leave a node. Both composers call this after each node."""
        self._depth -= 1

    def resolve(self, kind: type, value: object, implicit: object) -> str:
        """Return the tag of a node that has none in the file, always the same; guess no type."""
        del kind, value, implicit
        return "tag:yaml.org,2002:str"


class _Stream:
    """A text from which the parser reads in pieces; other threads can run between two of them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self, size: int = 1 << 14) -> str:
        """Return the next `size` characters, or fewer at the end of the text."""
        at, self._at = self._at, self._at + size
        return self._text[at : self._at]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A problem of a configuration, with its position."""

    file: str
    line: int
    """From 1."""
    column: int
    """From 1."""
    path: str
    """The path of a key, such as `static[2].via`, or a word in parentheses, such as `(syntax)`."""
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.path}: {self.message}"


class ConfigError(Exception):
    """The configuration is unusable; no part of it was applied."""

    def __init__(self, problems: list[Problem]) -> None:
        """Keep the problems that are shown.

        Args:
            problems: all problems, at least one, in any order. The first PROBLEMS_SHOWN_MAX in
                order of position are kept, with long texts cut; if there are more, another entry
                has their number.
        """
        in_order = sorted(problems)
        shown = [_shown(problem) for problem in in_order[:PROBLEMS_SHOWN_MAX]]
        left_out = len(in_order) - len(shown)
        if left_out:
            shown.append(replace(shown[-1], path="(more)", message=f"and {left_out} more problems"))
        super().__init__(shown)
        self.problems = shown

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def _shown(problem: Problem) -> Problem:
    return replace(problem, path=_cut(problem.path), message=_cut(problem.message))


def _printable(text: str) -> str:
    """Escape line breaks and control characters, which a quoted name may contain."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _cut(text: str) -> str:
    shown = text if len(text) <= _PROBLEM_TEXT_MAX else f"{text[:_PROBLEM_TEXT_MAX]}..."
    return _printable(shown)


def load_file(path: str | Path, *, is_from_terminal: bool = False) -> Config:
    """Read and check a configuration file.

    Args:
        path: path of the file.
        is_from_terminal: as for `read_text`.

    Raises:
        ConfigError: the file is unreadable or invalid; has all problems.
    """
    return load_text(read_text(path, is_from_terminal=is_from_terminal), str(path))


def read_text(path: str | Path, *, is_from_terminal: bool = False) -> str:
    """Read a configuration file as text, without decoding it.

    Args:
        path: path of the file.
        is_from_terminal: whether a user who waits for the result can interrupt the process. Then a
            pipe is accepted as well (`--check -c <(...)`). Otherwise a FIFO or a device is refused
            without being read, and opening it does not block.

    Raises:
        ConfigError: the file is unreadable, too large, not UTF-8, or refused (see `permissions`).
    """
    name = str(path)

    def refuse(message: str) -> ConfigError:
        return ConfigError([Problem(name, 1, 1, "(file)", message)])

    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags if is_from_terminal else flags | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            mode = status.st_mode
            if not (stat.S_ISREG(mode) or (is_from_terminal and not stat.S_ISDIR(mode))):
                raise refuse(f"is {_kind_of(mode)}, not a plain file")
            if problem := permissions.problem_with(status):
                raise refuse(problem)
            raw = b"".join(_pieces(descriptor))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise refuse(f"cannot read it: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise refuse(f"more than {MAX_BYTES} bytes is too large")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(name, line, 1, "(syntax)", "not UTF-8 text")]) from error


def _pieces(descriptor: int) -> typing.Iterator[bytes]:
    """Yield the content of a file in pieces, ending once it exceeds MAX_BYTES (an endless pipe)."""
    count = 0
    while count <= MAX_BYTES and (piece := os.read(descriptor, 1 << 20)):
        count += len(piece)
        yield piece


def _kind_of(mode: int) -> str:
    """Describe the type of a file that is not a regular file."""
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a FIFO" if stat.S_ISFIFO(mode) else "a device or socket"


def load_text(text: str, file: str = "routes.yaml") -> Config:
    """Decode and check a configuration.

    Args:
        text: the YAML.
        file: the name of the file in the reported problems.

    Raises:
        ConfigError: every problem found, sorted by position.

    Cost: about 25 us for each static route.
    """
    # Millions of nodes are created here, and none of them is garbage before the end: the garbage
    # collector would traverse them again and again (measured: a third of the time).
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return _load_text(text, file)
    finally:
        if was_collecting:
            gc.enable()


def _load_text(text: str, file: str) -> Config:
    unprintable = itertools.islice(hints.unprintable_characters(text), PROBLEMS_SHOWN_MAX)
    problems = [Problem(file, line, column, "(syntax)", w) for line, column, w in unprintable]
    if problems:
        raise ConfigError(problems)
    try:
        root = yaml.compose(_Stream(text), _Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_problem(error, text, file)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([Problem(file, 1, 1, "(syntax)", str(error))]) from error
    if root is None:
        raise ConfigError(
            [Problem(file, 1, 1, "(top)", "the file is empty; router_id is required")]
        )
    try:
        return _decoded(root, text, file)
    finally:
        _free_nodes(root)


def _free_nodes(root: Any) -> None:
    """Free the nodes one by one: freeing millions at once would block all other threads."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            for pair in node.value:
                waiting += pair
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        node.value = ()


def _decoded(root: Any, text: str, file: str) -> Config:
    if problems := [_tag_problem(node, file) for node in _tagged_nodes(root, text)]:
        raise ConfigError(problems)
    if not isinstance(root, yaml.MappingNode) and (hint := hints.foreign_file(text)):
        raise ConfigError([Problem(file, 1, 1, "(top)", hint)])
    decoder = _Decoder(file, min(MAX_NODES, len(text) + ALIASED_MAX))
    values = decoder.values(Config, root, "")
    for path, message in find_problems(Draft.of(values, file)):
        decoder.report_meaning(root, path, message)
    config = None if decoder.problems else decoder.construct(Config, root, "", values)
    if decoder.problems or config is None:
        raise ConfigError(decoder.problems)
    return typing.cast("Config", config)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    words = " ".join(part for part in (error.problem, error.context) if part)
    if mark is None:
        return Problem(file, 1, 1, "(syntax)", words)
    hint = hints.syntax_hint(text, mark.line, mark.column, words)
    if not hint and (odd := hints.odd_space(text, mark.line)) is not None:
        line, column, odd_words = odd
        return Problem(file, line + 1, column + 1, "(syntax)", odd_words)
    hint = hint or hints.foreign_file(text)
    return Problem(file, mark.line + 1, mark.column + 1, "(syntax)", hint or words)


_TAG = re.compile(r"(?m)(?:^|[\s,:\[{-])!")
"""A possible tag; quoted text may match as well."""
_PLAIN_TAGS: dict[type, tuple[str, ...]] = {
    yaml.ScalarNode: ("str", "int", "bool", "float", "null"),
    yaml.MappingNode: ("map", "str"),
    yaml.SequenceNode: ("seq", "str"),
}
"""Tags without effect, by type of node; `_Loader.resolve` gives `str` to a node without a tag."""


def _tagged_nodes(root: Any, text: str) -> typing.Iterator[Any]:
    """Yield the nodes whose tag the decoder would otherwise ignore.

    Cost: a search of the text; if it finds a possible tag, also linear in the number of nodes.
    """
    if not any(_TAG.search(text, start, end) for start, end in hints.pieces(text, overlap=1)):
        return
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _PLAIN_TAGS[type(node)]:
            yield node
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += itertools.chain.from_iterable(node.value)


def _tag_problem(node: Any, file: str) -> Problem:
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    mark = node.start_mark
    words = f"the tag {tag} has no meaning here: remove it, or put a text with ! in quotes"
    return Problem(file, mark.line + 1, mark.column + 1, "(syntax)", words)


class _Decoder:
    """A decoder of nodes by the schema, which collects all problems."""

    def __init__(self, file: str, nodes_max: int) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._nodes_max = self._nodes_left = nodes_max
        self._meant: dict[str, Any] = {}
        """Value nodes of misspelt keys, by the path with the correct key."""
        self._wrong: set[str] = set()

    def report(self, node: Any, path: str, message: str) -> None:
        mark = node.start_mark
        self._wrong.add(path)
        self.problems.append(
            Problem(self._file, mark.line + 1, mark.column + 1, path or "(top)", message)
        )

    def report_meaning(self, root: Any, path: str, message: str) -> None:
        """Report a semantic problem, at the nearest node on this path.

        A path that has another problem already is left out.
        """
        if path not in self._wrong:
            self.report(_node_at(root, path, self._meant), path, message)

    def _count(self, node: Any, path: str) -> None:
        self._nodes_left -= 1 + len(node.value)
        if self._nodes_left < 0:
            raise ConfigError(
                [
                    Problem(
                        self._file,
                        1,
                        1,
                        path,
                        f"more than {self._nodes_max} values (aliases expand)",
                    )
                ]
            )

    def mapping(self, cls: type, node: Any, path: str, **given: Any) -> Any:
        """Decode a mapping node into an instance of a class; None if it has a problem."""
        before = len(self.problems)
        values = self.values(cls, node, path)
        if len(self.problems) > before:
            return None
        return self.construct(cls, node, path, {**given, **values})

    def values(self, cls: type, node: Any, path: str) -> dict[str, Any]:
        """Decode the values of a mapping node, by field of a class, and report the problems."""
        if not isinstance(node, yaml.MappingNode):
            self.report(node, path, f"expected a mapping (key: value){_template_hint(node)}")
            return {}
        self._count(node, path)
        options = _options_by_key(cls)
        values: dict[str, Any] = {}
        first: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in first:
                line = first[key].start_mark.line + 1
                self.report(key_node, _below(path, key), f"given twice (first on line {line})")
                continue
            first[key] = key_node
            option = options.get(key)
            if option is None and not path and key.startswith(ANCHOR_PREFIX):
                continue  # a key that holds anchors
            if option is None and len(self.problems) >= PROBLEMS_SHOWN_MAX:
                self.report(key_node, _below(path, key), "unknown key")  # is counted, not shown
                continue
            if option is None:
                self.report(key_node, _below(path, key), _unknown_key(key, options, first))
                option = _surely_meant(key, options, node)
                if option is None:
                    continue
                self._meant[_below(path, option.key)] = value_node
            if _is_empty(value_node) and not isinstance(option.shape, Scalar):
                continue  # a section that has only comments counts as absent
            holder = values.setdefault(option.inside, {}) if option.inside else values
            holder[option.field] = self._value(option, value_node, path)
        self._report_missing(cls, first, node, path)
        return values

    def construct(self, cls: type, node: Any, path: str, values: dict[str, Any]) -> Any:
        """Construct an instance; a default may be invalid on this system (`user: routed`)."""
        for field, inner in inline_classes(cls).items():
            if field in values:
                values = {**values, field: inner(**values[field])}
        try:
            return cls(**values)
        except ValueError as error:
            self.report(node, f"{path}.user" if path else "user", str(error))
            return None

    def _key(self, key_node: Any, path: str) -> str | None:
        if not isinstance(key_node, yaml.ScalarNode):
            self.report(key_node, path, f"a key is one word{_template_hint(key_node)}")
            return None
        return str(key_node.value)

    def _report_missing(self, cls: type, given: dict[str, Any], node: Any, path: str) -> None:
        for option in _required(cls):
            key = option.key
            # A misspelt key has been reported already, with the correct spelling.
            if key not in given and not any(
                difflib.get_close_matches(word, [key], 1) for word in given
            ):
                self.report(node, path, f"{key!r} is required: {option.doc}")

    def _value(self, option: Option, node: Any, parent: str) -> Any:
        shape = option.shape
        if isinstance(shape, Scalar) and isinstance(node, yaml.ScalarNode):
            # Nearly every value of a large file: the path is composed only if the value is invalid.
            try:
                return shape.reader.read(node.value)
            except ValueError as error:
                message = f"{error}{_template_hint(node)}"
                self.report(node, _below(parent, option.key), message)
                return None
        path = _below(parent, option.key)
        match shape:
            case Scalar(reader=reader):
                return self._scalar(reader, node, path)
            case Nested(cls=cls):
                return self.mapping(cls, node, path)
            case ListOf(item=item):
                return self._list(item, node, path)
            case MapOf(cls=cls, key=reader):
                return self._named(cls, reader, node, path)
            case NamedLists(cls=cls, item=item, key=reader):
                return self._named_lists(cls, item, reader, node, path)

    def _scalar(self, reader: Reader[Any], node: Any, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self.report(node, path, f"expected a single value{_single_hint(node, path)}")
            return None
        try:
            return reader.read(node.value)
        except ValueError as error:
            self.report(node, path, f"{error}{_template_hint(node)}")
            return None

    def _list(self, item: type | Reader[Any], node: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.report(node, path, _no_list(node))
            return ()
        self._count(node, path)
        decoded = []
        for index, child in enumerate(node.value):
            child_path = f"{path}[{index}]"
            if isinstance(item, Reader):
                decoded.append(self._scalar(item, child, child_path))
            else:
                decoded.append(self.mapping(item, child, child_path))
        return tuple(decoded)

    def _names(
        self, reader: Reader[Any], node: Any, path: str, example: str
    ) -> typing.Iterator[tuple[str, str, Any]]:
        """Yield each name of a mapping by name, with its path and the node of its value."""
        if not isinstance(node, yaml.MappingNode):
            self.report(node, path, _no_names(node, example))
            return
        self._count(node, path)
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            name = self._scalar(reader, key_node, path)
            if name is None:
                continue
            name_path = f"{path}.{name}"
            if name in first_lines:
                self.report(key_node, name_path, f"given twice (first on line {first_lines[name]})")
                continue
            first_lines[name] = key_node.start_mark.line + 1
            yield name, name_path, value_node

    def _named_lists(
        self, cls: type, item: type, reader: Reader[Any], node: Any, path: str
    ) -> tuple[Any, ...] | None:
        named = tuple(
            cls(name, () if _is_empty(value_node) else self._list(item, value_node, name_path))
            for name, name_path, value_node in self._names(reader, node, path, "[...]")
        )
        return None if path in self._wrong else named

    def _named(self, cls: type, reader: Reader[Any], node: Any, path: str) -> tuple[Any, ...]:
        decoded = []
        for name, name_path, value_node in self._names(reader, node, path, "{}"):
            name_field = next(iter(cls.__dataclass_fields__))  # type: ignore[attr-defined]
            if _is_empty(value_node):
                decoded.append(cls(**{name_field: name}))  # `eth0:` alone has the defaults
            else:
                decoded.append(self.mapping(cls, value_node, name_path, **{name_field: name}))
        return tuple(decoded)


ANCHOR_PREFIX = "x-"
"""The prefix of a top-level key that only holds anchors, as in compose files."""


def _is_empty(node: Any) -> bool:
    """Whether a node is empty or an unquoted YAML null."""
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value in _NOTHING_WRITTEN


_NOTHING_WRITTEN = ("", "~", "null")


def _template_hint(node: Any) -> str:
    """Return the hint for a template's `{{ name }}`, which YAML reads as a mapping in a mapping."""
    is_left = (
        "{{" in node.value or "{%" in node.value
        if isinstance(node, yaml.ScalarNode)
        else isinstance(node, yaml.MappingNode)
        and any(isinstance(key, yaml.MappingNode) for key, _ in node.value)
    )
    return "; {{ }} is left over from a template: render the file first" if is_left else ""


def _single_hint(node: Any, path: str) -> str:
    if isinstance(node, yaml.SequenceNode) and path.endswith(".via"):
        hops = [f"{{via: {child.value}}}" for child in node.value if child.id == "scalar"]
        return f"; several next hops are `next_hops: [{', '.join(hops)}]`"
    return _template_hint(node)


def _no_names(node: Any, example: str) -> str:
    """Return the message for a value that should have been a mapping by name."""
    children = node.value if isinstance(node, yaml.SequenceNode) else [node]
    names = [child.value for child in children if isinstance(child, yaml.ScalarNode)]
    shown = ", ".join(f"{name}: {example}" for name in names[:_NAMES_SHOWN] if name)
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    hint = f", such as {{{shown}{more}}}" if shown else ""
    return f"expected a mapping (name: options){hint}"


_NAMES_SHOWN = 4


def _no_list(node: Any) -> str:
    if isinstance(node, yaml.ScalarNode) and node.value:
        return f"expected a list, even for one item: [{node.value}]"
    return "expected a list: items in [ ], or each on a line that begins with -"


@functools.cache
def _options_by_key(cls: type) -> dict[str, Option]:
    return {option.key: option for option in options_of(cls)}


@functools.cache
def _required(cls: type) -> tuple[Option, ...]:
    return tuple(option for option in options_of(cls) if option.is_required)


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _node_at(node: Any, path: str, meant: dict[str, Any]) -> Any:
    """Find the node at a path, or the nearest one above it.

    Args:
        node: the root.
        path: a path as in `Problem`. A name may itself contain dots and brackets (`eth0.7`).
        meant: value nodes of misspelt keys, by the path with the correct key.
    """
    at = ""
    while True:
        if isinstance(node, yaml.SequenceNode) and (found := _INDEX.match(path, len(at))):
            at = path[: found.end()]
            node = node.value[int(found[1])]
        elif isinstance(node, yaml.MappingNode):
            steps = [(_below(at, str(key.value)), value) for key, value in node.value]
            steps += meant.items()
            on_the_way = [
                (step, value)
                for step, value in steps
                if len(at) < len(step) and f"{path}.".startswith((f"{step}.", f"{step}["))
            ]
            if not on_the_way:
                return node
            at, node = max(on_the_way, key=lambda step: len(step[0]))
        else:
            return node


_INDEX = re.compile(r"\[(\d+)\]")


def _unknown_key(key: str, options: dict[str, Option], given: dict[str, Any]) -> str:
    if key == "<<":
        return (
            "YAML's merge keys are not supported: write the options out, or use an alias (*name) "
            "for the whole value"
        )
    near = difflib.get_close_matches(key, [name for name in options if name not in given], 1)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    return f"unknown key; known here: {', '.join(options)}"


def _surely_meant(key: str, options: dict[str, Option], node: Any) -> Option | None:
    """Find the option that a misspelt key certainly stands for, so that its value is checked,
    too."""
    for near in difflib.get_close_matches(key, options, 1, _SURE):
        if not any(given.value == near for given, _ in node.value):
            return options[near]
    return None
