"""The difference between two configurations, in words."""

from __future__ import annotations

import re
from pathlib import Path

from routed.config.diff import compare
from routed.config.load import load_text

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
BASE = "router_id: 10.255.0.1\nuser: root\n"


def changes(old: str, new: str) -> tuple[str, ...]:
    return compare(load_text(BASE + old), load_text(BASE + new)).changes


def test_equal_configurations_differ_in_nothing() -> None:
    text = "static: [{prefix: 10.0.0.0/8, dev: eth0}]\ninterfaces: {eth0: {}}\n"
    assert compare(load_text(BASE + text), load_text(BASE + text)).is_empty


def test_each_change_is_named() -> None:
    old = (
        "static: [{prefix: 10.1.0.0/16, dev: a}, {prefix: 10.2.0.0/16, dev: a}]\n"
        "interfaces: {eth0: {cost: 10}}\n"
    )
    new = (
        "static: [{prefix: 10.1.0.0/16, dev: b}, {prefix: 10.3.0.0/16, dev: a}]\n"
        "interfaces: {eth0: {cost: 20}, eth1: }\n"
        "log: {level: debug}\n"
        "fib: {resync: 60s}\n"
        "management: {read: ['65534']}\n"
    )
    assert changes(old, new) == (
        "log.level: info -> debug",
        "fib.resync: 300s -> 60s",
        "management.read: [] -> [65534]",
        "interface eth0 changed",
        "interface eth1 added",
        "static 10.2.0.0/16 removed",
        "static 10.1.0.0/16 changed",
        "static 10.3.0.0/16 added",
    )


def test_what_only_a_restart_changes_is_named_and_not_followed() -> None:
    old = load_text(BASE)
    new = load_text("router_id: 10.255.0.2\nuser: root\npid_file: /tmp/other.pid\n")
    delta = compare(old, new)
    assert delta.needs_restart == ("router_id", "pid_file")
    assert delta.effective == old
    assert delta.is_empty


def test_thousands_of_changes_are_counted_not_listed() -> None:
    statics = ", ".join(
        f"{{prefix: 10.{n >> 8}.{n & 255}.0/24, type: blackhole}}" for n in range(300)
    )
    found = changes("", f"static: [{statics}]\n")
    assert len(found) == 101
    assert found[-1] == "and 200 more changes"


def test_there_and_back_is_no_change() -> None:
    one = load_text(BASE + "static: [{prefix: 10.1.0.0/16, dev: a}]\n")
    two = load_text(BASE)
    there = compare(one, two).effective
    assert compare(one, compare(there, one).effective).is_empty


def test_values_are_written_as_the_file_has_them() -> None:
    full = """\
fib: {table: 100, resync: 90s, carrier_check: 50ms}
metrics: {listen: "unix:/run/m.sock"}
log: {file: /var/log/x.log}
allow_martians: [240.1.0.0/16]
filters:
  kernel: [{match: [203.0.113.0/24 le 32], action: deny}]
  export: [{match: ["2001:db8::/32"], action: accept}]
"""
    there = changes("", full)
    assert set(there) >= {
        "fib.table: main -> 100",
        "fib.resync: 300s -> 90s",
        "metrics.listen: (none) -> unix:/run/m.sock",
        "log.file: (none) -> /var/log/x.log",
        "filters.kernel: [] -> [{action: deny, match: [203.0.113.0/24 ge 24 le 32]}]",
        "filters.export: [] -> [{match: [2001:db8::/32]}]",
        "allow_martians: [] -> [240.1.0.0/16]",
    }
    assert {line.partition(":")[0] for line in changes(full, "")} == {
        line.partition(":")[0] for line in there
    }


def test_every_key_of_the_full_example_can_be_told() -> None:
    minimal, full = (
        load_text((CONFIGS / f"{name}.yaml").read_text().replace("user: routed", "user: root"))
        for name in ("minimal", "full")
    )
    for one, other in ((minimal, full), (full, minimal)):
        text = "\n".join(compare(one, other).changes)
        assert not re.search(r"<|\bNone\b|\w\(|\bTrue\b|\bFalse\b", text), text


def test_a_long_value_is_cut() -> None:
    prefixes = ", ".join(f"240.{n}.0.0/16" for n in range(200))
    (line,) = changes("", f"allow_martians: [{prefixes}]\n")
    assert len(line) < 250
    assert line.endswith("...")
