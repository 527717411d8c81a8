"""Serial-number arithmetic on 32 bits: counters that wrap round and still have an order.

Source: RFC 1982 section 3, SERIAL_BITS = 32.
"""

from __future__ import annotations

__all__ = ["REACH", "SERIAL_BITS", "is_newer", "is_newer_origin", "next_seqno", "seqno_distance"]

SERIAL_BITS = 32
_MODULUS = 1 << SERIAL_BITS
_HALF = _MODULUS >> 1


def next_seqno(seqno: int, step: int = 1) -> int:
    """The serial number `step` after this one; 0 <= step < 2**31."""
    return (seqno + step) % _MODULUS


def seqno_distance(newer: int, older: int) -> int:
    """How far `newer` lies after `older`: -2**31 to 2**31 - 1, negative when it lies before."""
    distance = (newer - older) % _MODULUS
    return distance - _MODULUS if distance >= _HALF else distance


def is_newer(candidate: int, reference: int) -> bool:
    """Whether `candidate` comes after `reference`.

    Two numbers exactly half the space apart have no order (RFC 1982 section 3.2); here neither is
    newer, so that `is_newer(a, b)` and `is_newer(b, a)` never both hold.
    """
    return 0 < (candidate - reference) % _MODULUS < _HALF


REACH = 1 << 28
"""How far ahead of one seqno of an origin another may lie and still be newer.

A router's first seqno is the second in which it started, so this is 8.5 years without a restart.
If "newer" covered half of the ring, three numbers could be newer than one another in a circle. With
this bound a circle needs sixteen numbers, each at another router.
"""


def is_newer_origin(candidate: int, reference: int) -> bool:
    """Whether one seqno of an origin counts as newer than another: after it, within REACH.

    What lies further ahead, or behind, is not newer. Neither of two numbers half the ring apart is.
    """
    return 0 < (candidate - reference) % _MODULUS <= REACH
