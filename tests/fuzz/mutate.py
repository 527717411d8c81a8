"""Damage to well-formed input: the gate uses it in place of a coverage-guided fuzzer."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["mutated"]

_INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\xff")


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random, max_bytes: int) -> bytes:
    """Make one to four changes: a bit, a byte, a run repeated, removed, or copied from another
    input.

        Args:
        data: the input to change.
        others: well-formed input to copy from.
        rng: the source of randomness.
        max_bytes: the result is truncated to this length.
    """
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        until = min(len(changed), at + rng.choice((1, 2, 4, 16, 64)))
        match rng.randrange(6):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << rng.randrange(8)
            case 1:
                changed[at:until] = rng.choice(_INTERESTING)
            case 2:
                del changed[at:until]
            case 3:
                changed[at:at] = changed[at:until] * rng.choice((1, 2, 50))
            case 4:
                other = rng.choice(others)
                changed[at:] = other[rng.randrange(len(other) + 1) :]
            case _:
                changed[at:until] = rng.randbytes(until - at)
    return bytes(changed[:max_bytes])
