"""The section `tables`, and static routes that name one of its entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.config import iproute2_names
from routed.config.diff import compare
from routed.config.load import ConfigError, load_text
from routed.config.plan import plan
from routed.config.tables import TABLES_MAX, statics_by_table
from routed.parent.former_tables import keys_of
from routed.parent.kernel_settings import KernelSettings

BASE = "router_id: 10.255.0.1\nuser: root\n"
ROUTE = "{prefix: 10.9.0.0/16, type: blackhole"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(BASE + text)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def rt_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of iproute2 files with two names."""
    (tmp_path / "rt_tables").write_text("100 isp2\n254 main\n253 default\n255 local\n")
    (tmp_path / "rt_tables.d").mkdir()
    (tmp_path / "rt_tables.d" / "more.conf").write_text("4294967295 last\n")
    monkeypatch.setattr(iproute2_names, "FOLDERS", (tmp_path,))
    return tmp_path


@pytest.mark.usefixtures("rt_tables")
def test_a_table_is_a_number_a_name_of_iproute2_or_a_name_of_its_own() -> None:
    config = load_text(
        f"{BASE}tables: {{7: {{}}, isp2: , last: {{}}, uplink: {{number: 300}}, default: }}"
    )
    assert [(entry.name, entry.table_id) for entry in config.tables] == [
        ("7", 7), ("isp2", 100), ("last", 2**32 - 1), ("uplink", 300), ("default", 253),
    ]  # fmt: skip
    by_name = load_text(f"{BASE}tables: {{uplink: {{number: isp2}}}}")
    assert by_name.tables[0].table_id == 100


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ("{uplink: {}}", "3:18: tables.uplink: 'uplink' is no number and no name of "),
        ("{local: {}}", "tables.local: the local table belongs to the kernel"),
        ("{own: {number: 255}}", "tables.own.number: the local table belongs to the kernel"),
        ("{main: {}}", "tables.main: `main` cannot be the name of a table"),
        ("{all: {number: 3}}", "tables.all: `all` cannot be the name of a table"),
        ("{254: {}}", "tables.254: table 254 is the daemon's main table already (`fib.table`)"),
        ("{7: {}, seven: {number: 7}}", "tables.seven: table 7 is also `tables.7`"),
        ("{0: {}}", "expected a table number from 1 to 4294967295 or a name, got '0'"),
        ("{4294967296: {}}", "expected a table number from 1 to 4294967295 or a name"),
        ("{007: {}}", "expected a table number from 1 to 4294967295 or a name, got '007'"),
        ("{7: {number: none}}", "tables.7.number: expected main, a table number"),
    ],
)
def test_an_entry_that_cannot_be_has_one_located_message(tables: str, problem: str) -> None:
    (found,) = problems(f"tables: {tables}\n")
    assert problem in found


def test_a_table_of_the_daemon_is_not_given_again() -> None:
    (found,) = problems("tables: {100: {}}\nfib: {table: 100}\n")
    assert "table 100 is the daemon's main table already" in found


def test_there_are_not_more_than_the_maximum() -> None:
    entries = ", ".join(f"{number}: {{}}" for number in range(1000, 1000 + TABLES_MAX + 1))
    assert (
        f"{TABLES_MAX + 1} tables besides the main one" in problems(f"tables: {{{entries}}}\n")[0]
    )


@pytest.mark.parametrize(
    ("named", "hint"),
    [("isp3", "did you mean 'isp2'?"), ("100", "did you mean 'isp2'?"), ("9", "tables: {9: {}}")],
)
def test_a_route_of_an_unknown_table_is_refused_with_what_to_do(named: str, hint: str) -> None:
    text = f"tables: {{isp2: {{number: 100}}}}\nstatic: [{ROUTE}, table: {named}}}]\n"
    (found,) = problems(text)
    assert "static[0].table: `tables` has no" in found
    assert hint in found


def test_one_prefix_may_be_in_each_table_once() -> None:
    tables = "tables: {7: {}, 8: {}}\n"
    routes = f"static: [{ROUTE}}}, {ROUTE}, table: 7}}, {ROUTE}, table: 8}}]\n"
    config = load_text(BASE + tables + routes)
    grouped = statics_by_table(config.static, config.tables)
    assert {name: len(found) for name, found in grouped.items()} == {None: 1, "7": 1, "8": 1}
    (found,) = problems(f"{tables}static: [{ROUTE}, table: 7}}, {ROUTE}, table: 7}}]\n")
    assert "10.9.0.0/16 is given twice" in found


def test_the_word_main_stands_for_the_main_table() -> None:
    config = load_text(f"{BASE}fib: {{table: 100}}\nstatic: [{ROUTE}, table: main}}]\n")
    assert config.static[0].table is None
    assert statics_by_table(config.static, config.tables)[None] is config.static


def test_the_parent_admits_and_keeps_all_tables() -> None:
    config = load_text(f"{BASE}tables: {{7: {{}}}}\n")
    settings = KernelSettings.of(config.fib, config.rules, config.learn, config.tables)
    assert settings.ownership.tables == {254, 7}
    assert keys_of(config) == {(254, 205), (7, 205)}


def test_a_reload_says_what_becomes_of_tables_and_their_routes() -> None:
    routes = f"static: [{ROUTE}, table: 7}}]\n"
    old = load_text(f"{BASE}tables: {{7: {{}}, uplink: {{number: 8}}, 9: {{}}}}\n{routes}")
    new = load_text(f"{BASE}tables: {{uplink: {{number: 18}}, 10: {{}}, 9: {{number: 9}}}}\n")
    assert set(compare(old, new).changes) == {
        "table 7 removed", "table uplink changed", "table 9 changed", "table 10 added",
        "static 10.9.0.0/16 table 7 removed",
    }  # fmt: skip
    texts = [step.text for step in plan(old, new, [])]
    assert texts == [
        "kernel      table uplink: its routes move from 8 to 18",
        "kernel      table 10: the daemon has routes in it from now on",
        "kernel      table 9: written in another way",
        "kernel      table 7: the daemon's routes in it are removed",
        "kernel      remove 10.9.0.0/16 table 7 blackhole",
    ]
