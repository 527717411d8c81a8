"""What people write who come from other programs, forget, or template: the message says what to
write instead, on one line, where it stands."""

from __future__ import annotations

import grp
import pwd

import pytest

from routed.config import hints
from routed.config.json_schema import json_schema
from routed.config.load import PROBLEMS_SHOWN_MAX, ConfigError, load_text
from routed.config.scalars import EngineUser, PrincipalKind
from routed.config.schema import Config

HEAD = "router_id: 10.255.0.1\nuser: nobody\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "f")
    return str(caught.value).split("\n")


def loaded(text: str) -> Config:
    return load_text(HEAD + text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "static: [{prefix: 10.0.0.0/8, via: eth0}]",
            "f:3:36: static[0].via: 'eth0' is not an IP address; "
            "the name of a link goes into `dev`",
        ),
        (
            "static: [{prefix: 10.0.0.0/8, dev: 192.0.2.1}]",
            "f:3:36: static[0].dev: '192.0.2.1' is an address, which belongs in `via`; "
            "`dev` names an interface",
        ),
        (
            "static: [{prefix: 10.0.0.0/8, next_hops: [{dev: '2001:db8::1'}, {dev: a}]}]",
            "f:3:49: static[0].next_hops[0].dev: '2001:db8::1' is an address, which belongs in "
            "`via`; `dev` names an interface",
        ),
        (
            "static: [{prefix: default, via: 192.0.2.1}]",
            "f:3:19: static[0].prefix: 'default' is not an IP prefix "
            "(0.0.0.0/0, or '::/0' for IPv6)",
        ),
        (
            "redistribute: [{source: connected, match: ['10.0.0.0/8{16,24}']}]",
            "f:3:44: redistribute[0].match[0]: '10.0.0.0/8{16,24}' is BIRD's notation; "
            "write '10.0.0.0/8 ge 16 le 24'",
        ),
        (
            "redistribute: [{source: connected, match: [10.0.0.0/8+]}]",
            "f:3:44: redistribute[0].match[0]: '10.0.0.0/8+' is BIRD's notation; "
            "write '10.0.0.0/8 le 32'",
        ),
        (
            "interfaces: [eth0, eth1]",
            "f:3:13: interfaces: expected a mapping (name: options), such as {eth0: {}, eth1: {}}",
        ),
        (
            "interfaces: eth0",
            "f:3:13: interfaces: expected a mapping (name: options), such as {eth0: {}}",
        ),
        (
            "keys: core",
            "f:3:7: keys: expected a mapping (name: options), such as {core: [...]}",
        ),
        (
            "static: [{prefix: 10.0.0.0/8, via: [192.0.2.1, 192.0.2.2]}]",
            "f:3:36: static[0].via: expected a single value; several next hops are "
            "`next_hops: [{via: 192.0.2.1}, {via: 192.0.2.2}]`",
        ),
        (
            "filters: {export: [{match: [0.0.0.0/0], action: reject}]}",
            "f:3:49: filters.export[0].action: expected accept or deny, got 'reject'; "
            "did you mean deny?",
        ),
        (
            "interfaces:\n\teth0: {cost: 10}",
            "f:4:1: (syntax): a tab; YAML allows only spaces for indentation and before a value",
        ),
        (
            "static: [{prefix: ::/0, via: 192.0.2.1}]",
            "f:3:19: (syntax): a value that begins with : needs quotes: '::/0'",
        ),
        (
            "interfaces:\n  *: {cost: 10}",
            "f:4:4: (syntax): a value that begins with * needs quotes: '*'",
        ),
        (
            "interfaces: {eth0: *lan}",
            "f:3:20: (syntax): no anchor &lan before *lan (a text that begins with * needs "
            "quotes: '*lan')",
        ),
        (
            "static:\u00a0[]\nlearn: []",
            "f:3:8: (syntax): U+00A0 looks like a space but is not one: replace it by a space",
        ),
        (
            "static:\n  -\u200b{prefix: 10.0.0.0/8, type: blackhole}\nlearn: []",
            "f:4:4: (syntax): U+200B looks like a space but is not one: replace it by a space",
        ),
        (
            "static: []\n---\nlearn: []",
            "f:4:1: (syntax): a second document begins here (`---`); routes.yaml must be a "
            "single document",
        ),
        (
            "static: !foo []",
            "f:3:9: (syntax): the tag !foo has no meaning here: remove it, or put a text with ! "
            "in quotes",
        ),
        (
            "pid_file: !!python/object:os.system [x]",
            "f:3:11: (syntax): the tag !!python/object:os.system has no meaning here: remove it, "
            "or put a text with ! in quotes",
        ),
        (
            f"static: [{{prefix: 10.0.0.0/8, type: blackhole, metric: {'1' * 5000}}}]",
            f"f:3:56: static[0].metric: {'1' * 400}...",
        ),
        ("interfaces:\n  @x: {}", "f:4:3: (syntax): a value that begins with @ needs quotes: '@x'"),
        (
            "interfaces:\n  {{ iface }}: {cost: 10}",
            "f:4:3: interfaces: expected a single value; "
            "{{ }} is left over from a template: render the file first",
        ),
        (
            "interfaces: {eth0: {cost: {{ cost }}}}",
            "f:3:27: interfaces.eth0.cost: expected a single value; "
            "{{ }} is left over from a template: render the file first",
        ),
        (
            "interfaces: {eth0: {cost: '{{ cost }}'}}",
            "f:3:27: interfaces.eth0.cost: expected a whole number from 1 to 65535, "
            "got '{{ cost }}'; {{ }} is left over from a template: render the file first",
        ),
        (
            "{% for link in links %}",
            "f:3:2: (syntax): {{ }} or {% %} is left over from a template: render the file first",
        ),
        (
            "metrics: {listen: 0.0.0.0:9705}",
            "f:3:19: metrics.listen: 0.0.0.0 is not a loopback address, and any client that "
            "can connect may read the metrics: listen on 127.0.0.1:9705 or unix:/path, and let a "
            "proxy with access control serve other machines",
        ),
        (
            "interfaces:\n  eth0:\n    <<: {cost: 5}",
            "f:5:5: interfaces.eth0.<<: YAML's merge keys are not supported: write the options "
            "out, or use an alias (*name) for the whole value",
        ),
    ],
)
def test_a_message_contains_the_correct_form(text: str, problem: str) -> None:
    assert problems(HEAD + text) == [problem]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("router id 10.0.0.1;\nprotocol device {\n}\nprotocol static {\n  ipv4;\n}\n", "BIRD"),
        ("log syslog all;\nprotocol kernel {\n  ipv4 { export all; };\n}\n", "BIRD"),
        ("hostname r1\nrouter ospf\n network 10.0.0.0/8 area 0\n!\n", "FRR"),
        ("frr version 8.4\nfrr defaults traditional\n!\nip route 10.0.0.0/8 192.0.2.1\n", "FRR"),
        ("[Match]\nName=eth0\n\n[Network]\nAddress=192.0.2.1/24\n", "systemd"),
    ],
)
def test_a_file_of_another_program_is_recognised(text: str, program: str) -> None:
    (problem,) = problems(text)
    assert problem.endswith(
        f"this looks like a configuration of {program}; routes.yaml is YAML (key: value)"
    )


def test_a_group_without_a_user_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    group = grp.struct_group(("routectl-users", "x", 4242, []))
    monkeypatch.setattr(grp, "getgrnam", {"routectl-users": group}.__getitem__)
    (problem,) = problems(HEAD + "management: {read: [routectl-users]}")
    assert problem.endswith("no user 'routectl-users'; for the group write group:routectl-users")
    (principal,) = loaded("management: {read: ['group:routectl-users']}").management.read
    assert (principal.kind, principal.id) == (PrincipalKind.GROUP, 4242)


# --- characters that cannot be


def test_every_control_character_is_reported_at_its_place() -> None:
    text = HEAD + "log:\n  level: in\x07fo\n  file: /a\x00b\x1b\n"
    assert problems(text) == [
        "f:4:12: (syntax): the control character U+0007 is not allowed in YAML",
        "f:5:11: (syntax): the control character U+0000 is not allowed in YAML",
        "f:5:13: (syntax): the control character U+001B is not allowed in YAML",
    ]


def test_a_file_of_control_characters_costs_its_bytes() -> None:
    told = problems("\x07\n" * 1_000_000)
    assert len(told) == PROBLEMS_SHOWN_MAX
    assert told[-1].startswith(f"f:{PROBLEMS_SHOWN_MAX}:1: ")


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0), 0xD800, 0xFFFE, 0xFFFF])
def test_exactly_the_characters_that_yaml_refuses_are_reported(code: int) -> None:
    """Else the parser would say it in its own words, at the start of the file."""
    is_taken = code in (0x09, 0x0A, 0x0D, 0x85)
    told = list(hints.unprintable_characters(f"a: 'x{chr(code)}y'"))
    assert told == (
        [] if is_taken else [(1, 6, f"the control character U+{code:04X} is not allowed in YAML")]
    )


def test_a_message_is_one_line_that_no_terminal_obeys() -> None:
    text = HEAD + 'interfaces: {"e\\x1b[31m\\n": {cots: 1}}\n"a\\nb\\e[2J": 1\n'
    told = problems(text)
    assert len(told) == 2
    assert all(line.isprintable() for line in told)
    assert told[1].startswith("f:4:1: a\\nb\\x1b[2J: unknown key")


# --- names of links

NEVER = [
    "", ".", "..", "a/b", "eth0:1", "a b", "a\tb", "a" * 16, "\u00e4" * 8, "voil\u00e0", "a\u00a0",
    "a\0", "192.0.2.1", "2001:db8::1", "fe80::1",
]  # fmt: skip
POSSIBLE = ["a", "a" * 15, "\u00e4" * 7, "eth0.7", 'a"b', "a;b", "-x", "...", "10", "e\u00e9"]


@pytest.mark.parametrize("name", NEVER)
@pytest.mark.parametrize(
    "place",
    [
        "interfaces: {NAME: {}}",
        "static: [{prefix: 10.0.0.0/8, dev: NAME}]",
        "static: [{prefix: 10.0.0.0/8, next_hops: [{dev: NAME}, {dev: x}]}]",
        "rules: [{priority: 5, table: 9, iif: NAME}]",
        "rules: [{priority: 5, table: 9, oif: NAME}]",
        "redistribute: [{source: connected, interface: NAME}]",
        "filters: {export: [{action: deny, interface: NAME}]}",
    ],
)
def test_a_name_that_no_link_can_have_is_refused_wherever_it_stands(place: str, name: str) -> None:
    """dev_valid_name() of Linux; its limit is in bytes."""
    quoted = '"' + "".join(f"\\U{ord(char):08x}" for char in name) + '"'
    (problem,) = problems(HEAD + place.replace("NAME", quoted))
    assert "cannot be an interface name" in problem or "is an address" in problem
    assert problem.startswith("f:3:")


@pytest.mark.parametrize("name", POSSIBLE)
def test_a_name_that_a_link_can_have_is_accepted(name: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(char):08x}" for char in name) + '"'
    config = loaded(
        f"interfaces: {{{quoted}: {{}}}}\nstatic: [{{prefix: 10.0.0.0/8, dev: {quoted}}}]"
    )
    assert (config.interfaces[0].pattern, config.static[0].dev) == (name, name)


# --- sections without a line, and places for anchors


def test_a_section_that_is_all_comments_is_as_good_as_none() -> None:
    text = """
log:
  # level: debug
fib:
static:
  # - {prefix: 10.0.0.0/8, via: 192.0.2.1}
interfaces:
  # eth0: {cost: 10}
redistribute: ~
management:
  admin:
    # - noc
keys: null
filters:
  export:
    # - {action: deny}
rules:
metrics:
"""
    assert loaded(text) == loaded("")


def test_a_set_of_keys_that_is_all_comments_is_empty() -> None:
    (problem,) = problems(HEAD + "keys:\n  core:\n    # - {id: 1, secret_file: a.key}\n")
    assert problem.endswith("keys.core: a set of keys needs at least one key")


@pytest.mark.parametrize("text", ["static: ''", "interfaces: ''", "router_id:\nuser: nobody"])
def test_what_is_written_as_text_or_is_required_is_not_nothing(text: str) -> None:
    assert problems(text if text.startswith("router_id") else HEAD + text)


def test_keys_at_the_top_that_begin_with_x_hold_anchors() -> None:
    config = loaded(
        "x-slow: &slow {cost: 100, hello: 5s}\nx-anything: [{}, 7, *slow]\n"
        "interfaces: {eth0: *slow, eth1: *slow}\n"
    )
    assert [(entry.pattern, entry.cost) for entry in config.interfaces] == [
        ("eth0", 100), ("eth1", 100),
    ]  # fmt: skip
    assert "^x-" in json_schema()["patternProperties"]


def test_a_holder_deeper_down_is_an_unknown_key() -> None:
    (problem,) = problems(HEAD + "fib: {x-slow: 1}")
    assert problem.startswith("f:3:7: fib.x-slow: unknown key")


def test_a_system_without_users_has_root_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A11: every configuration was a traceback, because the default of `admin` is root."""

    def knows_nobody(name: object) -> pwd.struct_passwd:
        raise KeyError(name)

    for function in ("getpwnam", "getpwuid"):
        monkeypatch.setattr(pwd, function, knows_nobody)
    monkeypatch.setattr(grp, "getgrnam", knows_nobody)
    config = load_text("router_id: 10.255.0.1\nuser: root\n")
    assert config.user == EngineUser("root", 0, 0)
    assert [who.id for who in config.management.admin] == [0]
    assert load_text("router_id: 10.255.0.1\nuser: 64123\n").user == EngineUser(
        "64123", 64123, 64123
    )
    (problem,) = problems("router_id: 10.255.0.1\n")
    assert "no user 'routed'" in problem
    (problem,) = problems("router_id: 10.255.0.1\nuser: 4294967295\n")
    assert "no user '4294967295'" in problem
