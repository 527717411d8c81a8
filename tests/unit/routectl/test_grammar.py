"""The command tree is complete and consistent with the daemon."""

from __future__ import annotations

import shlex

import pytest

from ipc.control import REQUEST_TYPES, Role, SnapshotOpen
from ipc.traffic import TrafficOrder
from routectl.commands import TREE
from routectl.grammar import (
    FIB_STATES,
    ROUTE_SOURCES,
    ROUTE_TYPES,
    TRAFFIC_ORDERS,
    WATCH_TOPICS,
    Ask,
    Branch,
    Check,
    Command,
    Draw,
    ExplainAddress,
    Flag,
    Import,
    Keyword,
    Leaf,
    Local,
    Lookup,
    Node,
    Positional,
    Save,
    Watch,
    leaves,
)
from routectl.parse import describe, parse
from routectl.render.text import Record, Sections, TextLines, TextTable
from routed.control.changes import Topic
from routed.control.policy import REQUIRED_ROLE
from routed.control.views import FibState
from routed.model.route import RouteSource, RouteType

LEAVES = list(leaves(TREE))
each_leaf = pytest.mark.parametrize(
    ("words", "leaf"), LEAVES, ids=[" ".join(words) for words, _ in LEAVES]
)


@each_leaf
def test_every_command_has_help_that_is_no_sentence_with_a_full_stop(
    words: tuple[str, ...], leaf: Leaf
) -> None:
    assert leaf.help
    assert not leaf.help.endswith(".")
    lines = describe(words)
    assert leaf.help in lines
    for argument in leaf.arguments:
        assert argument.help
        assert any(argument.help in line for line in lines)


@each_leaf
def test_every_example_is_that_very_command_spelled_in_full(
    words: tuple[str, ...], leaf: Leaf
) -> None:
    example = shlex.split(leaf.example)
    assert tuple(example[: len(words)]) == words
    assert parse(example).leaf is leaf


@each_leaf
def test_every_request_has_the_role_that_the_daemon_asks_for(
    words: tuple[str, ...], leaf: Leaf
) -> None:
    match leaf.action:
        case Local():
            assert leaf.role is Role.NONE
        case (
            Ask(build)
            | Check(build)
            | Command(build)
            | ExplainAddress(build)
            | Import(build)
            | Save(build)
            | Lookup(_, build)
            | Watch(build)
            | Draw(build)
        ):
            request = build(parse(shlex.split(leaf.example)))
            assert leaf.role is REQUIRED_ROLE[REQUEST_TYPES[type(request)]]


@each_leaf
def test_every_answer_has_a_text_form(words: tuple[str, ...], leaf: Leaf) -> None:
    match leaf.action:
        case Ask(_, form) | Lookup(form) | ExplainAddress(_, form) | Watch(_, form) | Draw(_, form):
            assert isinstance(form, (TextTable, Record, Sections, TextLines))
        case Check() | Command() | Import() | Local() | Save():
            pass  # lines of text: tests/shell/test_golden.py has each


def test_every_request_of_the_protocol_has_a_command() -> None:
    built = {
        type(leaf.action.build(parse(shlex.split(leaf.example))))
        for _, leaf in LEAVES
        if not isinstance(leaf.action, Local)
    }
    assert built == set(REQUEST_TYPES)
    assert SnapshotOpen in built


def test_route_sources_and_types_are_the_daemons_own() -> None:
    assert tuple(source.label for source in RouteSource) == ROUTE_SOURCES
    assert tuple(state.value for state in FibState) == FIB_STATES
    assert tuple(order.value for order in TrafficOrder) == TRAFFIC_ORDERS
    assert tuple(topic.value for topic in Topic) == WATCH_TOPICS
    assert tuple(route_type.name.lower() for route_type in RouteType) == ROUTE_TYPES


def test_words_are_unique_among_their_siblings() -> None:
    def check(node: Node) -> None:
        if isinstance(node, Branch):
            words = [child.word for child in node.children]
            assert len(words) == len(set(words))
            for child in node.children:
                check(child)
        else:
            names = [argument.name for argument in node.arguments]
            assert len(names) == len(set(names))

    check(TREE)


@each_leaf
def test_only_the_last_positional_takes_everything_that_follows(
    words: tuple[str, ...], leaf: Leaf
) -> None:
    positionals = [argument for argument in leaf.arguments if isinstance(argument, Positional)]
    assert not any(argument.is_repeated for argument in positionals[:-1])
    for argument in leaf.arguments:
        assert isinstance(argument, (Positional, Keyword, Flag))
        assert argument.usage
