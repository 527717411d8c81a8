"""The difference between two configurations, in words."""

from __future__ import annotations

from routed.config.diff import compare
from routed.config.load import load_text

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
        "fib.resync: 300.0 -> 60.0",
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
