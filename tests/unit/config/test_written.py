"""A configuration comes back from what is written of it."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

import pytest

from routectl.grammar import CONFIG_SECTIONS
from routed.config.load import load_text
from routed.config.schema import Config, options_of
from routed.config.written import written

ROOT = Path(__file__).resolve().parents[3]

EVERYTHING = r"""
router_id: 10.255.0.1
user: root
sandbox: required
pid_file: /run/x y/routed.pid
log: {level: debug, format: json, file: "/var/log/it's \"odd\"\\.log"}
fib: {table: 100, protocol: 77, priority: 9, on_exit: keep, resync: 1h}
interfaces:
  "eth*": {cost: 10, hello: 100ms, multiplier: 4, key: core, rtt_cost: 5, rtt_max: 1500ms}
  wg0: {cost: 50, neighbors: ["fe80::2"], damping: {}}
  wg1: {damping: {half_life: 20s}, metric: loss}
  plain:
static:
  - {prefix: 203.0.113.0/24, via: 192.0.2.1, dev: eth0, metric: 10, tag: 7, onlink: true}
  - {prefix: "2001:db8:5::/48", next_hops: [{via: "fe80::1", dev: eth0, weight: 2}, {dev: eth1}]}
  - {prefix: "::/0", type: blackhole, distance: 250}
redistribute:
  - {source: static, metric: 20, match: ["10.0.0.0/8 ge 24", 10.255.0.1/32]}
  - {source: connected, interface: "lo*", action: deny}
management: {socket: /run/r/r.sock, read: ["group:0", "user:7"], admin: []}
keys:
  core:
    - {id: 1, algorithm: blake2s, secret_file: core.key, send_from: "2027-01-31T06:00:00.25Z"}
filters:
  import: [{action: deny, match: ["fd00::/8 le 64"]}]
  export: [{action: accept, set_metric: 7, tag: 3}]
summaries: [{prefix: 10.0.0.0/8, only: true, interface: "eth?"}]
learn: [{protocol: dhcp, table: default, distance: 9}]
rules:
  - {priority: 1000, from: 10.1.0.0/16, table: 100, fwmark: 0x10/0xff}
  - {priority: 9, type: prohibit}
  - {priority: 10, not: true, ipproto: 200, sport: 5-9, dport: 0x10/0xff0, goto: 4294967295}
  - {priority: 11, tos: 0xe0, family: ipv6, uidrange: 7, tun_id: 18446744073709551615, type: nop}
  - {priority: 12, dscp: ef, table: local, suppress_prefixlength: 0, suppress_ifgroup: 5}
  - {priority: 13, dscp: 0x8/0x38, flowlabel: 5, l3mdev: true}
  - {priority: 14, realms: 1/2, table: 2, sport: 7}
metrics: {listen: "[::1]:9705"}
"""


def text_of(config: Config, *, is_all: bool) -> str:
    return "".join(f"{line.text}\n" for line in written(config, is_all=is_all))


def texts() -> list[str]:
    files = sorted((ROOT / "configs").glob("*.yaml"))
    assert files
    return [EVERYTHING, "router_id: 1.2.3.4\nuser: root", *[f.read_text() for f in files]]


@pytest.mark.parametrize("is_all", [False, True])
@pytest.mark.parametrize("text", texts())
def test_what_is_written_loads_as_the_same(text: str, *, is_all: bool) -> None:
    config = load_text(text.replace("user: routed", "user: root"))
    assert load_text(text_of(config, is_all=is_all)) == config


def test_defaults_are_left_out_and_marked() -> None:
    config = load_text("router_id: 1.2.3.4\nuser: root\nfib: {resync: 1h}\nmetrics: {}")
    assert text_of(config, is_all=False) == (
        "router_id: 1.2.3.4\nuser: root\nfib:\n  resync: 3600s\n"
    )
    defaults = {line.option for line in written(config, is_all=True) if line.is_default}
    assert {"log.level", "fib.table", "management.admin", "static"} <= defaults
    assert not {"router_id", "user", "fib.resync"} & defaults


def test_no_system_call_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine, which answers `show config`, cannot read /etc/passwd."""
    config = load_text("router_id: 1.2.3.4\nuser: root")

    def refuse(_: str) -> object:
        raise AssertionError("the system was asked")

    monkeypatch.setattr(pwd, "getpwnam", refuse)
    monkeypatch.setattr(grp, "getgrnam", refuse)
    assert "  admin: [root]" in text_of(config, is_all=True).splitlines()


def test_a_section_is_all_that_is_shown() -> None:
    config = load_text(EVERYTHING)
    lines = list(written(config, "keys"))
    assert [line.option for line in lines] == ["keys", "keys.core", "keys.core[0]"]
    assert "secret_file: core.key" in lines[2].text


def test_every_option_of_the_schema_is_in_the_sample() -> None:
    said = text_of(load_text(EVERYTHING), is_all=True)
    for option in options_of(Config):
        assert f"{option.key}:" in said


def test_routectl_has_the_sections() -> None:
    keys = [option.key for option in options_of(Config)]
    assert list(CONFIG_SECTIONS) == keys
