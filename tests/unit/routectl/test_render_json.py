"""JSON for programs: always one document, whatever happens."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from routectl.render.json import JSON_VERSION, JsonOutput
from routectl.render.text import Row, TextTable

FORM = TextTable((), "")
both_forms = pytest.mark.parametrize("is_pretty", [False, True])


@both_forms
@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_are_one_document(is_pretty: bool, count: int) -> None:
    out = io.StringIO()
    rows: list[Row] = [{"n": number, "nested": {"a": [1, None]}} for number in range(count)]
    JsonOutput(out, is_pretty=is_pretty).show(FORM, [rows])
    assert json.loads(out.getvalue()) == {"version": JSON_VERSION, "data": rows}
    assert out.getvalue().endswith("\n")


def test_compact_form_has_a_row_a_line() -> None:
    out = io.StringIO()
    JsonOutput(out, is_pretty=False).show(FORM, [[{"a": 1}], [{"a": 2}]])
    assert out.getvalue() == '{"version": 1, "data": [\n{"a": 1},\n{"a": 2}\n]}\n'


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": '}, {"a": 1}'}, {"a": "}, {"}],
        [{"a": 1, "b": [{"a": 2}, {"a": 3}]}, {"a": 4, "b": []}],
        [{"a": {"a": 1}}],
        [{'\u00e4"': 1}, {'\u00e4"': 2}],
    ],
)
def test_a_row_has_a_line_of_its_own_whatever_is_in_it(rows: list[Row]) -> None:
    out = io.StringIO()
    JsonOutput(out, is_pretty=False).show(FORM, [rows, rows])
    lines = out.getvalue().splitlines()[1:-1]
    assert [json.loads(line.removesuffix(",")) for line in lines] == rows * 2


def test_pretty_form_is_what_the_standard_library_would_indent() -> None:
    out = io.StringIO()
    rows: list[Row] = [{"a": {"b": [1]}}, {"a": None}]
    JsonOutput(out, is_pretty=True).show(FORM, [rows])
    assert out.getvalue() == json.dumps({"version": 1, "data": rows}, indent=2) + "\n"


@both_forms
def test_what_was_done_is_rows_of_text(is_pretty: bool) -> None:
    out = io.StringIO()
    JsonOutput(out, is_pretty=is_pretty).report(["1 route added"])
    assert json.loads(out.getvalue())["data"] == [{"text": "1 route added"}]


@both_forms
def test_errors_are_documents_too(is_pretty: bool) -> None:
    out = io.StringIO()
    JsonOutput(out, is_pretty=is_pretty).fail("denied", "no")
    assert json.loads(out.getvalue()) == {"version": 1, "error": {"code": "denied", "text": "no"}}


@both_forms
def test_an_answer_that_breaks_off_is_still_one_document(is_pretty: bool) -> None:
    out = io.StringIO()
    output = JsonOutput(out, is_pretty=is_pretty)

    def pages() -> Iterator[list[Row]]:
        yield [{"a": 1}]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        output.show(FORM, pages())
    output.fail("unreachable", "went away")
    assert json.loads(out.getvalue()) == {
        "version": 1,
        "data": [{"a": 1}],
        "error": {"code": "unreachable", "text": "went away"},
    }


def test_the_document_after_one_that_broke_off_is_whole() -> None:
    out = io.StringIO()
    output = JsonOutput(out, is_pretty=False)
    with pytest.raises(ZeroDivisionError):
        output.show(FORM, ([{"a": 1 // number}] for number in (1, 0)))
    output.fail("unreachable", "went away")
    out.truncate(0)
    out.seek(0)
    output.show(FORM, [])
    assert json.loads(out.getvalue()) == {"version": 1, "data": []}


def test_text_outside_ascii_stays_readable() -> None:
    out = io.StringIO()
    JsonOutput(out, is_pretty=False).fail("x", "naïve")
    assert "naïve" in out.getvalue()
