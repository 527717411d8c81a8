"""Words become commands; errors name the possible words."""

from __future__ import annotations

import pytest

from ipc.control import (
    AddressFamily,
    ShowFib,
    ShowNeighbors,
    ShowRoutes,
)
from routectl.commands import TREE
from routectl.grammar import Ask, Invocation, ValueKind, leaves
from routectl.parse import ParseError, complete, describe, expected, parse


def request_of(invocation: Invocation) -> object:
    assert isinstance(invocation.leaf.action, Ask)
    return invocation.leaf.action.build(invocation)


TOP = [node.word for node in TREE.children]
SHOW = list(dict.fromkeys(words[1] for words, _ in leaves(TREE) if words[0] == "show"))


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("show neighbors", ShowNeighbors()),
        ("sh nei", ShowNeighbors()),
        ("show neighbors 10.255.0.2", ShowNeighbors("10.255.0.2")),
        ("show neighbors int eth0", ShowNeighbors(interface="eth0")),
        ("show neighbors interface interface", ShowNeighbors(interface="interface")),
        ("show neighbors fe80::2 interface eth0", ShowNeighbors("fe80::2", "eth0")),
        ("show routes", ShowRoutes()),
        ("show routes 10.0.0.0/8", ShowRoutes(prefix="10.0.0.0/8")),
        ("show routes 192.0.2.1", ShowRoutes(prefix="192.0.2.1/32")),
        ("show routes 2001:DB8::/32 lo", ShowRoutes(prefix="2001:db8::/32", is_longer=True)),
        ("show routes sel so kern", ShowRoutes(source="kernel", is_selected_only=True)),
        ("sh fib longer 10.0.0.0/8", ShowFib(prefix="10.0.0.0/8", is_longer=True)),
    ],
)
def test_commands_become_requests(line: str, request_: object) -> None:
    assert request_of(parse(line.split())) == request_


def test_the_family_is_handed_on() -> None:
    invocation = parse(["show", "routes"], AddressFamily.IPV6)
    assert request_of(invocation) == ShowRoutes(family=AddressFamily.IPV6)


def test_a_repeated_argument_takes_all_that_follow() -> None:
    invocation = parse(["lookup", "192.0.2.1", "2001:DB8::1"])
    assert invocation.values == {"addresses": ("192.0.2.1", "2001:db8::1")}


def test_an_exact_word_is_not_ambiguous() -> None:
    assert parse(["show", "route", "::1"]).leaf.word == "route"
    assert parse(["show", "routes"]).leaf.word == "routes"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", f"no command given: {', '.join(TOP)}"),
        ("show", f"show is incomplete: {', '.join(SHOW)}"),
        ("sh ro", "'ro' after show is ambiguous: routes, route"),
        ("shwo status", "'shwo' is unknown; did you mean show?"),
        ("show nieghbors", "'nieghbors' after show is unknown; did you mean neighbors?"),
        ("frobnicate", f"'frobnicate' is unknown; expected: {', '.join(TOP)}"),
        ("confirm a b", "unexpected 'b' after confirm"),
        ("show status 1", "unexpected '1' after show status"),
        ("show route", "show route needs ADDRESS|PREFIX, for example: show route 192.0.2.1"),
        ("show route here", "'here' is not an IP address"),
        ("show route 10.0.0.1/8", "10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?"),
        ("show route ten", "'ten' is not an IP address"),
        ("show route 192.0.2.1 x", "'x' after show route is unknown; expected: table"),
        ("lookup 192.0.2.1 x", "'x' is not an IP address"),
        ("show routes ten", "'ten' is not an IP prefix (like 10.0.0.0/8)"),
        ("show routes 10.0.0.1/8", "10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?"),
        ("show routes s", "'s' after show routes is ambiguous: source, selected, state"),
        ("show routes source", "source needs SOURCE after it"),
        ("topology svg", "'svg' after topology is unknown; did you mean 'format svg'?"),
        ("route add 10.0.0.0/8 blackhole",
         "'blackhole' after route add is unknown; did you mean 'type blackhole'?"),
        ("show routes source statik", "'statik' after source is unknown; did you mean static?"),
        ("show routes 10.0.0.0/8 longr",
         "'longr' after show routes is unknown; did you mean longer?"),
        ("show routes longer longer 10.0.0.0/8", "'longer' is not an IP prefix (like 10.0.0.0/8)"),
        ("show config all all", "'all' after show config is given twice"),
        ("show routes 10.0.0.0/8 longer longer", "'longer' after show routes is given twice"),
        ("route add 10.0.0.0/8 via 10.0.0.2 via 10.0.1.2", "'via' after route add is given twice"),
        ("route add 10.0.0.0/8 prefix",
         "'prefix' after route add is unknown; did you mean pref?"),
        ("route delete 10.0.0.0/8 prefix",
         "'prefix' after route delete is unknown; expected: owner, table"),
        ("route add 10.0.0.0/8 mtu lock", "mtu needs VALUE after it"),
        ("route add 10.0.0.0/8 tag 4294967296",
         "'4294967296' is too large: the maximum is 4294967295"),
        ("lookup ::1%lo", "'::1%lo' has a zone; remove the part that begins with '%'"),
        ("show route fe80::1%a", "'fe80::1%a' has a zone; remove the part that begins with '%'"),
        ("route delete fe80::1%eth0",
         "'fe80::1%eth0' has a zone; remove the part that begins with '%'"),
    ],
)  # fmt: skip
def test_errors_contain_the_correct_form(line: str, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(line.split())
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "before",
    [
        "",
        "show",
        "show route",
        "show routes",
        "show routes source",
        "route add 10.0.0.0/8 metric",
        "route add 10.0.0.0/8 lease",
    ],
)
def test_a_word_of_any_length_is_quoted_in_part(before: str) -> None:
    """Python refuses to read a number of some thousand digits, which ended in a traceback."""
    for digit in ("1", "x"):
        with pytest.raises(ParseError) as caught:
            parse([*before.split(), digit * 5_000])
        assert len(str(caught.value)) < 400


def test_an_empty_word_is_no_abbreviation() -> None:
    with pytest.raises(ParseError, match="'' is unknown"):
        parse([""])


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("", TOP),
        ("sh nei", ["NEIGHBOR", "interface"]),
        ("sh nei int", ["INTERFACE"]),
        ("sh nei int eth0", ["NEIGHBOR"]),
        (
            "show routes 10.0.0.0/8",
            ["longer", "source", "selected", "neighbor", "interface", "via", "state", "table"],
        ),
        ("show routes source", ["SOURCE"]),
        ("lookup ::1", ["ADDRESS"]),
        ("reload", ["plan", "confirm"]),
        ("confirm", ["NAME"]),
        ("help", TOP),
        ("help reload", []),
    ],
)
def test_what_may_come_next(line: str, choices: list[str]) -> None:
    assert [choice.text for choice in expected(line.split())] == choices


def live(kind: ValueKind, start: str) -> list[str]:
    del start
    return {
        ValueKind.INTERFACE: ["eth0", "eth1", "wg0"],
        ValueKind.NEIGHBOR: ["10.255.0.2", "fe80::2"],
        ValueKind.PREFIX: ["10.0.0.0/24", "10.1.0.0/16"],
    }[kind]


@pytest.mark.parametrize(
    ("line", "start", "words"),
    [
        ("", "s", ["show"]),
        ("show", "ro", ["routes", "route"]),
        ("sh int", "eth", ["eth0", "eth1"]),
        ("show neighbors", "", ["10.255.0.2", "fe80::2", "interface"]),
        ("show neighbors interface", "w", ["wg0"]),
        ("show routes", "10.1", ["10.1.0.0/16"]),
        ("show routes source", "k", ["kernel"]),
        ("show route", "1", []),
        ("help show", "fi", ["fib"]),
        ("nonsense", "", []),
    ],
)
def test_completion(line: str, start: str, words: list[str]) -> None:
    assert [choice.text for choice in complete(line.split(), start, live)] == words


def test_help_for_a_command() -> None:
    assert describe(["sh", "neigh"]) == [
        "Neighbors and the state of each adjacency",
        "",
        "  usage:    show neighbors [NEIGHBOR] [interface INTERFACE]",
        "  example:  show neighbors interface eth0",
        "  role:     read",
        "",
        "  NEIGHBOR             Only this router id or address",
        "  interface INTERFACE  Only those on this interface",
    ]


def test_help_for_a_branch_lists_what_follows() -> None:
    lines = describe(["show"])
    assert lines[0] == "Look at the daemon's state"
    assert len(lines) == 2 + 21
    assert describe([])[0].startswith("  show ")


def test_help_for_a_required_and_repeated_argument_shows_so() -> None:
    assert "  usage:    lookup ADDRESS..." in describe(["lookup"])
