"""What `reload --plan` says: every consequence, whichever option has changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from routed.config.diff import compare
from routed.config.interface_match import interface_for
from routed.config.load import load_file, load_text
from routed.config.plan import LinkPlan, plan
from routed.config.schema import Config, Nested, options_of
from routed.model.plan_step import PlanStep

FULL = load_file(Path(__file__).resolve().parents[3] / "configs" / "full.yaml")
TEXT = "router_id: 10.255.0.1\nuser: nobody\n"
BASE = load_text(TEXT)


def variants() -> Iterator[tuple[str, Config]]:
    """The smallest configuration with one option as in the full one, for each that it has."""
    for option in options_of(Config):
        field, full = option.field, getattr(FULL, option.field)
        if not isinstance(option.shape, Nested):
            yield option.key, dataclasses.replace(BASE, **{field: full})
            continue
        for inner in options_of(option.shape.cls):
            section = dataclasses.replace(
                getattr(BASE, field), **{inner.field: getattr(full, inner.field)}
            )
            yield f"{option.key}.{inner.key}", dataclasses.replace(BASE, **{field: section})


BESIDE = (
    "fib: {table: 100}", "fib: {priority: 9}", "fib: {on_exit: keep}", "fib: {resync: 5s}",
    "log: {level: debug}", "log: {format: json}", "static: [{prefix: 10.0.0.0/8, type: prohibit}]",
)  # fmt: skip
"""What the full configuration has as it is by default."""

CHANGED = [
    pytest.param(new, id=key)
    for key, new in (
        *variants(),
        *((text, load_text(f"{TEXT}{text}\n")) for text in BESIDE),
    )
    if not compare(BASE, new).is_empty  # else it is as in the full one, or needs a restart
]


@pytest.mark.parametrize("new", CHANGED)
def test_every_change_of_a_reload_has_a_line_in_both_directions(new: Config) -> None:
    assert plan(BASE, compare(BASE, new).effective, []), "to it"
    assert plan(new, compare(new, BASE).effective, []), "and back"


def texts(old: Config, new: Config) -> list[str]:
    return [step.text for step in plan(old, new, [])]


@pytest.mark.parametrize("new", CHANGED)
def test_every_step_has_its_fields_and_survives_the_way_to_a_client(new: Config) -> None:
    steps = plan(BASE, compare(BASE, new).effective, [])
    for step in steps:
        assert step.action in ACTIONS
        assert step.object
        assert PlanStep.unpacked(step.packed()) == step


ACTIONS = {
    "install", "replace", "remove", "add", "begin", "end", "change", "open", "close", "move",
    "restart",
}  # fmt: skip
"""Those that docs/routectl.md names."""


def test_a_changed_route_and_a_changed_cost_have_before_and_after() -> None:
    old, new = (
        load_text(f"{TEXT}static: [{{prefix: 10.0.0.0/8, via: 192.0.2.{number}}}]\n")
        for number in (1, 2)
    )
    (step,) = plan(old, new, [])
    assert step == PlanStep(
        "replace", "route 10.0.0.0/8", "via 192.0.2.1", "via 192.0.2.2",
        "kernel      replace 10.0.0.0/8 via 192.0.2.2",
    )  # fmt: skip
    (step,) = plan(new, load_text(TEXT), [])
    assert (step.action, step.before, step.after) == ("remove", "via 192.0.2.2", None)


def test_a_long_step_fits_into_a_line_and_a_line_that_is_none_is_a_text() -> None:
    step = PlanStep("change", "x" * 9999, "y" * 9999, None, "z" * 9999)
    assert len(step.packed()) < 1000
    assert PlanStep.unpacked(step.packed()).text == "z" * 300
    assert PlanStep.unpacked("and 7 more") == PlanStep("", "", None, None, "and 7 more")


def test_enough_options_are_looked_at() -> None:
    assert len(CHANGED) >= 15


def test_rules_summaries_and_keys_are_named_one_by_one() -> None:
    lines = texts(BASE, FULL)
    assert "kernel      add rule 1000: from 10.1.0.0/16 lookup 100 (IPv4)" in lines
    assert "announced   summary 10.20.0.0/16 begins" in lines
    assert texts(FULL, BASE).count("announced   summary 10.20.0.0/16 ends") == 1
    assert any(line.startswith("adjacency   keys 'core' are new") for line in lines)


def test_an_existing_link_is_listed_once() -> None:
    new = load_text("router_id: 10.255.0.1\nuser: nobody\ninterfaces: {eth0: {cost: 7}, wg0: {}}\n")
    links = [LinkPlan("eth0", None, interface_for(new.interfaces, "eth0"), has_socket=False)]
    assert [step.text for step in plan(BASE, new, links)] == [
        "adjacency   eth0: begins",
        "socket      eth0: opened",
        "adjacency   wg0: no such interface now; applies if one appears",
    ]


def test_no_difference_has_no_line() -> None:
    assert plan(FULL, FULL, []) == []


def test_sessions_of_bfd_are_named_one_by_one() -> None:
    head = "router_id: 10.255.0.1\nuser: nobody\n"
    old = load_text(f"{head}bfd: {{sessions: {{a: {{peer: 10.0.0.1}}, b: {{peer: 10.0.0.2}}}}}}")
    new = load_text(
        f"{head}bfd: {{sessions: {{b: {{peer: 10.0.0.9}}, c: {{peer: 10.0.0.3}}}}, relearn: 5s}}"
    )
    assert texts(old, new) == [
        "bfd         b: ends, and begins with 10.0.0.9",
        "bfd         c: begins, with 10.0.0.3",
        "bfd         a: ends with AdminDown",
        "bfd         relearn 5s from now on",
    ]
    other = load_text(f"{head}bfd: {{sessions: {{b: {{peer: 10.0.0.9, multiplier: 9}}}}}}")
    assert "bfd         b: other options, stays up" in texts(new, other)
