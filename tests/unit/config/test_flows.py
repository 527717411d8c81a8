"""The sections `dataplane.flows` and `dataplane.export`."""

from __future__ import annotations

from routed.config.diff import compare
from routed.config.written import written
from tests.unit.config.test_bfd import loaded, problems

FULL = """
dataplane:
  interfaces: [eth0]
  flows: {max: 65536, idle: 5s, active: 30s}
  export:
    ipfix:
      - {to: "192.0.2.9:4739", domain: 7}
      - {to: "[2001:db8::9]:2055"}
"""


def test_flows_and_their_collectors() -> None:
    dataplane = loaded(FULL).dataplane
    flows = dataplane.flows
    assert (flows.max, flows.idle_s, flows.active_s) == (65_536, 5.0, 30.0)
    assert [(str(each.to), each.domain) for each in dataplane.export.ipfix] == [
        ("192.0.2.9:4739", 7), ("[2001:db8::9]:2055", 0),
    ]  # fmt: skip
    text = "\n".join(line.text for line in written(loaded(FULL)))
    assert loaded(text.split("user: root\n", 1)[-1]).dataplane == dataplane


def test_flows_are_not_counted_unless_the_configuration_says_so() -> None:
    dataplane = loaded("dataplane: {interfaces: [eth0]}").dataplane
    assert (dataplane.flows.max, dataplane.export.ipfix) == (0, ())


def test_collectors_without_flows_twice_and_too_many_are_refused() -> None:
    assert problems('dataplane: {export: {ipfix: [{to: "192.0.2.9:4739"}]}}') == [
        "dataplane.export.ipfix: flows are not counted: `flows: {max: 65536}` counts them"
    ]
    twice = '{to: "192.0.2.9:4739"}, {to: "192.0.2.9:04739", domain: 1}'
    assert problems(f"dataplane: {{flows: {{max: 8}}, export: {{ipfix: [{twice}]}}}}") == [
        "dataplane.export.ipfix[1].to: 192.0.2.9:4739 is named twice"
    ]
    many = ", ".join(f'{{to: "192.0.2.9:{port}"}}' for port in range(1, 18))
    assert problems(f"dataplane: {{flows: {{max: 8}}, export: {{ipfix: [{many}]}}}}") == [
        "dataplane.export.ipfix: 17 collectors: 16 at most"
    ]


def test_a_collector_is_an_address_and_a_port() -> None:
    for wrong in ("collector.example:4739", "192.0.2.9", "192.0.2.9:0", "192.0.2.9:65536", "::1:5"):
        (found,) = problems(
            f'dataplane: {{flows: {{max: 8}}, export: {{ipfix: [{{to: "{wrong}"}}]}}}}'
        )
        assert found.startswith("dataplane.export.ipfix[0].to: expected ADDRESS:PORT")


def test_the_number_of_flows_changes_at_a_restart_and_the_rest_at_once() -> None:
    old = loaded(FULL)
    new = loaded(FULL.replace("65536", "1024").replace("idle: 5s", "idle: 6s"))
    delta = compare(old, new)
    assert delta.needs_restart == ("dataplane.flows.max",)
    assert (delta.effective.dataplane.flows.max, delta.effective.dataplane.flows.idle_s) == (
        65_536, 6.0,
    )  # fmt: skip
