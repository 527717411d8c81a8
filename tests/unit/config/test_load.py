"""routes.yaml: every mistake at once, each where it stands; nothing guessed, nothing ignored."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ipc import codec
from routed.config import hints, load
from routed.config.interface_match import interface_for
from routed.config.json_schema import json_schema
from routed.config.load import (
    PROBLEMS_SHOWN_MAX,
    ConfigError,
    load_file,
    load_text,
)
from routed.config.schema import Config, options_of
from routed.model.prefix import Address, Prefix
from routed.model.route import Gateway

MINIMAL = "router_id: 10.255.0.1\nuser: root\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "routes.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_minimal_gives_the_documented_defaults() -> None:
    config = load_text(MINIMAL)
    assert config.router_id == Address.parse("10.255.0.1")
    assert (config.fib.table_id, config.fib.protocol, config.fib.priority) == (254, 205, 205)
    assert config.fib.resync_s == 300
    assert config.management.socket == "/run/routed/routed.sock"
    assert [principal.name for principal in config.management.admin] == ["root"]
    assert config.static == ()


def test_all_mistakes_are_reported_at_once_with_their_places() -> None:
    text = (
        "router_id: 10.255.0.1\n"
        "user: root\n"
        "interfaces:\n"
        "  eth0: {cost: cheap, hallo: 1s}\n"
        "static:\n"
        "  - {prefix: 10.3.0.1/16, via: 192.0.2.300}\n"
        "  - {prefx: 10.4.0.0/16, type: blackhole}\n"
        "fib: {resync: fast}\n"
    )
    assert problems(text) == [
        "routes.yaml:4:16: interfaces.eth0.cost: expected a whole number from 1 to 65535, got "
        "'cheap'",
        "routes.yaml:4:23: interfaces.eth0.hallo: unknown key; did you mean 'hello'?",
        "routes.yaml:6:14: static[0].prefix: 10.3.0.1/16 has host bits set; did you mean "
        "10.3.0.0/16?",
        "routes.yaml:6:32: static[0].via: '192.0.2.300' is not an IP address",
        "routes.yaml:7:6: static[1].prefx: unknown key; did you mean 'prefix'?",
        "routes.yaml:8:15: fib.resync: expected a duration such as 500ms, 10s or 5m, got 'fast'",
    ]


def test_a_key_given_twice_is_refused() -> None:
    assert problems(MINIMAL + "router_id: 10.255.0.2\n") == [
        "routes.yaml:3:1: router_id: given twice (first on line 1)"
    ]
    assert "given twice" in problems(MINIMAL + "interfaces: {eth0: {}, eth0: {}}\n")[0]


def test_syntax_errors_have_the_line() -> None:
    (problem,) = problems("router_id: 10.255.0.1\nstatic: [\n")
    assert problem.startswith("routes.yaml:3:1: (syntax): ")


def test_yaml_guesses_nothing() -> None:
    config = load_text(
        MINIMAL
        + "static: [{prefix: '2001:db8:10:20::/64', via: 2001:db8:10:30::1, tag: 010, dev: 0x1}]\n"
    )
    (static,) = config.static
    assert static.via == Address.parse("2001:db8:10:30::1")
    assert static.tag == 10
    assert static.dev == "0x1"


@pytest.mark.parametrize(
    ("static", "expected"),
    [
        ("{prefix: 10.0.0.0/8}", "needs `via`, `dev`, `next_hops`, or a `type`"),
        ("{prefix: 10.0.0.0/8, type: blackhole, via: 192.0.2.1}", "has no next hop"),
        ("{prefix: 10.0.0.0/8, via: 'fe80::1'}", "link-local: name the interface"),
        ("{prefix: '2001:db8::/32', via: 192.0.2.1}", "needs an IPv6 next hop"),
        ("{prefix: 10.0.0.0/8, via: 224.0.0.5}", "cannot be a next hop"),
        ("{prefix: 10.0.0.0/8, via: 192.0.2.1, onlink: true}", "`onlink` needs `dev`"),
        ("{prefix: 10.0.0.0/8, dev: eth0, next_hops: [{dev: eth1}]}", "not both"),
        ("{prefix: 10.0.0.0/8, next_hops: [{dev: eth1}, {dev: eth1}]}", "given twice"),
        ("{prefix: 10.0.0.0/8, next_hops: [{weight: 2}]}", "needs `via`, `dev` or both"),
        ("{prefix: 10.0.0.0/8, dev: a/b}", "cannot be an interface name"),
        ("{prefix: 10.0.0.0, dev: eth0}", "is not an IP prefix"),
        ("{prefix: 10.0.0.0/33, dev: eth0}", "a prefix length is 0 to 32"),
    ],
)
def test_statics_that_cannot_be(static: str, expected: str) -> None:
    (problem,) = problems(MINIMAL + f"static:\n  - {static}\n")
    assert expected in problem
    assert problem.startswith("routes.yaml:4:")


def test_two_equal_statics_are_refused_and_floating_ones_are_not() -> None:
    one, two = "{prefix: 10.0.0.0/8, dev: eth0}", "{prefix: 10.0.0.0/8, dev: eth1"
    assert "given twice" in problems(MINIMAL + f"static: [{one}, {two}}}]\n")[0]
    assert len(load_text(MINIMAL + f"static: [{one}, {two}, distance: 200}}]\n").static) == 2


def test_a_foreign_protocol_number_is_refused() -> None:
    assert "BIRD" in problems(MINIMAL + "fib: {protocol: 12}\n")[0]


def test_an_unknown_user_is_named_with_what_to_do() -> None:
    (problem,) = problems("router_id: 10.255.0.1\nuser: nobody-has-this-name\n")
    assert "useradd" in problem
    assert problem.startswith("routes.yaml:2:7: user:")


def test_gateways_come_from_either_form() -> None:
    config = load_text(
        MINIMAL + "static:\n"
        "  - {prefix: 10.1.0.0/16, via: 192.0.2.1, dev: eth0}\n"
        "  - prefix: 10.2.0.0/16\n"
        "    next_hops: [{via: 'fe80::1', dev: eth0, weight: 3}, {dev: eth1}]\n"
    )
    assert config.static[0].gateways == (Gateway(Address.parse("192.0.2.1"), "eth0"),)
    assert config.static[1].gateways == (
        Gateway(Address.parse("fe80::1"), "eth0", 3),
        Gateway(None, "eth1"),
    )


def test_an_exact_interface_name_goes_before_patterns_in_file_order() -> None:
    config = load_text(
        MINIMAL + "interfaces: {'eth*': {cost: 1}, 'e*': {cost: 2}, eth7: {cost: 3}, lan0: }\n"
    )
    costs = {
        name: entry.cost if (entry := interface_for(config.interfaces, name)) else None
        for name in ("eth7", "eth0", "ens3", "lan0", "wg0")
    }
    assert costs == {"eth7": 3, "eth0": 1, "ens3": 2, "lan0": 10, "wg0": None}


def test_no_pattern_means_a_link_whose_name_is_no_text() -> None:
    """Its socket could not be bound, and that would be tried again every second."""
    config = load_text(MINIMAL + "interfaces: {'*': {cost: 1}}\n")
    assert interface_for(config.interfaces, "if7") is not None
    assert interface_for(config.interfaces, "if:7") is None


@pytest.mark.parametrize(
    ("match", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16"),
        ("10.255.0.0/16 ge 32", "10.255.3.4/32", "10.255.0.0/24"),
        ("10.0.0.0/8 ge 16 le 24", "10.1.0.0/20", "10.1.1.128/25"),
        ("2001:db8::/32 le 48", "2001:db8:1::/48", "2001:db8:1:1::/64"),
    ],
)
def test_prefix_matches(match: str, inside: str, outside: str) -> None:
    config = load_text(MINIMAL + f"redistribute: [{{source: static, match: ['{match}']}}]\n")
    (rule,) = config.redistribute
    assert rule.accepts(Prefix.parse(inside))
    assert not rule.accepts(Prefix.parse(outside))


@pytest.mark.parametrize("text", ["10.0.0.0/8 ge", "10.0.0.0/8 ge 4", "10.0.0.0/8 le 33", "x"])
def test_prefix_matches_that_cannot_be(text: str) -> None:
    assert problems(MINIMAL + f"redistribute: [{{source: static, match: ['{text}']}}]\n")


def test_an_unreadable_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_file(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"router_id: 10.255.0.1\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2:1: \(syntax\): not UTF-8"):
        load_file(tmp_path / "latin.yaml")


def test_an_empty_file_is_reported_with_the_required_keys() -> None:
    assert "router_id" in problems("")[0]
    assert "router_id" in problems("user: root\n")[0]


@pytest.mark.parametrize("text", ["0.0.0.0", "224.0.0.5", "255.255.255.255"])
def test_an_address_that_no_router_can_have_is_not_a_router_id(text: str) -> None:
    (problem,) = problems(f"router_id: {text}\nuser: root\n")
    assert "are not allowed" in problem


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        load_text(text)
    except ConfigError:
        pass


@given(st.text("abc:-[]{}'\"\n #&*!|>1", max_size=40))
def test_any_static_section_is_a_configuration_or_a_config_error(text: str) -> None:
    try:
        load_text(MINIMAL + "static: " + text)
    except ConfigError:
        pass


def test_the_engine_gets_the_same_configuration() -> None:
    config = load_text(
        MINIMAL + "static: [{prefix: '2001:db8::/32', via: 'fe80::1', dev: eth0}]\n"
        "redistribute: [{source: connected, match: ['10.255.0.0/16 ge 32'], tag: 7}]\n"
        "management: {read: ['group:0', 'user:65534']}\n"
    )
    assert codec.decode(Config, codec.encode(config)) == config


def _classes() -> list[type]:
    seen: list[type] = [Config]
    for cls in seen:
        for option in options_of(cls):
            for name in ("cls", "item"):
                child = getattr(option.shape, name, None)
                if isinstance(child, type) and dataclasses.is_dataclass(child):
                    seen.append(child)
    return [cls for cls in dict.fromkeys(seen) if options_of(cls)]


def test_every_option_is_documented_and_in_the_schema() -> None:
    schema = json.dumps(json_schema())
    for cls in _classes():
        for option in options_of(cls):
            assert option.doc.endswith("."), f"{cls.__name__}.{option.key}"
            assert f'"{option.key}"' in schema


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("unix:/run/routed/metrics.sock", "unix:/run/routed/metrics.sock"),
        ("127.0.0.1:9705", "127.0.0.1:9705"),
        ('"[::1]:9705"', "[::1]:9705"),
    ],
)
def test_metrics_listen_where_only_this_machine_gets(text: str, written: str) -> None:
    config = load_text(f"router_id: 10.255.0.1\nuser: nobody\nmetrics: {{listen: {text}}}\n", "f")
    assert str(config.metrics.listen) == written


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0.0.0.0:9705", "not a loopback address"),
        ("192.0.2.1:9705", "not a loopback address"),
        ("127.0.0.1:0", "expected unix:/path"),
        ("127.0.0.1", "expected unix:/path"),
        ("localhost:9705", "expected unix:/path"),
        ("unix:metrics.sock", "expected an absolute path"),
    ],
)
def test_other_places_for_metrics_are_refused_in_words(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_text(f"router_id: 10.255.0.1\nuser: nobody\nmetrics: {{listen: '{text}'}}\n", "f")


def test_a_rule_is_for_the_families_that_it_can_be_for() -> None:
    config = load_text(
        MINIMAL + "rules:\n"
        "  - {priority: 1000, from: 10.1.0.0/16, table: 100}\n"
        "  - {priority: 1010, fwmark: 0x10/0xff, table: main}\n"
        "  - {priority: 1020, family: ipv6, iif: lo, type: blackhole}\n"
    )
    found = [str(rule) for entry in config.rules for rule in entry.rules]
    assert found == [
        "1000: from 10.1.0.0/16 lookup 100",
        "1010: from all fwmark 0x10/0xff lookup main",
        "1010: from all fwmark 0x10/0xff lookup main",
        "1020: from all iif lo blackhole",
    ]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("{priority: 1000}", "needs `table`, `l3mdev`, `goto`, or a `type`"),
        (
            "{priority: 1000, table: 100, type: blackhole}",
            "a blackhole rule does not look up a table",
        ),
        ("{priority: 0, table: 100}", "1 to 4294967295"),
        ("{priority: 9, table: 100, from: 10.0.0.0/8, to: '::/0'}", "of different families"),
        ("{priority: 9, table: 100, from: 10.0.0.0/8, family: ipv4}", "leave it out"),
        ("{priority: 9, table: 100, fwmark: 0x10/0x0f}", "can never match"),
        ("{priority: 9, table: 100, fwmark: red}", "expected a mark"),
        ("{priority: 9, table: 100, fwmark: 1/0}", "its mask must not be zero"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: str, problem: str) -> None:
    (found,) = problems(MINIMAL + f"rules: [{rule}]\n")
    assert problem in found


def test_a_rule_that_is_given_twice_is_refused() -> None:
    twice = "{priority: 9, table: 100}, {priority: 9, table: 100, family: ipv6}"
    (found,) = problems(MINIMAL + f"rules: [{twice}]\n")
    assert "is the same as rules[0]" in found


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            "interfaces: {eth0: {key: core}}",
            "interfaces.eth0.key: `keys` has no 'core'; it is empty",
        ),
        (
            "keys: {a: [{id: 1, secret_file: x}]}\ninterfaces: {eth0: {key: b}}",
            "interfaces.eth0.key: `keys` has no 'b'; there is a",
        ),
        ("keys: {a: []}", "keys.a: a set of keys needs at least one key"),
        (
            "keys: {a: [{id: 1, secret_file: x}, {id: 1, secret_file: y}]}",
            "keys.a[1].id: 1 is given twice in 'a'",
        ),
        (
            "keys: {a: [{id: 1, secret_file: x, send_from: 2027-01-02T00:00:00Z, "
            "send_until: 2027-01-01T00:00:00Z}]}",
            "keys.a[0].send_until: must be later than send_from",
        ),
        (
            "interfaces: {wg0: {neighbors: [2001:db8::1]}}",
            "interfaces.wg0.neighbors[0]: 2001:db8::1 is not link-local; NUP over IPv6 uses "
            "fe80::/10",
        ),
        (
            "interfaces: {wg0: {neighbors: [192.0.2.1, 'fe80::1']}}",
            "interfaces.wg0.neighbors[1]: the neighbors on one interface must be all IPv4 or all "
            "IPv6",
        ),
        (
            "interfaces: {eth0: {accept_unsigned: true}}",
            "interfaces.eth0.accept_unsigned: has no effect without `key`",
        ),
        (
            "interfaces: {eth0: {damping: {suppress: 2000, reuse: 2000}}}",
            "interfaces.eth0.damping.reuse: must be below suppress",
        ),
        (
            "fib: {nexthop_objects: off}\n"
            "static: [{prefix: '2001:db8::/32', next_hops: [{via: 'fe80::1', dev: a}, {dev: b}]}]",
            "static[0].next_hops[1]: Linux accepts an IPv6 route with several next hops, one of "
            "them without `via`, through nexthop objects only, and `fib.nexthop_objects` is off",
        ),
        (
            "interfaces: {eth0: {metric: luck}}",
            "interfaces.eth0.metric: expected fixed or loss, got 'luck'",
        ),
        (
            "keys: {a: [{id: 1, secret_file: x, send_from: tomorrow}]}",
            "keys.a[0].send_from: expected a time with its zone such as 2027-01-31T06:00:00Z, "
            "got 'tomorrow'",
        ),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(lines: str, problem: str) -> None:
    (found,) = problems(MINIMAL + lines + "\n")
    assert found.endswith(problem)


DEEP = 300_000


@pytest.mark.parametrize(
    "text",
    [
        "static: " + "[" * DEEP,
        "static: " + "{a: " * DEEP,
        "- " * DEEP,
        "static: " + "[{a: " * DEEP,
        "? " * DEEP,
        "static: [" + "? [" * DEEP,
        "\n".join(" " * depth + "a:" for depth in range(1000)),
        "a: &a " + "[" * 40 + "*a" + "]" * 40,
    ],
    ids=["flow-list", "flow-map", "block-list", "mixed", "block-key", "flow-key", "block", "alias"],
)
def test_deep_nesting_is_refused_before_anything_recurses(text: str) -> None:
    """S29: 300,000 open brackets ended the parent, and `--check`, with SIGSEGV."""
    (problem,) = problems(text)
    assert problem.endswith(f"(syntax): nested deeper than {load.MAX_DEPTH} levels")
    assert len(problem) < 200


def test_the_deepest_configuration_there_can_be_is_far_from_the_limit() -> None:
    def depth_of(schema: object) -> int:
        if isinstance(schema, dict):
            below = max((depth_of(value) for value in schema.values()), default=0)
            return below + (schema.get("type") in ("object", "array"))
        if isinstance(schema, list):
            return max((depth_of(item) for item in schema), default=0)
        return 0

    assert 4 <= depth_of(json_schema()) <= load.MAX_DEPTH // 2


def test_an_anchor_inside_itself_is_no_endless_configuration() -> None:
    assert problems(MINIMAL + "static: &a [*a]\n") == [
        "routes.yaml:3:9: static[0]: expected a mapping (key: value)"
    ]


def test_aliases_cost_no_more_than_a_bounded_number_of_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values are counted as often as they expand; the file's own bytes pay for the rest."""
    hops = ", ".join("{via: 192.0.2.1}" for _ in range(1000))
    bomb = f"{MINIMAL}static:\n  - {{prefix: 10.0.0.0/16, next_hops: &h [{hops}]}}\n" + "".join(
        f"  - {{prefix: 10.9.{n}.0/24, next_hops: *h}}\n" for n in range(200)
    )
    mappings = 0
    real = load._Decoder.mapping

    def count_mapping(decoder: load._Decoder, cls: type, node: Any, path: str, **given: Any) -> Any:
        nonlocal mappings
        mappings += 1
        return real(decoder, cls, node, path, **given)

    monkeypatch.setattr(load._Decoder, "mapping", count_mapping)
    monkeypatch.setattr(load, "ALIASED_MAX", 5000)
    (problem,) = problems(bomb)
    assert problem.endswith("values (aliases expand)")
    assert mappings <= len(bomb) + 5000


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_a_special_file_is_refused_unread_and_at_once(tmp_path: Path, kind: str) -> None:
    """S25: a configuration on a FIFO stopped the daemon for ever."""
    path = tmp_path / "routes.yaml"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "directory":
            path.mkdir()
    with pytest.raises(ConfigError, match="not a plain file"):
        load.read_text(path)


def test_a_person_may_have_a_pipe_checked(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(MINIMAL,))
    writer.start()
    config = load_file(path, is_from_terminal=True)
    writer.join()
    assert config == load_text(MINIMAL)


@pytest.mark.parametrize(
    "long",
    ["#" + "x" * 300_000, "log: {file: /" + "x" * 300_000 + "}", "\n" * 300_000, "# é\n" * 75_000],
    ids=["comment", "scalar", "blank", "not ASCII"],
)
def test_no_step_that_nothing_interrupts_goes_over_a_whole_text(
    long: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of comment held up the parent for as long as the parser took for all of it."""
    read: list[int] = []

    class Counted(load._Stream):
        def read(self, size: int = 1 << 14) -> str:
            piece = super().read(size)
            read.append(len(piece))
            return piece

    monkeypatch.setattr(load, "_Stream", Counted)
    text = f"{MINIMAL}{long}\n"
    with contextlib.suppress(ConfigError):  # the path is too long
        load_text(text)
    assert sum(read) == len(text)
    assert max(read) <= 1 << 16
    places = list(hints.pieces(text, overlap=1))
    assert max(end - start for start, end in places) <= (1 << 16) + 1
    assert (places[0][0], places[-1][1] >= len(text)) == (0, True)
    assert all(next_[0] == end - 1 for (_, end), next_ in itertools.pairwise(places))


def test_nodes_are_let_go_of_one_by_one() -> None:
    root = yaml.compose("a: [1, {b: 2}, &x [3]]\nc: *x\n", load._Loader)
    assert root is not None
    (_, first), (_, second) = root.value
    inside = [root, first, second, *first.value]
    load._free_nodes(root)
    assert [node.value for node in inside] == [()] * len(inside)


def test_values_are_bounded_in_number_before_they_are_all_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "MAX_NODES", 100)
    with pytest.raises(ConfigError, match=r"routes.yaml:3:.* more than 100 values"):
        load_text(f"{MINIMAL}allow_martians: [{'240.1.0.0/16, ' * 100}]\n")


@pytest.mark.parametrize("before", [0, 65_535, 65_536, 65_537])
def test_a_tag_is_found_wherever_it_stands(before: int) -> None:
    text = f"{MINIMAL}#"
    text += "x" * (before - len(text)) + "\nallow_martians: !x [240.1.0.0/16]\n"
    with pytest.raises(ConfigError, match="the tag !x has no meaning here"):
        load_text(text)


def test_a_file_without_an_end_is_read_to_the_limit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MAX_BYTES", 5 << 20)
    with pytest.raises(ConfigError, match="too large"):
        load.read_text("/dev/zero", is_from_terminal=True)


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        (
            "pid_file: /etc/routed/routes.yaml\n",
            "pid_file",
            "is already used by this configuration",
        ),
        (
            "log: {file: /etc/routed/../routed/routes.yaml}\n",
            "log.file",
            "used by this configuration",
        ),
        ("log: {file: /run/routed/routed.pid}\n", "log.file", "is already used by `pid_file`"),
        (
            "log: {file: /run/routed/routed.sock}\n",
            "management.socket",
            "is already used by `log.file`",
        ),
        (
            "log: {file: /run/routed/routed.sock.lock}\n",
            "management.socket",
            "routed.sock.lock is already used by `log.file`",
        ),
        (
            "log: {file: /run/routed/routed.pid.running.yaml}\n",
            "log.file",
            "has the name of a state file",
        ),
        ("pid_file: /run/b.pid.refused.new\n", "pid_file", "has the name of a state file"),
        (
            "metrics: {listen: unix:/run/routed/routed.sock}\n",
            "metrics.listen",
            "is already used by `management.socket`",
        ),
        (
            "management: {socket: /srv/other.pid.refused.yaml}\n",
            "management.socket",
            "has the name of a state file",
        ),
    ],
)
def test_each_file_of_the_daemon_has_a_path_of_its_own(text: str, where: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("router_id: 10.0.0.1\nuser: root\n" + text, "/etc/routed/routes.yaml")
    (found,) = caught.value.problems
    assert found.path == where
    assert problem in found.message


def test_mistakes_beyond_the_shown_ones_are_not_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = 0
    look = difflib.get_close_matches

    def counting(*arguments: Any, **options: Any) -> list[str]:
        nonlocal looked
        looked += 1
        return look(*arguments, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    text = "router_id: 10.0.0.1\nuser: root\n" + "".join(f"kee{n}: 1\n" for n in range(2000))
    with pytest.raises(ConfigError, match="known here: router_id"):
        load_text(text)
    assert looked <= 2 * PROBLEMS_SHOWN_MAX
