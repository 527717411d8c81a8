"""Bulk encoding of routes in one request: columns that clients pack and the engine unpacks.

    RouteChange
      attributes   [0] via 192.0.2.1 dev eth0   [1] blackhole   ...      what routes share, once
      ipv4         addresses    0a000000 0a000100 0a000200 ...           4 bytes each
                   prefix_lens  18 18 18 ...                             1 byte each
                   attributes   0000 0000 0001 ...                       2 bytes each
      ipv6         the same with 16 bytes for an address

A million routes with few distinct next hops take 7 bytes each on the socket, are packed by
appending to byte strings, and are unpacked by `array` and `zip`: C loops, no object for a route but
the tuple that the RIB keeps anyway.

`BatchPacker` fills one request after another, each within BATCH_ROUTES and the frame limit, and
records the origin of each route (such as a line of a file), for error messages.

Invariants:
    A request is atomic at the engine, and small enough to be processed between two heartbeats.

Failure: `ValueError` for columns of different lengths (the sender's fault).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from ipc.control import (
    ROUTE_NEXT_HOPS_MAX,
    Lease,
    PackedRoutes,
    RouteAttributes,
    RouteChange,
    RouteOperation,
)
from ipc.framing import CONTROL_FRAME_MAX_BYTES

__all__ = ["BATCH_ROUTES", "BatchPacker", "one_route", "unpack_columns"]

BATCH_ROUTES = 2048
"""Routes in one request: some tens of milliseconds of the engine's time, decision included."""

_BATCH_BYTES = CONTROL_FRAME_MAX_BYTES * 5 // 8
"""Columns and attributes together: a request that has so many is full. The rest of the frame is for
one more set of attributes, with ROUTE_NEXT_HOPS_MAX, and the encoding around it all."""

_ATTRIBUTES_BYTES = 80
"""Bytes of one set of attributes with one next hop, as a generous estimate; each further next hop,
and each kernel attribute, adds as much again."""


class BatchPacker:
    """Collector of routes into requests."""

    def __init__(
        self, operation: RouteOperation, lease: Lease, owner: str = "", table: str = ""
    ) -> None:
        """Begin with an empty request.

        Args:
            operation: of every request.
            lease: the same.
            owner: the same.
            table: the same.
        """
        self._operation = operation
        self._lease = lease
        self._owner, self._table = owner, table
        self._clear()

    def _clear(self) -> None:
        self._numbers: dict[RouteAttributes, int] = {}
        self._size = self._count = 0
        self._addresses: tuple[list[bytes], list[bytes]] = ([], [])
        self._prefix_lens: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._attributes: tuple[array[int], array[int]] = (array("H"), array("H"))
        self._origins: tuple[list[int], list[int]] = ([], [])

    def __len__(self) -> int:
        return self._count

    def number_of(self, attributes: RouteAttributes) -> int:
        """Return the number of a set of attributes, for `add`; valid until the next `pop`.

        Raises:
            ValueError: more next hops than a route can have.
        """
        number = self._numbers.get(attributes)
        if number is None:
            if len(attributes.next_hops) > ROUTE_NEXT_HOPS_MAX:
                raise ValueError(f"a route has at most {ROUTE_NEXT_HOPS_MAX} next hops")
            number = self._numbers[attributes] = len(self._numbers)
            items = len(attributes.next_hops) + len(attributes.kernel_attributes)
            self._size += _ATTRIBUTES_BYTES * (1 + items)
        return number

    def add(self, packed: bytes, prefix_len: int, number: int, origin: int) -> bool:
        """Add one route to the request that is being filled.

        Args:
            packed: the network address, 4 or 16 bytes; the engine validates the host bits.
            prefix_len: 0 to 255; the engine validates it.
            number: the number of its attributes, from `number_of`.
            origin: a number of the caller's, such as a line; `pop` returns it.

        Returns:
            Whether the request is full: the next call must then be `pop`.

        Cost: under a microsecond.
        """
        column = len(packed) != 4
        self._addresses[column].append(packed)
        self._prefix_lens[column].append(prefix_len)
        self._attributes[column].append(number)
        self._origins[column].append(origin)
        self._size += len(packed) + 3
        self._count += 1
        return self._count >= BATCH_ROUTES or self._size >= _BATCH_BYTES

    def pop(self) -> tuple[RouteChange, list[int]]:
        """Return the request and the origin of each of its routes, and begin the next request."""
        is_delete = self._operation is RouteOperation.DELETE
        change = RouteChange(
            self._operation,
            () if is_delete else tuple(self._numbers),
            self._pack(0),
            self._pack(1),
            self._lease,
            self._owner,
            self._table,
        )
        origins = [*self._origins[0], *self._origins[1]]
        self._clear()
        return change, origins

    def _pack(self, column: int) -> PackedRoutes:
        return PackedRoutes(
            b"".join(self._addresses[column]),
            bytes(self._prefix_lens[column]),
            _network_order(self._attributes[column]).tobytes(),
        )


def one_route(
    operation: RouteOperation,
    packed: bytes,
    prefix_len: int,
    attributes: RouteAttributes,
    *,
    lease: Lease,
    owner: str = "",
    table: str = "",
) -> RouteChange:
    """Return a request for one route; arguments as for `BatchPacker`."""
    packer = BatchPacker(operation, lease, owner, table)
    packer.add(packed, prefix_len, packer.number_of(attributes), 0)
    return packer.pop()[0]


def unpack_columns(
    packed: PackedRoutes, address_bytes: int
) -> tuple[Sequence[int], bytes, Sequence[int]]:
    """Return the columns as integers: network addresses, prefix lengths, numbers of attributes.

    Args:
        packed: as received; nothing about it is trusted.
        address_bytes: 4 or 16.

    Raises:
        ValueError: the columns are of different lengths.

    Cost: about 20 ns a route for IPv4, 150 ns for IPv6.
    """
    count = len(packed.prefix_lens)
    if len(packed.addresses) != count * address_bytes or len(packed.attributes) != count * 2:
        raise ValueError(
            f"{count} prefix lengths, but {len(packed.addresses)} bytes of addresses and "
            f"{len(packed.attributes)} of attributes"
        )
    numbers = array("H", packed.attributes)
    if address_bytes == 4:
        addresses: Sequence[int] = _network_order(array("I", packed.addresses))
    else:
        text = packed.addresses
        addresses = [
            int.from_bytes(text[start : start + 16], "big") for start in range(0, len(text), 16)
        ]
    return addresses, packed.prefix_lens, _network_order(numbers)


def _network_order(numbers: array[int]) -> array[int]:
    """Convert between host and network byte order, in place."""
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
