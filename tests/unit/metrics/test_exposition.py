"""The text as read by Prometheus' own parser has the values that were put in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older_families

from routed.engine.fib.latency import ConvergenceClock
from routed.metrics.exposition import Form, Histogram, Kind, MetricFamily, choose_form, render


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and label values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            values[tuple(sample.labels.values())] = float(sample.value)
    return found


@given(
    values=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)),
        max_size=20,
    )
)
def test_gauges_come_back_whatever_their_labels(values: dict[str, float]) -> None:
    family = MetricFamily("routed_test", Kind.GAUGE, 'help with "quotes" \\ and\nlines')
    family.add_all("label", values)
    found = parsed(render([family]))
    assert found.get("routed_test", {}) == {(name,): value for name, value in values.items()}


def test_counters_and_infos_have_their_suffixes() -> None:
    text = render(
        [
            MetricFamily("routed_a", Kind.COUNTER, "a").add(3, kind="x").add(4, kind="y"),
            MetricFamily("routed", Kind.INFO, "b").add(1, version="0.1.0"),
            MetricFamily("routed_empty", Kind.GAUGE, "left out"),
        ]
    )
    assert parsed(text) == {
        "routed_a_total": {("x",): 3, ("y",): 4},
        "routed_info": {("0.1.0",): 1},
    }
    assert text.endswith("# EOF\n")


def test_the_older_form_has_no_type_that_its_readers_do_not_know() -> None:
    histogram = Histogram((0.5,))
    histogram.observe(0.25)
    text = render(
        [
            MetricFamily("routed_a", Kind.COUNTER, 'with "quotes"').add(3, kind="x"),
            MetricFamily("routed", Kind.INFO, "b").add(1, version="0.1.0"),
            histogram.family("routed_seconds", "c"),
        ],
        Form.TEXT,
    )
    assert "# EOF" not in text
    assert '# HELP routed_a_total with "quotes"\n' in text
    families = {family.name: family for family in older_families(text)}
    assert {name: family.type for name, family in families.items()} == {
        "routed_a": "counter", "routed_info": "gauge", "routed_seconds": "histogram",
    }  # fmt: skip
    assert families["routed_a"].samples[0].name == "routed_a_total"
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.TEXT),
        ("*/*", Form.TEXT),
        ("text/plain;version=0.0.4", Form.TEXT),
        ("application/openmetrics-text; version=0.0.1", Form.OPENMETRICS),
        # Prometheus
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
         Form.OPENMETRICS),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.3", Form.TEXT),
        ("application/openmetrics-text;q=0", Form.TEXT),
        ("application/openmetrics-text;q=nan", Form.TEXT),
        ("application/openmetrics-text;q=x", Form.TEXT),
    ],
)  # fmt: skip
def test_openmetrics_is_for_clients_that_accept_it(accept: str, form: Form) -> None:
    assert choose_form(accept) is form


@given(st.text())
def test_any_accept_header_has_a_form(accept: str) -> None:
    assert choose_form(accept) in Form


@given(st.lists(st.floats(0, 20), max_size=50))
def test_a_histogram_counts_every_observation_at_or_below_its_bound(values: list[float]) -> None:
    bounds = (0.5, 1.0, 10.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    found = parsed(render([histogram.family("routed_seconds", "h")]))
    buckets = found["routed_seconds_bucket"]
    for bound in bounds:
        assert buckets[(str(bound),)] == sum(value <= bound for value in values)
    assert buckets[("+Inf",)] == found["routed_seconds_count"][()] == len(values)
    assert found["routed_seconds_sum"][()] == pytest.approx(sum(values))


def test_convergence_is_timed_from_the_oldest_change_to_the_kernels_answer() -> None:
    clock = ConvergenceClock()
    clock.decided(10.0)
    clock.decided(10.5)
    clock.sent(1, is_all=False)
    clock.sent(2, is_all=True)
    clock.sent(3, is_all=True)  # nothing was decided: the first update of an empty table
    clock.applied(1, 11.0)
    assert (clock.histogram.count, clock.histogram.sum) == (1, 1.0)
    clock.decided(20.0)
    clock.sent(4, is_all=True)
    clock.applied(4, 20.25)
    assert (clock.histogram.count, clock.histogram.sum) == (3, 1.0 + 10.25 + 0.25)
