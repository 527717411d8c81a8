"""Every form of output shows an answer with any plain values, also where columns are missing."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routectl.kernel import agreement
from routectl.render import views
from routectl.render.json import JsonOutput
from routectl.render.nup import NUP_ROUTES
from routectl.render.report import html_report
from routectl.render.text import Form, Row, TextOutput
from routectl.render.topology import FORMATS
from routectl.top import SORT_COLUMNS, Sample, Screen
from routed.control import views as answers
from routed.control.changes import ChangeView
from routed.control.nup_views import NupRouteView
from routed.control.rows import columns_of

FORMS: dict[str, tuple[Form, type]] = {
    "status": (views.STATUS, answers.StatusView),
    "neighbors": (views.NEIGHBORS, answers.NeighborView),
    "interfaces": (views.INTERFACES, answers.InterfaceView),
    "routes": (views.ROUTES, answers.RouteView),
    "fib": (views.FIB, answers.FibView),
    "counters": (views.COUNTERS, answers.CounterView),
    "config": (views.CONFIG, answers.ConfigView),
    "protocol": (views.PROTOCOL, answers.ProtocolView),
    "nexthops": (views.NEXTHOPS, answers.NextHopObjectView),
    "rules": (views.RULES, answers.RuleView),
    "log": (views.LOG, answers.LogView),
    "memory": (views.MEMORY, answers.MemoryView),
    "explain": (views.EXPLAIN, answers.ExplainView),
    "changes": (views.CHANGES, ChangeView),
    "nup routes": (NUP_ROUTES, NupRouteView),
    "topology": (views.TOPOLOGY, answers.TopologyView),
}

EXAMPLES = 20
SELF: Row = {"role": "self", "router_id": "10.255.0.9"}

WORDS = ["up", "unicast", "self", "neighbor", "router", "10.0.0.1", "\x1b[2J\u202e\n", "", "lost"]
NAMES = [
    "via", "dev", "weight", "type", "coupled", "failed", "pending", "stale", "nexthops", "ok",
    "text", "next_hops", "selected", "source", "owner", "left_out", "prefix", "lease_s", "age_s",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=8)
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=8,
)


def rows_of(view_class: type) -> st.SearchStrategy[list[Row]]:
    first, *others = columns_of(view_class)
    optional = dict.fromkeys([*others, "at", "left_out"], PLAIN)
    return st.lists(st.fixed_dictionaries({first: PLAIN}, optional=optional), max_size=3)


def check_text(text: str) -> None:
    """Assert that the text has no control character except for line ends."""
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_every_form_shows_it(name: str, data: st.DataObject) -> None:
    form, view_class = FORMS[name]
    rows = data.draw(rows_of(view_class))
    out, document = io.StringIO(), io.StringIO()
    TextOutput(out, out, has_color=False).show(form, [rows])
    check_text(out.getvalue())
    JsonOutput(document, is_pretty=False).show(form, [rows])
    assert json.loads(document.getvalue())["data"] == rows


@settings(max_examples=EXAMPLES)
@given(rows_of(answers.TopologyView), st.sampled_from(sorted(FORMATS)))
def test_every_picture_shows_it(rows: list[Row], name: str) -> None:
    for line in FORMATS[name]([SELF, *rows]):
        check_text(line)


@settings(max_examples=EXAMPLES)
@given(rows_of(answers.StatusView), rows_of(answers.TopologyView), rows_of(answers.NeighborView))
def test_the_report_shows_it(status: list[Row], network: list[Row], neighbors: list[Row]) -> None:
    sections: Any = [("Neighbors", views.NEIGHBORS, neighbors, "")]
    for line in html_report(status[0] if status else {}, [SELF, *network], sections, "now"):
        assert "\x1b" not in line


@settings(max_examples=EXAMPLES)
@given(rows_of(answers.StatusView), rows_of(answers.NeighborView))
def test_top_shows_it(status: list[Row], neighbors: list[Row]) -> None:
    screen = Screen()
    screen.take(Sample(1.0, status[0] if status else {}, neighbors, {}))
    for _ in SORT_COLUMNS:
        screen.sort_next()
        shown = screen.text()
        for code in ("\x1b[1m", "\x1b[0m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"):
            shown = shown.replace(code, "")
        check_text(shown)


@settings(max_examples=EXAMPLES)
@given(rows_of(answers.ExplainView))
def test_the_answer_of_the_kernel_is_compared_with_it(rows: list[Row]) -> None:
    kernel: Row = {
        "type": "unicast", "prefix": "10.0.0.0/8",
        "next_hops": [{"via": "10.0.0.1", "dev": "eth0"}],
    }  # fmt: skip
    for row in rows:
        agreement(row, kernel)
        agreement(row, {**kernel, "prefix": None})
