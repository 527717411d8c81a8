"""Address families, addresses and prefixes as small integers.

An address is a family and an unsigned integer in host order; a prefix is that and a length. Both
are tuples underneath, because they are dictionary keys a million times over: hashing and comparing
a tuple happens in C (a frozen dataclass does both in Python and measured about three times
slower as a key).

Invariants:
    A `Prefix` has no host bits: the constructor refuses them. `Prefix.trusted` skips the check for
    code that has just masked the bits itself (the netlink decoder, the property tests hold it to
    that).

Order: family (IPv4 first), then address, then length; total, and the order of every listing.

Sources: RFC 4291 section 2.2 and RFC 5952 for IPv6 text, both through the standard library.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from typing import ClassVar, NamedTuple, Self

__all__ = ["HOST_BITS", "Address", "Family", "Prefix"]


class Family(enum.IntEnum):
    """An address family, numbered as the Linux kernel numbers it (AF_INET, AF_INET6)."""

    IPV4 = 2
    IPV6 = 10

    # Hashed with every prefix and address; that of `Enum` is a call into Python.
    __hash__ = int.__hash__

    @property
    def width(self) -> int:
        """Bits in an address: 32 or 128."""
        return 32 if self is Family.IPV4 else 128

    @property
    def label(self) -> str:
        """`IPv4` or `IPv6`, as text for people spells it."""
        return "IPv4" if self is Family.IPV4 else "IPv6"


HOST_BITS = {
    family: [(1 << family.width - prefix_len) - 1 for prefix_len in range(family.width + 1)]
    for family in Family
}
"""By family and prefix length, the mask of the bits that a prefix leaves open."""


class _AddressFields(NamedTuple):
    family: Family
    addr_bits: int


class Address(_AddressFields):
    """One IPv4 or IPv6 address."""

    __slots__ = ()

    WIRE_BYTES_MAX: ClassVar[int] = 18
    """What `to_wire` is encoded in."""

    def __new__(cls, family: Family, addr_bits: int) -> Self:
        """Build an address.

        Raises:
            ValueError: addr_bits does not fit the family.
        """
        family = Family(family)
        if addr_bits < 0 or addr_bits >> family.width:
            raise ValueError(f"{addr_bits:#x} does not fit an {family.label} address")
        return super().__new__(cls, family, addr_bits)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address from text.

        Raises:
            ValueError: not an address; the message says so in words for people.

        Cost: about 1 us for IPv4, 6 us for IPv6.
        """
        addr_bits = _read_ipv4(text)
        if addr_bits is not None:
            return tuple.__new__(cls, (Family.IPV4, addr_bits))
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an IP address") from None
        if address.version == 6 and address.scope_id is not None:
            raise ValueError(f"{text!r} carries a zone; name the interface with `dev` instead")
        return cls(Family.IPV4 if address.version == 4 else Family.IPV6, int(address))

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read an address from its 4 or 16 bytes in network order.

        Raises:
            ValueError: any other number of bytes.
        """
        if len(packed) == 4:  # bits that come from so many bytes fit
            return tuple.__new__(cls, (Family.IPV4, int.from_bytes(packed, "big")))
        if len(packed) == 16:
            return tuple.__new__(cls, (Family.IPV6, int.from_bytes(packed, "big")))
        raise ValueError(f"an address has 4 or 16 bytes, not {len(packed)}")

    @property
    def packed(self) -> bytes:
        """The address in network order: 4 or 16 bytes."""
        return self.addr_bits.to_bytes(self.family.width // 8, "big")

    @property
    def is_link_local(self) -> bool:
        """In fe80::/10 or 169.254.0.0/16: reachable only through a named interface."""
        if self.family is Family.IPV6:
            return self.addr_bits >> 118 == 0x3FA
        return self.addr_bits >> 16 == 0xA9FE

    @property
    def is_loopback(self) -> bool:
        """In 127.0.0.0/8, or ::1."""
        if self.family is Family.IPV6:
            return self.addr_bits == 1
        return self.addr_bits >> 24 == 127

    @property
    def is_multicast(self) -> bool:
        """In 224.0.0.0/4 or ff00::/8."""
        if self.family is Family.IPV6:
            return self.addr_bits >> 120 == 0xFF
        return self.addr_bits >> 28 == 0xE

    def host_prefix(self) -> Prefix:
        """The /32 or /128 of exactly this address."""
        return Prefix.trusted(self.family, self.addr_bits, self.family.width)

    def to_wire(self) -> bytes:
        """The plain form for `ipc.codec`."""
        return self.packed

    @classmethod
    def from_wire(cls, wire: object) -> Self:
        """Undo `to_wire`.

        Raises:
            ValueError: not the bytes of an address.
        """
        if not isinstance(wire, bytes):
            raise ValueError("an address is bytes")
        return cls.unpack(wire)

    def __str__(self) -> str:
        return _address_text(self.family, self.addr_bits)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


class _PrefixFields(NamedTuple):
    family: Family
    addr_bits: int
    prefix_len: int


class Prefix(_PrefixFields):
    """A network and its length; host bits are zero by construction."""

    __slots__ = ()

    WIRE_BYTES_MAX: ClassVar[int] = 21
    """What `to_wire` is encoded in."""

    def __new__(cls, family: Family, addr_bits: int, prefix_len: int) -> Self:
        """Build a prefix.

        Raises:
            ValueError: the length is outside the family's width, the bits do not fit, or host
                bits are set.
        """
        family = Family(family)
        width = family.width
        if not 0 <= prefix_len <= width:
            raise ValueError(f"a prefix length is 0 to {width}, not {prefix_len}")
        if addr_bits < 0 or addr_bits >> width:
            raise ValueError(f"{addr_bits:#x} does not fit an {family.label} address")
        if addr_bits & ((1 << (width - prefix_len)) - 1):
            address = _address_text(family, addr_bits)
            network = cls.masked(family, addr_bits, prefix_len)
            raise ValueError(f"{address}/{prefix_len} has host bits set; did you mean {network}?")
        return super().__new__(cls, family, addr_bits, prefix_len)

    @classmethod
    def trusted(cls, family: Family, addr_bits: int, prefix_len: int) -> Self:
        """Build without checking, for bits that the caller has just masked.

        Cost: about a third of the checked constructor.
        """
        return tuple.__new__(cls, (family, addr_bits, prefix_len))

    @classmethod
    def masked(cls, family: Family, addr_bits: int, prefix_len: int) -> Self:
        """Build from any address inside the prefix: host bits are cleared."""
        host_bits = family.width - prefix_len
        return cls.trusted(family, addr_bits >> host_bits << host_bits, prefix_len)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a prefix from text; an address without a length is a host prefix.

        Raises:
            ValueError: not a prefix, or host bits set; the message says which and what to write.
        """
        address_text, slash, length_text = text.partition("/")
        if slash and not (length_text.isascii() and length_text.isdigit()):
            raise ValueError(f"{text!r} is not an IP prefix (like 10.0.0.0/8)")
        try:
            address = Address.parse(address_text)
        except ValueError:
            raise ValueError(f"{text!r} is not an IP prefix (like 10.0.0.0/8)") from None
        prefix_len = int(length_text) if slash else address.family.width
        if prefix_len > address.family.width:
            raise ValueError(
                f"{text!r}: a prefix length is 0 to {address.family.width}, not {prefix_len}"
            )
        return cls(address.family, address.addr_bits, prefix_len)

    @property
    def as_int(self) -> int:
        """The prefix as one integer: address << 8 | length.

        A million integers are a third of a million tuples, and dictionaries find them twice as
        fast; the family is what the dictionary is for.
        """
        return self.addr_bits << 8 | self.prefix_len

    @classmethod
    def from_int(cls, family: Family, value: int) -> Self:
        """Undo `as_int`; trusted, as is `trusted`."""
        return cls.trusted(family, value >> 8, value & 0xFF)

    @property
    def address(self) -> Address:
        """The network address."""
        return Address(self.family, self.addr_bits)

    @property
    def last_bits(self) -> int:
        """The highest address inside the prefix."""
        return self.addr_bits | ((1 << (self.family.width - self.prefix_len)) - 1)

    def contains_address(self, address: Address) -> bool:
        """Whether the address lies inside this prefix (same family)."""
        return (
            address.family == self.family
            and (address.addr_bits ^ self.addr_bits) >> (self.family.width - self.prefix_len) == 0
        )

    def covers(self, other: Prefix) -> bool:
        """Whether every address of `other` lies inside this prefix; true for the prefix itself."""
        return self.prefix_len <= other.prefix_len and self.contains_address(
            Address(other.family, other.addr_bits)
        )

    def to_wire(self) -> tuple[bytes, int]:
        """The plain form for `ipc.codec`."""
        return self.addr_bits.to_bytes(self.family.width // 8, "big"), self.prefix_len

    @classmethod
    def from_wire(cls, wire: object) -> Self:
        """Undo `to_wire`, checking everything.

        Raises:
            ValueError: not a canonical prefix.
        """
        match wire:
            case [bytes() as packed, int() as prefix_len]:
                address = Address.unpack(packed)
                return cls(address.family, address.addr_bits, prefix_len)
        raise ValueError("a prefix is its packed address and its length")

    def __str__(self) -> str:
        return f"{_address_text(self.family, self.addr_bits)}/{self.prefix_len}"

    def __repr__(self) -> str:
        return f"Prefix({str(self)!r})"


def _read_ipv4(text: str) -> int | None:
    """A dotted quad as `ipaddress` accepts it; None for everything else, right or wrong.

    Ten times faster than the general parser, and a table is mostly this.
    """
    parts = text.split(".")
    if len(parts) != 4:
        return None
    addr_bits = 0
    for part in parts:
        if not (part.isascii() and part.isdigit()) or len(part) > 3 or (part[0] == "0" != part):
            return None
        octet = int(part)
        if octet > 255:
            return None
        addr_bits = addr_bits << 8 | octet
    return addr_bits


@functools.lru_cache(maxsize=4096)
def _ipv6_text(addr_bits: int) -> str:
    return str(ipaddress.IPv6Address(addr_bits))


def _address_text(family: Family, addr_bits: int) -> str:
    if family == Family.IPV4:
        return f"{addr_bits >> 24}.{addr_bits >> 16 & 255}.{addr_bits >> 8 & 255}.{addr_bits & 255}"
    return _ipv6_text(addr_bits)
