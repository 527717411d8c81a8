"""Synthetic full tables, and addresses to look up in them: seeded, so every run has the same.

The shapes follow public reports on the default-free zone (potaroo.net, 2024): IPv4 is 62 % /24 with
58 % more-specifics, IPv6 40 % /48. More-specifics come in runs of adjacent prefixes inside a few
popular parents, as in reality; the IPv6 table is more nested than the real one, which is the harder
case.
"""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "IPV4",
    "IPV6",
    "Route",
    "Shape",
    "full_table",
    "packed",
    "random_addresses",
    "zipf_addresses",
]

Route = tuple[int, int, int]
"""(network bits, prefix length, number of its next hop)."""

NEXT_HOPS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The parameters of a table."""

    width: int
    regions: Sequence[tuple[int, int]]
    """(network, length) in which the top-level prefixes lie, in order."""
    shares: dict[int, float]
    """Percent of the table by prefix length."""
    nested: float
    """How much of it lies inside another prefix, 0 to 1."""
    gap_bits: int
    """Gaps between runs of top-level prefixes are up to three networks of this length."""


IPV4 = Shape(
    width=32,
    regions=[(top << 24, 8) for top in range(1, 224) if top not in (10, 127)],
    shares={
        9: 0.002, 10: 0.004, 11: 0.01, 12: 0.03, 13: 0.06, 14: 0.12, 15: 0.21, 16: 1.36, 17: 0.83,
        18: 1.4, 19: 2.5, 20: 4.4, 21: 5, 22: 11, 23: 10, 24: 62.5, 25: 0.08, 26: 0.08, 27: 0.07,
        28: 0.07, 29: 0.08, 30: 0.06, 31: 0.02, 32: 0.14,
    },
    nested=0.58,
    gap_bits=19,
)  # fmt: skip
IPV6 = Shape(
    width=128,
    regions=[
        (top << 112, bits)
        for top, bits in ((0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2A00, 11))
    ],
    shares={
        20: 0.02, 24: 0.02, 28: 0.15, 29: 3.2, 30: 0.4, 31: 0.25, 32: 12.5, 33: 1.7, 34: 1.6,
        35: 1, 36: 4.6, 37: 0.5, 38: 1.1, 39: 0.6, 40: 8.2, 41: 0.6, 42: 3.3, 43: 0.5, 44: 10,
        45: 1.6, 46: 4.2, 47: 3.6, 48: 40, 56: 0.1, 64: 0.12, 127: 0.06, 128: 0.06,
    },
    nested=0.76,
    gap_bits=28,
)  # fmt: skip


def full_table(shape: Shape, count: int, seed: int = 1) -> list[Route]:
    """Return a table of about `count` routes, in order of network and length.

    Cost: about 4 us a route.
    """
    rng = random.Random(seed)
    lengths, shares = list(shape.shares), list(shape.shares.values())
    drawn = rng.choices(lengths, shares, k=count)
    # The longest quarter of all lengths is always nested.
    longest_top = max(length for length, share in shape.shares.items() if share >= 1)
    is_nested = [length > longest_top or rng.random() < shape.nested for length in drawn]
    tops = [length for length, nested in zip(drawn, is_nested, strict=True) if not nested]
    found = _place_tops(shape, tops, rng)
    inner = sorted(length for length, nested in zip(drawn, is_nested, strict=True) if nested)
    _place_nested(shape, inner, found, rng)
    return _with_next_hops(shape, sorted(found), rng)


def _place_tops(shape: Shape, lengths: list[int], rng: random.Random) -> set[tuple[int, int]]:
    """Walk through the regions, in runs of sixty with the large ones first, leaving gaps."""
    found = set()
    weights = [1 << (16 - bits if bits <= 16 else 0) for _, bits in shape.regions]
    total, first = sum(weights), 0
    for (base, bits), weight in zip(shape.regions, weights, strict=True):
        last = first + -(-len(lengths) * weight // total)
        here, end = base, base + (1 << (shape.width - bits))
        for run in _runs_of(60, lengths[first:last]):
            for length in sorted(run):
                size = 1 << (shape.width - length)
                here = -(-here // size) * size
                if here + size > end:
                    break
                found.add((here, length))
                here += size
            here += rng.randrange(4) << (shape.width - shape.gap_bits)
        first = last
    return found


def _runs_of(size: int, items: list[int]) -> Iterator[list[int]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _place_nested(
    shape: Shape, lengths: list[int], found: set[tuple[int, int]], rng: random.Random
) -> None:
    """Add runs of adjacent prefixes inside parents, some of which are far more popular than
    others.
    """
    parents = sorted(found)
    rng.shuffle(parents)
    for length, group in itertools.groupby(lengths):
        missing = len(list(group))
        added: list[tuple[int, int]] = []
        for _ in range(60 * missing):
            if len(added) >= missing:
                break
            # Cubed: a tenth of the parents has almost half of the children.
            network, parent_length = parents[int(len(parents) * rng.random() ** 3)]
            span = 1 << max(0, length - parent_length)
            if span == 1:
                continue
            step = shape.width - length
            first = rng.randrange(min(span, 1 << 40))
            for number in range(first, min(first + 1 + int(rng.expovariate(0.3)), span)):
                prefix = network + (number << step), length
                if prefix not in found and len(added) < missing:
                    found.add(prefix)
                    added.append(prefix)
        parents += added


def _with_next_hops(
    shape: Shape, prefixes: list[tuple[int, int]], rng: random.Random
) -> list[Route]:
    """A few next hops have most routes, and a more-specific has its parent's in seven of ten
    cases.
    """
    routes = []
    around: list[Route] = []
    for network, length in prefixes:
        while around and (around[-1][0] ^ network) >> (shape.width - around[-1][1]):
            around.pop()
        if around and rng.random() < 0.7:
            hop = around[-1][2]
        else:
            hop = min(int(rng.paretovariate(0.9)) - 1, NEXT_HOPS - 1)
        route = network, length, hop
        routes.append(route)
        around.append(route)
    return routes


def random_addresses(shape: Shape, count: int, seed: int = 2) -> list[int]:
    """Uniform over 1.0.0.0 to 223.255.255.255, or over 2000::/3."""
    rng = random.Random(seed)
    if shape.width == 32:
        return [rng.randrange(1 << 24, 224 << 24) for _ in range(count)]
    return [1 << 125 | rng.getrandbits(125) for _ in range(count)]


def zipf_addresses(shape: Shape, routes: Sequence[Route], count: int, seed: int = 3) -> list[int]:
    """Prefixes chosen by Zipf's law with exponent 1, and a random address inside each."""
    rng = random.Random(seed)
    ranked = list(routes)
    rng.shuffle(ranked)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(ranked) + 1)))
    return [
        network | rng.getrandbits(shape.width - length) if length < shape.width else network
        for network, length, _ in rng.choices(ranked, cum_weights=weights, k=count)
    ]


def packed(shape: Shape, addresses: Sequence[int]) -> bytes:
    """The addresses in network order, one after the other."""
    if shape.width == 32:
        words = array("I", addresses)
        words.byteswap()
        return words.tobytes()
    return b"".join(address.to_bytes(16, "big") for address in addresses)
