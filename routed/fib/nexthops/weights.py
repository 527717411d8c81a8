"""Weights of next hops within the limit of the kernel. Pure.

Linux accepts weights in a nexthop group up to 256 since 6.12, and up to 255 before. The limit is
detected when the kernel refuses a group (`NexthopTable.record`); from then on greater weights are
reduced: exactly if they have a common divisor, otherwise in proportion, each at least 1.

Source: nh_check_attr_group of Linux (net/ipv4/nexthop.c): "Invalid value for weight".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["OLD_WEIGHT_LIMIT", "reduced"]

OLD_WEIGHT_LIMIT = 255
"""The greatest weight in a nexthop group before Linux 6.12."""


def reduced(weights: Sequence[int], limit: int) -> tuple[int, ...]:
    """Scale weights to at most `limit`, in the same proportion; unchanged if they already are."""
    heaviest = max(weights, default=0)
    if heaviest <= limit:
        return tuple(weights)
    divisor = math.gcd(*weights)
    if heaviest // divisor <= limit:
        return tuple(weight // divisor for weight in weights)
    return tuple(max(1, weight * limit // heaviest) for weight in weights)
