"""Kernel attributes of routes: words, ranges, families, and what a filter makes of them."""

from __future__ import annotations

import pytest

from ipc.route_rules import KERNEL_ATTRIBUTES, ROUTE_TYPES
from routed.config.options import options_of
from routed.config.route_options import AttributesConfig, StaticType
from routed.model.kernel_attributes import (
    ATTRIBUTE_WORDS,
    KernelAttributes,
    Rtax,
    attributes_of,
    canonical_text,
)
from routed.model.prefix import Address, Family
from routed.model.route import RouteType
from routed.model.route_checks import kernel_problem

ALL = {
    "src": "192.0.2.1", "tos": "0x10", "scope": "site", "realm": "3/4", "mtu": "lock 1400",
    "advmss": "1000", "window": "5", "initcwnd": "10", "initrwnd": "20", "hoplimit": "3",
    "rto_min": "200ms", "quickack": "1", "congctl": "lock reno", "features": "ecn", "pref": "low",
}  # fmt: skip


def of(**words: str) -> KernelAttributes:
    found = attributes_of(tuple(words.items()))
    assert found is not None
    return found


def test_daemon_client_and_kernel_have_the_same_names() -> None:
    assert ATTRIBUTE_WORDS == KERNEL_ATTRIBUTES == tuple(ALL)
    assert tuple(option.key for option in options_of(AttributesConfig)) == ATTRIBUTE_WORDS
    labels = tuple(route_type.name.lower() for route_type in StaticType)
    assert labels == ROUTE_TYPES
    assert {route_type.name.lower() for route_type in RouteType} == set(ROUTE_TYPES)


def test_all_words_are_read_and_written() -> None:
    found = of(**ALL)
    assert found == KernelAttributes(
        src=Address.parse("192.0.2.1"), tos=16, scope=200, realm=3 << 16 | 4, mtu=1400, advmss=1000,
        window=5, initcwnd=10, initrwnd=20, hoplimit=3, rto_min_ms=200, quickack=1,
        congctl="reno", features=1, pref=3,
        locked=1 << Rtax.MTU | 1 << Rtax.RTO_MIN | 1 << Rtax.CC_ALGO,
    )  # fmt: skip
    assert found.rto_min_ms == 200
    assert dict(found.words) == ALL
    assert of(**dict(found.words)) is of(**ALL), "equal attributes are one object"
    assert str(of(mtu="lock 1400", src="::1")) == "src ::1 mtu lock 1400"


@pytest.mark.parametrize(
    ("word", "text", "canonical"),
    [
        ("rto_min", "0.2s", "200ms"), ("rto_min", "lock 1s", "1000ms"), ("rto_min", "7", "7ms"),
        ("tos", "0", "0"),
        ("scope", "253", "link"), ("scope", "7", "7"), ("realm", "9", "9"), ("realm", "0/9", "9"),
        ("quickack", "true", "1"), ("src", "2001:DB8::1", "2001:db8::1"), ("pref", "low", "low"),
        ("quickack", "false", "false"), ("pref", "medium", "medium"), ("realm", "3/0", "3/0"),
        ("mtu", "lock  68", "lock 68"),
    ],
)  # fmt: skip
def test_a_text_has_one_canonical_form(word: str, text: str, canonical: str) -> None:
    assert canonical_text(word, text) == canonical


@pytest.mark.parametrize("words", [{}, {"quickack": "0"}, {"pref": "medium", "quickack": "lock 0"}])
def test_what_is_at_its_default_is_no_attribute(words: dict[str, str]) -> None:
    assert attributes_of(tuple(words.items())) is None


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("src", "nonsense"), ("src", "0.0.0.0"), ("src", "224.0.0.1"), ("src", "192.0.2.1/24"),
        ("src", "255.255.255.255"),
        ("tos", "0x11"), ("tos", "256"), ("tos", "x"), ("tos", "-4"), ("tos", "9" * 5000),
        ("tos", "16"), ("tos", "0x1_0"),
        ("scope", "nowhere"), ("scope", "255"), ("scope", "-1"), ("realm", "0"), ("realm", "/3"),
        ("realm", "65536"), ("realm", "1/2/3"), ("mtu", "67"), ("mtu", "65521"), ("mtu", "lock"),
        ("mtu", "locked 1400"), ("mtu", "lock lock 1400"), ("mtu", "\u0661\u0662\u0663\u0664"),
        ("advmss", "0"), ("advmss", "65496"), ("window", "4294967296"), ("window", "9" * 5000),
        ("initcwnd", "0"), ("initrwnd", "x"), ("hoplimit", "0"), ("hoplimit", "256"),
        ("rto_min", "0ms"), ("rto_min", "121s"), ("rto_min", "0.5ms"), ("rto_min", "1h"),
        ("quickack", "2"), ("congctl", ""), ("congctl", "a" * 16), ("congctl", "re no"),
        ("features", "sack"), ("pref", "highest"),
    ],
)  # fmt: skip
def test_a_text_out_of_range_is_refused_by_its_word(word: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{word}: .*(is expected, not|cannot be) ") as caught:
        attributes_of(((word, text),))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("words", "problem"),
    [((("mut", "1400"),), "no attribute"), ((("mtu", "99"), ("mtu", "99")), "given twice")],
)
def test_words_are_known_and_given_once(words: tuple[tuple[str, str], ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        attributes_of(words)


@pytest.mark.parametrize(
    ("family", "words", "problem"),
    [
        (Family.IPV4, {"src": "::1"}, "src: ::1 is not of the family"),
        (Family.IPV6, {"src": "192.0.2.1"}, "src: 192.0.2.1 is not of the family"),
        (Family.IPV6, {"scope": "global"}, "scope: is for IPv4"),
        (Family.IPV6, {"realm": "3"}, "realm: is for IPv4"),
        (Family.IPV6, {"tos": "0x10"}, "tos: is for IPv4"),
        (Family.IPV4, {"pref": "low"}, "pref: is for IPv6"),
        (Family.IPV4, {"src": "192.0.2.1", "scope": "link", "realm": "3", "mtu": "1400"}, ""),
        (Family.IPV6, {"src": "::1", "pref": "high", "mtu": "1400"}, ""),
    ],
)
def test_an_attribute_of_one_family(family: Family, words: dict[str, str], problem: str) -> None:
    found = kernel_problem(family, RouteType.UNICAST, of(**words))
    assert found.startswith(problem)
    assert bool(found) is bool(problem)


def test_a_type_and_its_attributes() -> None:
    assert "unicast" in kernel_problem(Family.IPV6, RouteType.BLACKHOLE, of(pref="low"))
    assert "IPv4" in kernel_problem(Family.IPV6, RouteType.BROADCAST, None)
    assert kernel_problem(Family.IPV4, RouteType.BROADCAST, None) == ""


@pytest.mark.parametrize(
    "forged",
    [
        KernelAttributes(mtu=-1), KernelAttributes(mtu=1 << 40), KernelAttributes(features=2),
        KernelAttributes(locked=1), KernelAttributes(locked=1 << Rtax.MTU),
        KernelAttributes(scope=999), KernelAttributes(realm=-1), KernelAttributes(quickack=7),
        KernelAttributes(congctl="a b"), KernelAttributes(pref=2), KernelAttributes(pref=300),
        KernelAttributes(tos=17), KernelAttributes(tos=-4),
        KernelAttributes(rto_min_ms=200), KernelAttributes(),
    ],
)  # fmt: skip
def test_what_no_word_can_say_is_refused(forged: KernelAttributes) -> None:
    """The parent admits nothing else from an engine."""
    assert kernel_problem(Family.IPV4, RouteType.UNICAST, forged)


def test_a_filter_replaces_what_it_sets_and_keeps_the_rest() -> None:
    own = of(src="192.0.2.1", mtu="lock 1400", hoplimit="lock 3")
    over = of(mtu="1300", congctl="lock reno", scope="global", advmss="500")
    changed = own.overlaid(over, ("mtu", "congctl", "scope"))
    assert dict(changed.words) == {
        "src": "192.0.2.1", "scope": "global", "mtu": "1300", "hoplimit": "lock 3",
        "congctl": "lock reno",
    }  # fmt: skip
