"""The kernel filter: the first matching rule decides, and is named."""

from __future__ import annotations

import pytest

from routed.config.load import load_text
from routed.engine.fib.filter import KernelFilter
from routed.model.prefix import Prefix
from routed.model.route import RouteSource

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
