"""Text for people: alignment, units, colour, and nothing that moves the cursor."""

from __future__ import annotations

import io

import pytest

from ipc.control import LEFT_OUT
from routectl.render.routes import next_hops_text, route_text
from routectl.render.text import (
    BATCH_ROWS,
    Column,
    Record,
    Row,
    TextOutput,
    TextTable,
    duration_text,
    ms_text,
    plain_text,
    size_text,
)
from routectl.render.views import ROUTES, STATUS, fib_counts

TABLE = TextTable(
    (
        Column("NAME", lambda row: str(row["name"]), is_colored=True),
        Column("N", lambda row: str(row["n"]), is_right=True),
    ),
    empty="nothing",
)


class Terminal(io.StringIO):
    """A terminal of some columns."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.terminal_columns = columns


@pytest.mark.parametrize("columns", [25, 26])
def test_a_table_that_is_wider_than_the_terminal_has_a_line_for_each_cell(columns: int) -> None:
    table = TextTable(
        (
            Column("PREFIX", lambda row: str(row["prefix"])),
            Column("NEXT HOPS", lambda row: str(row["hops"])),
            Column("TAG", lambda row: str(row["tag"])),
        ),
        "none",
    )
    rows: list[Row] = [
        {"prefix": "10.0.0.0/8", "hops": "eth0\neth1", "tag": "-"},
        {"prefix": "0.0.0.0/0", "hops": "eth2", "tag": "7"},
    ]
    out = Terminal(columns)
    TextOutput(out, out, has_color=False).show(table, [rows])
    if columns == 26:
        assert out.getvalue().splitlines() == [
            "PREFIX      NEXT HOPS  TAG",
            "10.0.0.0/8  eth0       -",
            "            eth1",
            "0.0.0.0/0   eth2       7",
        ]
        return
    assert out.getvalue().splitlines() == [
        "PREFIX     10.0.0.0/8",
        "NEXT HOPS  eth0",
        "           eth1",
        "",
        "PREFIX     0.0.0.0/0",
        "NEXT HOPS  eth2",
        "TAG        7",
    ]


def shown(form: TextTable | Record, *pages: list[Row], has_color: bool = False) -> str:
    out = io.StringIO()
    TextOutput(out, io.StringIO(), has_color=has_color).show(form, pages)
    return out.getvalue()


def test_columns_are_aligned_and_lines_have_no_trailing_blanks() -> None:
    rows: list[Row] = [{"name": "a", "n": 1}, {"name": "longer", "n": 100}]
    assert shown(TABLE, rows) == "NAME      N\na         1\nlonger  100\n"


def test_pages_make_one_table() -> None:
    assert shown(TABLE, [{"name": "a", "n": 1}], [{"name": "b", "n": 2}]).count("NAME") == 1


def test_an_empty_table_is_reported() -> None:
    assert shown(TABLE, []) == "nothing\n"


def test_a_cell_of_several_lines_goes_below_itself() -> None:
    assert shown(TABLE, [{"name": "a\nb", "n": 1}]) == "NAME  N\na     1\nb\n"


def test_omitted_parts_of_a_row_are_reported() -> None:
    row: Row = {"name": "lo", "n": 1, LEFT_OUT: {"addresses": 12_000}}
    text = shown(TABLE, [row, {"name": "eth0", "n": 2}])
    assert text.endswith("... lo: 12000 more of addresses are left out\n")


def test_widths_only_grow_and_titles_come_once() -> None:
    rows: list[Row] = [{"name": "a", "n": 1}] * BATCH_ROWS
    text = shown(TABLE, rows, [{"name": "longer", "n": 2}])
    lines = text.splitlines()
    assert len(lines) == BATCH_ROWS + 2
    assert lines[1] == "a     1"
    assert lines[-1] == "longer  2"


def test_the_first_batch_is_written_before_the_rest_is_read() -> None:
    out = io.StringIO()

    def pages() -> object:
        yield [{"name": "a", "n": 1}] * BATCH_ROWS
        assert out.getvalue().count("\n") == BATCH_ROWS + 1
        yield []

    TextOutput(out, io.StringIO(), has_color=False).show(TABLE, pages())  # type: ignore[arg-type]


def test_colour_marks_states_and_titles_and_only_when_asked_for() -> None:
    row: list[Row] = [{"name": "up", "n": 1}]
    assert "\x1b" not in shown(TABLE, row)
    assert "\x1b[32mup  \x1b[0m" in shown(TABLE, row, has_color=True)
    assert "\x1b[31mfailed: why\x1b[0m" in shown(
        TABLE, [{"name": "failed: why", "n": 1}], has_color=True
    )
    assert "\x1b[32m" not in shown(TABLE, [{"name": "upper", "n": 1}], has_color=True)


def test_escape_sequences_from_outside_are_shown_and_not_obeyed() -> None:
    assert "\\x1b[2J" in shown(TABLE, [{"name": "\x1b[2J", "n": 1}])
    errors = io.StringIO()
    TextOutput(io.StringIO(), errors, has_color=False).fail("internal", "bad \x07 bell")
    assert errors.getvalue() == "routectl: bad \\x07 bell\n"


def test_a_record_has_a_field_a_line() -> None:
    record = Record((Column("a", lambda row: "1\n2"), Column("long", lambda row: "3")))
    assert shown(record, [{}]) == "a     1\n      2\nlong  3\n"


@pytest.mark.parametrize(
    ("sandbox", "refusals", "words"),
    [
        ("seccomp, uid 998", 0, "seccomp, uid 998"),
        ("seccomp, uid 998", 3, "seccomp, uid 998; 3 system calls refused"),
        (
            "seccomp, uid 998",
            None,
            "seccomp, uid 998; refused system calls are not counted on this kernel",
        ),
        ("uid 998", None, "uid 998"),
    ],
)
def test_uncounted_refusals_are_not_shown_as_none(
    sandbox: str, refusals: int | None, words: str
) -> None:
    status: Row = {"sandbox": sandbox, "sandbox_refusals": refusals}
    assert f"sandbox          {words}\n" in shown(STATUS, [status])


@pytest.mark.parametrize(
    ("restarts", "words"), [(0, "never"), (2, "none since the engine was restarted")]
)
def test_a_new_engine_does_not_deny_the_reloads_before_it(restarts: int, words: str) -> None:
    status: Row = {"last_reload": None, "engine_restarts": restarts}
    assert f"last reload      {words}\n" in shown(STATUS, [status])


def test_every_line_of_an_error_has_the_program_s_name() -> None:
    errors = io.StringIO()
    TextOutput(io.StringIO(), errors, has_color=False).fail("failed", "one\ntwo")
    assert errors.getvalue() == "routectl: one\nroutectl: two\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.0s"),
        (2.44, "2.4s"),
        (45.9, "45s"),
        (725, "12m05s"),
        (3725.0, "1h02m"),
        (86_399, "23h59m"),
        (273_600, "3d04h"),
    ],
)
def test_durations(seconds: object, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("ms", "text"), [(None, "-"), (0.31, "0.3ms"), (100.0, "100ms")])
def test_milliseconds(ms: object, text: str) -> None:
    assert ms_text(ms) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "-"), (0, "0B"), (1023, "1023B"), (65_536, "64.0KiB"), (41_943_040, "40.0MiB"),
     (3 << 30, "3.0GiB"), (5 << 40, "5120.0GiB")],
)  # fmt: skip
def test_sizes(size: object, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (True, "yes"),
        (False, "no"),
        (["a", "b"], "a b"),
        (0, "0"),
    ],
)
def test_plain_values(value: object, text: str) -> None:
    assert plain_text(value) == text


def test_next_hops_read_as_ip_route_writes_them() -> None:
    via = {"via": "fe80::1", "dev": "eth0", "weight": 1}
    direct = {"via": None, "dev": "eth1", "weight": 1}
    assert next_hops_text("unicast", [via, direct]) == "via fe80::1 dev eth0\ndev eth1"
    assert next_hops_text("unicast", [{**via, "weight": 3}]) == "via fe80::1 dev eth0 weight 3"
    assert next_hops_text("blackhole", []) == "blackhole"
    assert next_hops_text("unicast", []) == "-"
    assert next_hops_text("local", [direct]) == "local dev eth1"


def test_attributes_stand_behind_one_next_hop_and_above_several() -> None:
    attributes = {"src": "10.0.0.1", "mtu": "lock 1400"}
    row: dict[str, object] = {"type": "unicast", "next_hops": [{"via": None, "dev": "eth1"}]}
    assert route_text(row) == "dev eth1"
    assert route_text(row | {"attributes": attributes}) == "dev eth1 src 10.0.0.1 mtu lock 1400"
    several = {**row, "next_hops": [{"via": None, "dev": "a"}, {"via": None, "dev": "b"}]}
    text = route_text(several | {"attributes": attributes})
    assert text == "src 10.0.0.1 mtu lock 1400\ndev a\ndev b"
    assert route_text({"type": "throw", "attributes": {}}) == "throw"


def test_the_metric_of_a_route_that_only_refuses_is_no_figure() -> None:
    route: Row = {
        "prefix": "10.0.0.0/8", "type": "unreachable", "distance": 90, "source": "neighbor"
    }  # fmt: skip
    largest = 2**32 - 2
    assert isinstance(ROUTES, TextTable)
    assert "90/inf " in shown(ROUTES, [{**route, "metric": largest}])
    assert "90/inf " in shown(ROUTES, [{**route, "metric": largest, "source": "redistributed"}])
    assert "90/77 " in shown(ROUTES, [{**route, "metric": 77}])
    used: Row = {**route, "metric": largest, "type": "unicast"}
    assert f"90/{largest} " in shown(ROUTES, [used]), "a route in use has a metric"
    injected: Row = {**route, "metric": largest, "source": "injected"}
    assert f"90/{largest} " in shown(ROUTES, [injected])


def test_stale_and_shadowed_routes_are_counted_if_there_are_any() -> None:
    fib: Row = {"desired": 4, "installed": 4, "failed": 0, "pending": 0, "stale": 2}
    assert fib_counts(fib).endswith("0 pending, 2 stale")
    assert fib_counts({**fib, "stale": 0}).endswith("0 pending")
    assert fib_counts({**fib, "shadowed": 3}).endswith(", 3 shadowed")


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 object, shown"), (2, "2 objects, shown"), (0, "objects, shown")]
)
def test_one_object_is_not_several(count: int, words: str) -> None:
    status: Row = {"fib": {"nexthop_objects": count, "nexthops": "objects, shown"}}
    column = next(each for each in STATUS.fields if each.title == "next hops")
    assert column.text(status) == words
