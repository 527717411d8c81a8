"""The kernel filter: the first matching rule decides, and is named."""

from __future__ import annotations

import pytest

from routed.config.load import load_text
from routed.engine.fib.filter import KernelFilter
from routed.model.kernel_attributes import KernelAttributes, attributes_of
from routed.model.prefix import Prefix
from routed.model.route import PathAttributes, RouteSource, RouteType

RULES = """\
router_id: 10.255.0.1
user: root
filters:
  kernel:
    - {match: [10.1.0.0/16 ge 24]}
    - {match: [10.0.0.0/8 le 32], source: static, action: deny}
    - {tag: 7, action: deny}
    - {match: ["2001:db8::/32 le 128"], source: redistributed, action: deny}
"""


@pytest.mark.parametrize(
    ("prefix", "source", "tag", "rule"),
    [
        ("10.1.2.0/24", RouteSource.STATIC, 7, None),
        ("10.1.0.0/16", RouteSource.STATIC, 0, 2),
        ("10.1.0.0/16", RouteSource.INJECTED, 0, None),
        ("10.1.0.0/16", RouteSource.INJECTED, 7, 3),
        ("192.0.2.0/24", RouteSource.STATIC, 0, None),
        ("2001:db8:1::/48", RouteSource.REDISTRIBUTED, 0, 4),
        ("2001:db8:1::/48", RouteSource.NEIGHBOR, 0, None),
    ],
)
def test_the_first_matching_rule_decides(
    prefix: str, source: RouteSource, tag: int, rule: int | None
) -> None:
    kernel_filter = KernelFilter(load_text(RULES, "routes.yaml").filters.kernel)
    expected = f"kept out by rule {rule} of filters.kernel" if rule else ""
    assert kernel_filter.refusal(Prefix.parse(prefix), source, tag) == expected


def test_without_rules_every_route_is_installed() -> None:
    assert not KernelFilter()
    assert KernelFilter().refusal(Prefix.parse("10.0.0.0/8"), RouteSource.STATIC, 0) == ""


SETTING = """\
router_id: 10.255.0.1
user: root
filters:
  kernel:
    - {source: neighbor, set_src: 10.255.0.1, set_mtu: 1400, set_pref: low, set_realm: 7}
    - {source: static, set_mtu: lock 1300, set_tos: 0x10}
    - {tag: 9, set_quickack: false, set_pref: medium, set_tos: 0, set_mtu: 1400}
    - {match: ["::/0 le 128"], set_src: "2001:db8::1", set_pref: high}
"""


def path(
    source: RouteSource,
    own: KernelAttributes | None = None,
    kind: RouteType = RouteType.UNICAST,
    tag: int = 0,
) -> PathAttributes:
    return PathAttributes(1, 0, source, "", tag=tag, type=kind, kernel_attributes=own)


@pytest.mark.parametrize(
    ("prefix", "attributes", "words"),
    [
        (
            "10.0.0.0/8",
            path(RouteSource.NEIGHBOR),
            {"src": "10.255.0.1", "mtu": "1400", "realm": "7"},
        ),
        ("2001:db8::/32", path(RouteSource.NEIGHBOR), {"mtu": "1400", "pref": "low"}),
        ("10.0.0.0/8", path(RouteSource.INJECTED), {}),
        ("2001:db8::/32", path(RouteSource.INJECTED), {"src": "2001:db8::1", "pref": "high"}),
        (
            "2001:db8::/32",
            path(RouteSource.INJECTED, kind=RouteType.BLACKHOLE),
            {"src": "2001:db8::1"},
        ),
        (
            "10.0.0.0/8",
            path(RouteSource.STATIC, attributes_of((("src", "192.0.2.1"), ("mtu", "1500")))),
            {"src": "192.0.2.1", "tos": "0x10", "mtu": "lock 1300"},
        ),
        (
            "10.0.0.0/8",
            path(
                RouteSource.INJECTED,
                attributes_of((("tos", "0x10"), ("mtu", "lock 1500"), ("quickack", "lock 1"))),
                tag=9,
            ),
            {"mtu": "1400"},
        ),
        (
            "2001:db8::/32",
            path(RouteSource.INJECTED, attributes_of((("pref", "high"),)), tag=9),
            {"mtu": "1400"},
        ),
        (
            "2001:db8::/32",
            path(RouteSource.INJECTED, kind=RouteType.BLACKHOLE, tag=9),
            {"mtu": "1400"},
        ),
    ],
)
def test_a_rule_sets_what_a_route_of_that_family_and_type_can_have(
    prefix: str, attributes: PathAttributes, words: dict[str, str]
) -> None:
    kernel_filter = KernelFilter(load_text(SETTING, "routes.yaml").filters.kernel)
    for _ in range(2):
        found = kernel_filter.attributes_of(Prefix.parse(prefix), attributes)
        assert ({} if found is None else dict(found.words)) == words
        assert found == kernel_filter.attributes_of(Prefix.parse(prefix), attributes)


def test_routes_that_share_attributes_share_the_result() -> None:
    kernel_filter = KernelFilter(load_text(SETTING, "routes.yaml").filters.kernel)
    neighbor = path(RouteSource.NEIGHBOR)
    first, second = (
        kernel_filter.attributes_of(Prefix.parse(f"10.{number}.0.0/16"), neighbor)
        for number in (1, 2)
    )
    assert first is second
    assert first is not None
