"""The section `probes`, and the next hops that name them."""

from __future__ import annotations

import pytest

from routed.config.load import load_text
from routed.config.plan import plan
from routed.config.probes import OnError, ProbeInitial
from routed.config.written import written
from routed.model.prefix import Address
from routed.model.probe import PROBES_MAX, ProbeKind, RecordType
from tests.unit.config.test_bfd import HEAD, loaded, problems

FULL = """
bfd: {sessions: {near: {peer: 192.0.2.1}}}
probes:
  echo: {kind: icmp, target: 192.0.2.1}
  far: {kind: icmp, target: "fe80::1", interface: eth0, source: "fe80::2", interval: 500ms,
        timeout: 200ms, jitter: 0s, rise: 4, fall: 5, mark: 7, invert: true, on_error: ignore,
        initial: up}
  web: {kind: tcp, target: 192.0.2.9, port: 443, interval: 5s}
  name: {kind: dns, target: 192.0.2.53, query: www.example.org, answer: 192.0.2.80, rtt_max: 80ms,
         loss_max: 5, window: 10}
  none: {kind: dns, target: 192.0.2.53, port: 5353, query: absent.example., type: aaaa,
         rcode: nxdomain}
  wire: {kind: carrier, interface: eth0}
  peer: {kind: bfd, session: near}
  both: {kind: all, of: [echo, web]}
  some: {kind: any, of: [both, wire]}
  most: {kind: at-least, least: 2, of: [echo, web, wire]}
static:
  - {prefix: 10.0.0.0/8, via: 192.0.2.1, probe: echo}
  - {prefix: 11.0.0.0/8, next_hops: [{via: 192.0.2.1, probe: both}, {via: 192.0.2.9, bfd: near}]}
  - {prefix: 12.0.0.0/8, dev: lo, probe: most}
"""


def test_probes_and_the_next_hops_that_name_them() -> None:
    config = loaded(FULL)
    echo, far, web, name, none, _, _, both, some, most = (probe.settings for probe in config.probes)
    assert (echo.kind, echo.interval_s, echo.timeout_s, echo.jitter_s) == (
        ProbeKind.ICMP, 1.0, 1.0, 0.1,
    )  # fmt: skip
    assert (echo.rise, echo.fall, echo.fails_on_error, echo.is_inverted) == (2, 3, True, False)
    assert (far.interval_s, far.timeout_s, far.jitter_s, far.rise, far.fall) == (0.5, 0.2, 0, 4, 5)
    assert (far.mark, far.is_inverted, far.fails_on_error) == (7, True, False)
    assert config.probes[1].on_error is OnError.IGNORE
    assert config.probes[1].initial is ProbeInitial.UP
    assert (web.port, web.timeout_s, web.jitter_s) == (443, 1.0, 0.5)
    assert (name.port, name.query, name.query_type, name.rcode) == (
        53, "www.example.org", RecordType.A, 0,
    )  # fmt: skip
    assert (name.answer, name.rtt_max_s) == (Address.parse("192.0.2.80"), 0.08)
    assert (name.loss_max, name.window) == (5, 10)
    assert (none.port, none.query_type, none.rcode) == (5353, RecordType.AAAA, 3)
    assert [each.least for each in (both, some, most)] == [2, 1, 2]
    trackers = [gateway.tracker for static in config.static for gateway in static.gateways]
    assert trackers == ["probe echo", "probe both", "bfd near", "probe most"]


def test_what_is_written_loads_as_the_same() -> None:
    config = loaded(FULL)
    text = "\n".join(line.text for line in written(config))
    assert load_text(text) == config


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        (
            "kind: ping",
            "probes.p.kind: expected icmp, tcp, dns, carrier, bfd, all, any or at-least",
        ),
        ("kind: dns, target: 192.0.2.1", "probes.p.kind: a probe of kind dns needs `query`"),
        ("kind: dns, target: 192.0.2.1, query: a..b", "probes.p.query: expected a domain name"),
        (
            "kind: dns, target: 192.0.2.1, query: a, type: aaaa, answer: 192.0.2.1",
            "probes.p.answer: needs `type: a`",
        ),
        (
            "kind: dns, target: 192.0.2.1, query: a, rcode: nxdomain, answer: 192.0.2.1",
            "probes.p.answer: an answer with the code nxdomain has none",
        ),
        ("kind: icmp, target: 192.0.2.1, query: a", "probes.p.query: a probe of kind icmp has no"),
        ("kind: carrier, interface: a, rtt_max: 1s", "probes.p.rtt_max: a probe of kind carrier"),
        ("kind: http, target: 192.0.2.1", "probes.p.kind: expected icmp"),
        ("kind: icmp", "probes.p.kind: a probe of kind icmp needs `target`"),
        ("kind: tcp, target: 192.0.2.1", "probes.p.kind: a probe of kind tcp needs `port`"),
        ("kind: carrier", "probes.p.kind: a probe of kind carrier needs `interface`"),
        ("kind: bfd", "probes.p.kind: a probe of kind bfd needs `session`"),
        ("kind: all", "probes.p.kind: a probe of kind all needs `of`"),
        ("kind: at-least, of: [q]", "probes.p.kind: a probe of kind at-least needs `least`"),
        ("kind: icmp, target: 192.0.2.1, port: 7", "probes.p.port: a probe of kind icmp has no"),
        ("kind: carrier, interface: a, mark: 1", "probes.p.mark: a probe of kind carrier has no"),
        ("kind: all, of: [q], fall: 4", "probes.p.fall: a probe of kind all has no `fall`"),
        ("kind: any, of: [q], least: 1", "probes.p.least: a probe of kind any has no `least`"),
        ("kind: icmp, target: 224.0.0.5", "probes.p.target: 224.0.0.5 cannot be a system's"),
        ("kind: icmp, target: 0.0.0.0", "probes.p.target: 0.0.0.0 cannot be a system's address"),
        ('kind: icmp, target: "fe80::1"', "probes.p.target: fe80::1 is link-local: name the"),
        (
            'kind: icmp, target: 192.0.2.1, source: "2001:db8::1"',
            "probes.p.source: is of another family than `target`",
        ),
        (
            "kind: icmp, target: 192.0.2.1, timeout: 2s",
            "probes.p.timeout: is longer than `interval`",
        ),
        (
            "kind: icmp, target: 192.0.2.1, jitter: 1s",
            "probes.p.jitter: must be shorter than `interval`",
        ),
        ("kind: icmp, target: example.org", "probes.p.target: "),
        ("kind: bfd, session: x", "probes.p.session: `bfd.sessions` has no 'x'; it is empty"),
        ("kind: all, of: [q, x]", "probes.p.of[1]: `probes` has no 'x'; there is p, q"),
        ("kind: all, of: [q, q]", "probes.p.of: names a probe twice"),
        ("kind: at-least, least: 3, of: [q]", "probes.p.least: `of` has 1 only"),
        ("kind: all, of: [p]", "probes.p.of: the probe follows itself"),
    ],
)
def test_a_mistake_is_named_where_it_is(probe: str, problem: str) -> None:
    text = f"probes:\n  p: {{{probe}}}\n  q: {{kind: icmp, target: 192.0.2.1}}\n"
    (found,) = problems(text)
    assert found.startswith(problem)


def test_a_circle_of_combinations_is_refused_at_each() -> None:
    text = "probes: {a: {kind: all, of: [b]}, b: {kind: any, of: [a]}, c: {kind: any, of: [a]}}\n"
    assert problems(text) == [
        "probes.a.of: the probe follows itself",
        "probes.b.of: the probe follows itself",
    ]


@pytest.mark.parametrize(
    ("static", "problem"),
    [
        ("via: 192.0.2.1, probe: x", "static[0].probe: `probes` has no 'x'; there is p"),
        ("via: 192.0.2.1, probe: p, bfd: s", "static[0].probe: a next hop follows `bfd` or"),
        ("type: blackhole, probe: p", "static[0].probe: a blackhole route has no next hop"),
        (
            "next_hops: [{via: 192.0.2.1}], probe: p",
            "static[0].probe: name the probe at each of `next_hops`",
        ),
        (
            "next_hops: [{via: 192.0.2.1, probe: x}]",
            "static[0].next_hops[0].probe: `probes` has no 'x'; there is p",
        ),
    ],
)
def test_a_user_of_a_probe_is_checked(static: str, problem: str) -> None:
    text = f"""
bfd: {{sessions: {{s: {{peer: 192.0.2.1}}}}}}
probes: {{p: {{kind: icmp, target: 192.0.2.1}}}}
static: [{{prefix: 10.0.0.0/8, {static}}}]
"""
    (found,) = problems(text)
    assert found.startswith(problem)


def test_too_many_probes_are_refused() -> None:
    lines = [f"  p{n}: {{kind: icmp, target: 192.0.2.1}}" for n in range(PROBES_MAX + 1)]
    assert problems("probes:\n" + "\n".join(lines) + "\n") == [
        f"probes: {PROBES_MAX + 1} probes; the maximum is {PROBES_MAX}"
    ]


def test_a_plan_names_what_becomes_of_each_probe() -> None:
    old = loaded("probes: {a: {kind: icmp, target: 192.0.2.1}, b: {kind: carrier, interface: x}}\n")
    new = loaded("probes: {a: {kind: icmp, target: 192.0.2.1, fall: 9}, c: {kind: any, of: [a]}}\n")
    texts = [step.text for step in plan(old, new, ())]
    assert texts == [
        "probe       a: other options, keeps its state",
        "probe       c: begins, of kind any",
        "probe       b: ends",
    ]
    other = load_text(HEAD + "probes: {a: {kind: icmp, target: 192.0.2.2}}\n")
    assert "probe       a: begins again, of kind icmp" in [
        step.text for step in plan(old, other, ())
    ]
