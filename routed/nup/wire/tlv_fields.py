"""Packing of TLVs: the parts of their values, and the reasons for a refusal.

The TLVs themselves are in `tlvs`. Most are rows of numbers in network order, some with a router id
before them; those inherit their packing (`Numbers`, `RouterNumbers`) and only declare the meaning
of their fields. A prefix has one spelling only: as many bytes as its length has bits in, and no bit
beyond it.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Self

from routed.model.prefix import Address, Family, Prefix

__all__ = [
    "FAMILY_CODE",
    "MANDATORY",
    "TLV_HEADER",
    "TLV_HEADER_BYTES",
    "Bare",
    "DecodeReason",
    "Numbers",
    "RefusedError",
    "RouterNumbers",
    "fields",
    "is_router_id",
    "need",
    "pack_prefix",
    "prefix_bytes",
    "router_id",
    "unpack_prefix",
]

MANDATORY = 0x8000
"""The bit of a TLV type that makes a receiver refuse the message if it does not know the type."""

TLV_HEADER = struct.Struct("!HH")
"""Type and length."""
TLV_HEADER_BYTES = 4


class DecodeReason(enum.Enum):
    """The reasons for which a datagram is refused."""

    TOO_SHORT = "shorter than a header"
    TOO_LONG = "longer than a datagram may be"
    BAD_VERSION = "another version of the protocol"
    BAD_TYPE = "an unknown message type"
    BAD_LENGTH = "the payload length disagrees with the datagram"
    BAD_CHECKSUM = "the checksum is wrong"
    TRUNCATED_TLV = "a TLV runs past the end"
    BAD_TLV_LENGTH = "a TLV has a length that its type cannot have"
    BAD_VALUE = "a field has a value that it cannot have"
    UNKNOWN_MANDATORY = "a mandatory TLV of unknown type"
    MISPLACED_TLV = "a TLV in a message where it does not belong, or twice"
    MISSING_TLV = "a message lacks a TLV that it must have"


class RefusedError(Exception):
    """A TLV value is wrong; `decode` adds the offset."""

    def __init__(self, reason: DecodeReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def need(is_right: bool, reason: DecodeReason = DecodeReason.BAD_VALUE) -> None:
    if not is_right:
        raise RefusedError(reason)


def fields(layout: struct.Struct, value: bytes) -> tuple[int, ...]:
    """Unpack a value that has exactly the layout's size."""
    need(len(value) == layout.size, DecodeReason.BAD_TLV_LENGTH)
    return layout.unpack(value)


def is_router_id(bits: int) -> bool:
    """Return whether a number names a router: neither 0.0.0.0, nor multicast, reserved or
    broadcast."""
    return 0 < bits < 0xE000_0000


@functools.lru_cache(maxsize=4096)
def router_id(bits: int) -> Address:
    return Address(Family.IPV4, bits)


FAMILY_CODE = {Family.IPV4: 4, Family.IPV6: 6}
_WIDTHS = {family: family.width for family in Family}
_FAMILY_OF_CODE = {code: family for family, code in FAMILY_CODE.items()}


def pack_prefix(prefix: Prefix) -> bytes:
    """Pack those bytes of a prefix that its length has bits in."""
    size = prefix_bytes(prefix.prefix_len)
    return (prefix.addr_bits >> _WIDTHS[prefix.family] - size * 8).to_bytes(size, "big")


def prefix_bytes(prefix_len: int) -> int:
    """Return how many bytes a prefix of this length has on the wire."""
    return (prefix_len + 7) // 8


def unpack_prefix(family_code: int, prefix_len: int, packed: bytes) -> Prefix:
    """Undo `pack_prefix`.

    Raises:
        RefusedError: there is no such family or length, or a bit beyond the length is set.
    """
    family = _FAMILY_OF_CODE.get(family_code)
    if family is None:
        raise RefusedError(DecodeReason.BAD_VALUE)
    width = _WIDTHS[family]
    if prefix_len > width:
        raise RefusedError(DecodeReason.BAD_VALUE)
    size = len(packed)
    if size != (prefix_len + 7) // 8:
        raise RefusedError(DecodeReason.BAD_TLV_LENGTH)
    addr_bits = int.from_bytes(packed, "big") << (width - size * 8)
    host_bits = width - prefix_len
    if addr_bits >> host_bits << host_bits != addr_bits:
        raise RefusedError(DecodeReason.BAD_VALUE)
    return Prefix.trusted(family, addr_bits, prefix_len)


class Bare:
    """A TLV without a value."""

    __slots__ = ()

    def pack(self) -> bytes:
        """Return no bytes."""
        return b""

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`.

        Raises:
            RefusedError: there is a value.
        """
        need(not value, DecodeReason.BAD_TLV_LENGTH)
        return cls()


class Numbers:
    """A TLV whose value is a row of numbers: its fields, in their order."""

    __slots__ = ()
    _LAYOUT: ClassVar[struct.Struct]

    if TYPE_CHECKING:  # the dataclasses that inherit this bring it

        def __init__(self, *numbers: int) -> None: ...

    def check(self) -> None:
        """Check the ranges of the fields; overridden by classes that limit them.

        Raises:
            RefusedError: a field has a value that it cannot have.
        """

    def pack(self) -> bytes:
        """Pack the value in network order."""
        names: Iterable[str] = self.__slots__
        return self._LAYOUT.pack(*[getattr(self, name) for name in names])

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`.

        Raises:
            RefusedError: the value has another size, or a field a value that it cannot have.
        """
        unpacked = cls(*fields(cls._LAYOUT, value))
        unpacked.check()
        return unpacked


class RouterNumbers:
    """A TLV whose value is a router id and a row of numbers."""

    __slots__ = ()
    _LAYOUT: ClassVar[struct.Struct]

    if TYPE_CHECKING:  # the dataclasses that inherit this bring it

        def __init__(self, router_id: Address, *numbers: int) -> None: ...

    def check(self) -> None:
        """Check the ranges as `Numbers.check` does."""

    def pack(self) -> bytes:
        """Pack the value in network order."""
        names: Iterable[str] = self.__slots__
        router, *numbers = [getattr(self, name) for name in names]
        return self._LAYOUT.pack(router.addr_bits, *numbers)

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Undo `pack`.

        Raises:
            RefusedError: the value has another size, or a field a value that it cannot have.
        """
        router_bits, *numbers = fields(cls._LAYOUT, value)
        unpacked = cls(router_id(router_bits), *numbers)
        unpacked.check()
        return unpacked
