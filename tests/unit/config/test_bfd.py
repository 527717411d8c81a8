"""The section `bfd`, and the next hops that name its sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.config.bfd import BfdInitial
from routed.config.load import ConfigError, load_text
from routed.config.schema import Config
from routed.config.secrets import KeyFileError, read_secrets
from routed.config.written import written

HEAD = "router_id: 10.255.0.1\nuser: root\n"
KEYS = """
keys:
  nup: [{id: 1, secret_file: nup.key}]
  bfd: [{id: 2, algorithm: meticulous-keyed-sha1, secret_file: bfd.key}]
  two: [{id: 1, algorithm: password, secret_file: a}, {id: 2, algorithm: password, secret_file: b}]
"""


def loaded(text: str) -> Config:
    return load_text(HEAD + text)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


FULL = f"""{KEYS}
bfd:
  relearn: 3s
  sessions:
    near: {{peer: 192.0.2.1}}
    link: {{peer: "fe80::1", interface: eth0, transmit: 10ms, receive: 20ms, multiplier: 5}}
    far: {{peer: "2001:db8::1", source: "2001:db8::2", multihop: true, key: bfd, initial: up,
          passive: true}}
static:
  - {{prefix: 10.0.0.0/8, via: 192.0.2.1, bfd: near}}
  - {{prefix: 11.0.0.0/8, next_hops: [{{via: 192.0.2.1, bfd: near}}, {{via: 192.0.2.9}}]}}
"""


def test_sessions_and_the_next_hops_that_name_them() -> None:
    config = loaded(FULL)
    near, link, far = config.bfd.sessions
    assert (near.transmit_s, near.receive_s, near.multiplier) == (0.3, 0.3, 3)
    assert (link.transmit_s, link.receive_s, link.multiplier) == (0.01, 0.02, 5)
    assert (far.multihop, far.passive, far.initial, far.key) == (True, True, BfdInitial.UP, "bfd")
    assert config.bfd.relearn_s == 3.0
    assert [gateway.tracker for gateway in config.static[0].gateways] == ["bfd near"]
    assert [gateway.tracker for gateway in config.static[1].gateways] == ["bfd near", ""]


def test_what_is_written_loads_as_the_same() -> None:
    config = loaded(FULL)
    text = "\n".join(line.text for line in written(config))
    assert load_text(text) == config


@pytest.mark.parametrize(
    ("session", "problem"),
    [
        *(
            (
                f'peer: "{address}"',
                f"bfd.sessions.s.peer: {address} cannot be a system's address ({reason})",
            )
            for address, reason in (
                ("224.0.0.5", "multicast"),
                ("0.0.0.0", "this network"),
                ("127.0.0.1", "loopback"),
                ("255.255.255.255", "reserved"),
                ("::1", "loopback"),
                ("::", "unspecified"),
                ("ff02::1", "multicast"),
                ("::ffff:c000:201", "IPv4-mapped"),
            )
        ),
        (
            "peer: 192.0.2.1, source: 224.0.0.5",
            "bfd.sessions.s.source: 224.0.0.5 cannot be a system's address (multicast)",
        ),
        (
            'peer: "2001:db8::1", source: "fe80::2"',
            "bfd.sessions.s.source: fe80::2 is link-local: name the `interface`",
        ),
        (
            "peer: 192.0.2.1, source: 192.0.2.1",
            "bfd.sessions.s.source: is the address of the other system",
        ),
        ('peer: "fe80::1"', "bfd.sessions.s.peer: fe80::1 is link-local: name the `interface`"),
        (
            'peer: "fe80::1", interface: eth0, multihop: true',
            "bfd.sessions.s.multihop: fe80::1 is link-local: no router forwards packets to it",
        ),
        (
            'peer: 192.0.2.1, source: "2001:db8::1"',
            "bfd.sessions.s.source: is of another family than `peer`",
        ),
        ("peer: 192.0.2.1, key: x", "bfd.sessions.s.key: `keys` has no 'x'"),
        ("peer: 192.0.2.1, key: two", "bfd.sessions.s.key: 'two' has 2 keys; a session uses one"),
        (
            "peer: 192.0.2.1, key: nup",
            "bfd.sessions.s.key: the key of 'nup' is for NUP; BFD knows the algorithms password, "
            "keyed-sha1 and meticulous-keyed-sha1",
        ),
    ],
)
def test_sessions_that_cannot_be(session: str, problem: str) -> None:
    assert problems(f"{KEYS}\nbfd: {{sessions: {{s: {{{session}}}}}}}") == [problem]


@pytest.mark.parametrize("value", ["9ms", "61s", "0s"])
def test_intervals_have_a_range(value: str) -> None:
    (problem,) = problems(f"bfd: {{sessions: {{s: {{peer: 192.0.2.1, transmit: {value}}}}}}}")
    assert problem.startswith("bfd.sessions.s.transmit: ")


def test_the_same_session_is_not_written_twice() -> None:
    text = "bfd: {sessions: {a: {peer: 192.0.2.1}, b: {peer: 192.0.2.1, multiplier: 9}}}"
    assert problems(text) == [
        "bfd.sessions.b.peer: the same session as a; several users may name it"
    ]
    loaded("bfd: {sessions: {a: {peer: 192.0.2.1}, b: {peer: 192.0.2.1, interface: eth0}}}")


@pytest.mark.parametrize(
    ("static", "problem"),
    [
        ("via: 192.0.2.1, bfd: x", "static[0].bfd: `bfd.sessions` has no 'x'; there is s"),
        (
            "next_hops: [{via: 192.0.2.1, bfd: x}]",
            "static[0].next_hops[0].bfd: `bfd.sessions` has no 'x'; there is s",
        ),
        (
            "next_hops: [{via: 192.0.2.1}], bfd: s",
            "static[0].bfd: name the session at each of `next_hops`",
        ),
        ("type: blackhole, bfd: s", "static[0].bfd: a blackhole route has no next hop"),
    ],
)
def test_routes_that_name_a_session_wrongly(static: str, problem: str) -> None:
    text = "bfd: {sessions: {s: {peer: 192.0.2.1}}}\n"
    assert problems(f"{text}static: [{{prefix: 10.0.0.0/8, {static}}}]") == [problem]


def test_md5_is_refused_with_a_reason() -> None:
    (problem,) = problems("keys: {b: [{id: 1, algorithm: keyed-md5, secret_file: f}]}")
    assert "MD5 is broken" in problem


def test_nup_does_not_take_a_key_for_bfd() -> None:
    text = f"{KEYS}\ninterfaces: {{eth0: {{key: bfd}}}}"
    assert problems(text) == ["interfaces.eth0.key: the keys of 'bfd' are for BFD, not for NUP"]


@pytest.mark.parametrize(
    ("algorithm", "length", "is_accepted"),
    [
        ("password", 1, True),
        ("password", 16, True),
        ("password", 17, False),
        ("keyed-sha1", 20, True),
        ("meticulous-keyed-sha1", 21, False),
    ],
)
def test_secrets_have_the_length_of_the_specification(
    tmp_path: Path, algorithm: str, length: int, is_accepted: bool
) -> None:
    secret = tmp_path / "b.key"
    secret.write_bytes(b"x" * length)
    secret.chmod(0o600)
    config = loaded(f"keys: {{b: [{{id: 1, algorithm: {algorithm}, secret_file: b.key}}]}}")
    path = str(tmp_path / "routes.yaml")
    if is_accepted:
        assert [secret.value for secret in read_secrets(config, path)] == [b"x" * length]
    else:
        with pytest.raises(KeyFileError, match=f"of {length} bytes"):
            read_secrets(config, path)
