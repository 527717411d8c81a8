"""Kernel attributes and types of routes in routes.yaml: read, refused in their place, written."""

from __future__ import annotations

import pytest

from routed.config.json_schema import json_schema
from routed.config.load import ConfigError, load_text
from routed.config.plan import plan
from routed.config.schema import Config
from routed.config.written import written
from routed.model.kernel_attributes import ATTRIBUTE_WORDS
from routed.model.route import RouteType

HEAD = "router_id: 10.255.0.1\nuser: nobody\n"
ALL = (
    "src: 192.0.2.1, tos: 0x10, scope: site, realm: 3/4, mtu: lock 1400, advmss: 1000, window: 5, "
    "initcwnd: 10, initrwnd: 20, hoplimit: 3, rto_min: 0.2s, quickack: true, congctl: lock reno, "
    "features: ecn"
)


def static(text: str) -> Config:
    return load_text(f"{HEAD}static:\n  - {{prefix: 10.0.0.0/8, {text}}}\n")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(HEAD + text)
    return [str(problem) for problem in caught.value.problems]


def test_every_attribute_of_a_static_route_is_read() -> None:
    (route,) = static(f"via: 192.0.2.2, {ALL}").static
    attributes = route.attributes
    assert attributes is not None
    assert (attributes.src, attributes.tos) == ("192.0.2.1", "0x10")
    assert (attributes.scope, attributes.realm) == ("site", "3/4")
    assert (attributes.mtu, attributes.advmss, attributes.window) == ("lock 1400", "1000", "5")
    assert (attributes.initcwnd, attributes.initrwnd, attributes.hoplimit) == ("10", "20", "3")
    assert (attributes.rto_min, attributes.quickack) == ("200ms", "1")
    assert (attributes.congctl, attributes.features) == ("lock reno", "ecn")
    assert attributes.pref is None
    assert route.kernel_attributes is not None
    assert [word for word, _ in route.kernel_attributes.words] == list(ATTRIBUTE_WORDS[:-1])


def test_a_plain_route_has_no_attributes() -> None:
    (route,) = static("via: 192.0.2.2").static
    assert route.attributes is None
    assert route.kernel_attributes is None
    (route,) = static("via: 192.0.2.2, quickack: false").static
    assert route.kernel_attributes is None


def test_attributes_are_written_as_they_are_read() -> None:
    config = load_text(
        f"{HEAD}static: [{{prefix: 10.0.0.0/8, via: 192.0.2.2, {ALL}}}, "
        "{prefix: '2001:db8::/32', via: '2001:db9::1', pref: low, src: '2001:db9::2'}, "
        "{prefix: 10.1.0.0/16, type: local, dev: lo}, {prefix: 10.2.0.0/16, type: throw}]\n"
        "filters: {kernel: [{set_src: '::1', set_mtu: lock 1300, source: static}]}\n"
    )
    for is_all in (False, True):
        text = "".join(f"{line.text}\n" for line in written(config, is_all=is_all))
        assert load_text(text) == config
        assert "mtu: lock 1400" in text
        assert "set_mtu: lock 1300" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mtu: 67", "static[0].mtu: 68 to 65520 is expected, not '67'"),
        ("mtu: lock", "static[0].mtu: a value after `lock` is expected, not the end"),
        ("hoplimit: 300", "static[0].hoplimit: 1 to 255 is expected, not '300'"),
        ("mtu: [1400]", "static[0].mtu: expected a single value"),
        ("mut: 1400", "static[0].mut: unknown key; did you mean 'mtu'?"),
        ("pref: low", "static[0].pref: is for IPv6 routes only"),
        ("src: '::1'", "static[0].src: ::1 is not of the family of the prefix"),
        ("congctl: a b", "static[0].congctl: the name of a TCP congestion control is expected"),
    ],
)
def test_a_wrong_attribute_is_one_problem_in_its_place(text: str, problem: str) -> None:
    before = "static:\n  - {prefix: 10.1.0.0/16, type: blackhole}\n"
    (found,) = problems(
        before.replace("\n  -", f"\n  - {{prefix: 10.0.0.0/8, via: 192.0.2.2, {text}}}\n  -")
    )
    assert found.startswith("routes.yaml:4:")
    assert problem in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{prefix: 10.0.0.0/8, type: local}", "static[0].type: a local route needs `dev`"),
        ("{prefix: 10.0.0.0/8, type: local, via: 192.0.2.1, dev: a}", "needs `dev`, and no other"),
        ("{prefix: 10.0.0.0/8, type: broadcast, next_hops: [{dev: a}]}", "and no other next hop"),
        ("{prefix: '::/0', type: broadcast, dev: a}", "static[0].type: broadcast is for IPv4"),
        ("{prefix: 10.0.0.0/8, type: throw, dev: a}", "a throw route has no next hop"),
        ("{prefix: '::/0', type: blackhole, pref: low}", "static[0].pref: is for unicast routes"),
    ],
)
def test_a_type_that_makes_no_sense_is_refused(text: str, problem: str) -> None:
    (found,) = problems(f"static: [{text}]\n")
    assert problem in found


@pytest.mark.parametrize("name", ["unicast", "local", "broadcast", "throw"])
def test_types_with_and_without_a_link(name: str) -> None:
    (route,) = static(f"type: {name}" + ("" if name == "throw" else ", dev: eth0")).static
    assert route.type.route_type is RouteType[name.upper()]


def test_a_denied_route_gets_no_attributes() -> None:
    (found,) = problems("filters: {kernel: [{action: deny, set_mtu: 1400}]}\n")
    assert "filters.kernel[0].action: `set_...` has no effect on a denied route" in found
    (found,) = problems("filters: {kernel: [{set_mtu: 1}]}\n")
    assert "filters.kernel[0].set_mtu: 68 to 65520" in found


def test_the_plan_of_a_reload_names_attributes() -> None:
    old, new = static("via: 192.0.2.2"), static("via: 192.0.2.2, src: 192.0.2.1, mtu: 1400")
    lines = [step.text for step in plan(old, new, [])]
    assert "kernel      replace 10.0.0.0/8 via 192.0.2.2 src 192.0.2.1 mtu 1400" in lines


def test_the_schema_has_the_attributes() -> None:
    properties = json_schema()["properties"]
    of_static = properties["static"]["items"]["properties"]
    of_filter = properties["filters"]["properties"]["kernel"]["items"]["properties"]
    for word in ATTRIBUTE_WORDS:
        assert of_static[word] == of_filter[f"set_{word}"]
    assert "attributes" not in of_static
