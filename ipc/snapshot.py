"""A lock-free reader of the daemon's forwarding table in shared memory. Public API.

    with FibReader.open("/run/routed/routed.sock") as fib:
        route = fib.lookup("192.0.2.1")

The daemon keeps its table in one sealed memfd and sends a read-only descriptor to authorised
clients. A reader then searches at memory speed, without system calls and without the daemon.
docs/snapshot.md is the guide, `fib_layout.py` draws the memory, `fib_snapshot.h` is the same for C.

Each answer is the daemon's at some moment between the call and its return; two calls may see two
moments. What is published at once is one prefix, not one burst of changes.

When the daemon stops, the memory stays unchanged as long as it is mapped, and a reader continues
with the last complete table. `is_closed` and `age_s` show this. With a maximum age (`max_age_s`),
the reader connects to a new daemon by itself when the table is too old, and raises `StaleSnapshot`
if there is none.

Failure: `SnapshotError` for what is no snapshot or a damaged one. A reader trusts nothing it reads:
every address is checked, every walk is bounded, so a hostile snapshot causes a wrong answer or an
error, never a crash, an endless loop or a read outside the mapping.
"""

from __future__ import annotations

import mmap
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ipc.extension import implementation
from ipc.fib_layout import FAMILY_WORDS, FamilyHeader, Header, SnapshotError
from ipc.fib_mapping import FoundNextHop, FoundRoute, Mapping, map_descriptor
from ipc.fib_search import Search, make_search

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12

__all__ = [
    "FibReader",
    "FoundNextHop",
    "FoundRoute",
    "SnapshotError",
    "StaleSnapshot",
    "implementation",
]

_RETRY_NS = 1_000_000_000
"""Least time between attempts to reach a new daemon, in nanoseconds."""


class StaleSnapshot(SnapshotError):
    """The snapshot is older than the caller accepts, and there is no newer one."""


class FibReader:
    """Searches the daemon's forwarding table.

    Not for several threads at once with `close` and `refresh`; searching from several is fine, and
    batches of the C extension run in parallel.

    Cost: see `Search` for a number; 1 us more for a route that was returned since the last change
    of the table, 8 us for another one.
    """

    def __init__(
        self,
        memory: mmap.mmap,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        search: Callable[[mmap.mmap], Search] = make_search,
    ) -> None:
        """Use `open` or `from_fd`; this is for memory that is mapped already, and takes it over.

        Args:
            memory: the whole snapshot.
            clock: CLOCK_MONOTONIC in nanoseconds, the same in every process of this machine.
            search: what makes the search.

        Raises:
            SnapshotError: not a snapshot that this reader knows.
        """
        self._clock, self._make_search = clock, search
        self._socket_path: str | None = None
        self._max_age_ns: int | None = None
        self._retry_at_ns = 0
        self._map = Mapping(memory, None, search)

    @classmethod
    def open(
        cls,
        socket_path: str,
        *,
        max_age_s: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        search: Callable[[mmap.mmap], Search] = make_search,
    ) -> Self:
        """Get the table of the daemon behind a management socket.

        Args:
            socket_path: such as /run/routed/routed.sock; the role `read` is needed.
            max_age_s: how many seconds after the daemon's last sign of life its table may still be
                used, at least 2 (the heartbeat period is one second); None for no limit.
            clock: as in the constructor.
            search: as in the constructor.

        Raises:
            ControlError: the daemon cannot be reached, or rejected the request (`ipc.blocking`).
            SnapshotError: it sent no snapshot, or one of an unsupported layout.
            ValueError: `max_age_s` is too short to be kept.
        """
        if max_age_s is not None and max_age_s < 2:
            raise ValueError(
                f"max_age_s is at least 2, not {max_age_s:g}: signs come once a second"
            )
        memory, identity = map_descriptor(_fetch(socket_path))
        reader = cls(memory, clock=clock, search=search)
        reader._map.identity = identity
        reader._socket_path = socket_path
        reader._max_age_ns = None if max_age_s is None else int(max_age_s * 1e9)
        return reader

    @classmethod
    def from_fd(
        cls,
        descriptor: int,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        search: Callable[[mmap.mmap], Search] = make_search,
    ) -> Self:
        """Map a snapshot and close the descriptor, which is not needed any more.

        Args:
            descriptor: a sealed memfd.
            clock: as in the constructor.
            search: as in the constructor.

        Raises:
            SnapshotError: not sealed as a snapshot is, of no possible size, or of another layout.
            OSError: it cannot be mapped.
        """
        return cls(map_descriptor(descriptor)[0], clock=clock, search=search)

    # --- properties

    @property
    def generation(self) -> int:
        """Number of bursts of changes that the daemon has published; it never decreases, except
        after a new daemon."""
        return self._map.generation

    @property
    def is_closed(self) -> bool:
        """Whether the daemon has closed the snapshot and will not write to it again."""
        return bool(self._map.words[Header.IS_CLOSED])

    @property
    def daemon_pid(self) -> int:
        """The pid of the daemon that writes it, in the daemon's pid namespace."""
        return int(self._map.words[Header.DAEMON_PID])

    @property
    def router_id(self) -> str:
        """The router id of the daemon, dotted."""
        packed = struct.pack("!I", self._map.words[Header.ROUTER_ID])
        return socket.inet_ntop(socket.AF_INET, packed)

    @property
    def age_s(self) -> float:
        """Seconds since the daemon's last heartbeat; the period is one second."""
        return (self._clock() - self._map.heartbeat_ns) / 1e9

    def __len__(self) -> int:
        """Return the number of routes, both families."""
        return sum(
            int(self._map.words[Header.IPV4 + position * FAMILY_WORDS + FamilyHeader.ROUTES])
            for position in (0, 1)
        )

    # --- searching

    def lookup(self, address: str | bytes | IPv4Address | IPv6Address) -> FoundRoute | None:
        """Return the route that the daemon would use for an address.

        Args:
            address: as text, packed in network order (4 or 16 bytes), or of `ipaddress`.

        Returns:
            The route; None if no route covers the address, not even a default.

        Raises:
            ValueError: not an address.
            SnapshotError: the snapshot is damaged.
            StaleSnapshot: it is too old (`max_age_s`).
        """
        packed = _packed(address)
        return self._usable().lookup(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big"))

    def lookup_many(self, addresses: Buffer, version: int = 4) -> array[int]:
        """Return the numbers of the routes for many addresses.

        Args:
            addresses: any buffer: packed in network order, 4 or 16 bytes each (bytes, bytearray,
                memoryview, array("B")); or IPv4 addresses as 32-bit numbers (array("I")).
            version: 4 or 6.

        Returns:
            An array("I"), one number for each address; 0 where no route covers it. `route` returns
            the route of a number.

        Raises:
            ValueError: the buffer does not hold addresses of that version.
            SnapshotError, StaleSnapshot: as `lookup`.

        Cost: 0.4 us an address in Python, about 0.01 us with the C extension, which lets other
        threads run meanwhile.
        """
        mapping = self._usable()
        with memoryview(addresses) as view:
            size = view.nbytes // (4 if version == 4 else 16)
        found = array("I", bytes(4 * size))
        mapping.search.find_many(addresses, version, found)
        return found

    def route(self, number: int) -> FoundRoute:
        """Return the route with a number.

        A number is valid until the table changes (`generation`): its route may be replaced then,
        and the number may be reused for another route later.

        Raises:
            SnapshotError: there is no such number, or the snapshot is damaged.
        """
        return self._map.route(number)

    @property
    def search(self) -> Search:
        """Return the search itself, for loops in which every tenth of a microsecond counts.

        It does not check `max_age_s`, and is valid until `close` or until the reader has changed to
        a new daemon's table.
        """
        return self._map.search

    def routes(self) -> Iterator[FoundRoute]:
        """Yield every route, in no particular order.

        Each route is consistent; together they are one moment of the table only if `generation` is
        the same before and after. A route that changes meanwhile may occur twice or not at all.

        Raises:
            SnapshotError: the snapshot is damaged, or the reader has changed to another daemon's
                table, or was closed.
            StaleSnapshot: it is too old (`max_age_s`).

        Cost: linear in the largest number of routes that the table ever had, 8 us for each present
        one.
        """
        mapping = self._usable()
        number = 0
        while number < mapping.records_used:
            number += 1
            found = mapping.current_route(number)
            if found is not None:
                yield found
            if mapping is not self._map or not mapping.is_open:
                raise SnapshotError("the table was exchanged or closed while it was listed")

    __iter__ = routes

    # --- refresh and close

    def refresh(self) -> bool:
        """Change to the table of the present daemon, if it is another one.

        Needed without `max_age_s`, when `is_closed` is true or `age_s` is large.

        Returns:
            Whether the table was exchanged.

        Raises:
            ControlError: no daemon can be reached, or it refused; the old table stays usable.
            SnapshotError: it sent no valid snapshot; the old one stays usable.
            ValueError: the reader was not made by `open`.
        """
        if self._socket_path is None:
            raise ValueError("only a reader that was made by `open` knows where to ask")
        memory, identity = map_descriptor(_fetch(self._socket_path))
        fresh = Mapping(memory, identity, self._make_search)
        if identity == self._map.identity:
            fresh.close()
            return False
        old, self._map = self._map, fresh
        old.close()
        return True

    def _usable(self) -> Mapping:
        """Return the table after checking that it is not older than the caller accepts."""
        mapping = self._map
        if self._max_age_ns is None:
            return mapping
        now_ns = self._clock()
        if now_ns - mapping.heartbeat_ns <= self._max_age_ns and not self.is_closed:
            return mapping
        return self._replacement(now_ns, self._max_age_ns)

    def _replacement(self, now_ns: int, max_age_ns: int) -> Mapping:
        from ipc.blocking import ControlError

        why: Exception | None = None
        if now_ns >= self._retry_at_ns:
            self._retry_at_ns = now_ns + _RETRY_NS
            try:
                self.refresh()
            except (ControlError, SnapshotError) as error:
                why = error
        if now_ns - self._map.heartbeat_ns <= max_age_ns:
            return self._map
        raise StaleSnapshot(
            f"the daemon gave its last sign of life {self.age_s:.1f} s ago"
            + (" and has ended" if self.is_closed else "")
            + (f"; {why}" if why else "")
        ) from why

    def close(self) -> None:
        """Unmap. Nothing else may be called after that.

        Raises:
            BufferError: another thread is in the middle of a batch.
        """
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _fetch(socket_path: str) -> int:
    """Request the descriptor of the snapshot from the daemon behind a socket."""
    # The protocol modules are imported only when a daemon is contacted.
    from ipc.blocking import ControlClient

    with ControlClient(socket_path) as client:
        return client.open_snapshot()


def _packed(address: str | bytes | IPv4Address | IPv6Address) -> bytes:
    if isinstance(address, IPv4Address | IPv6Address):
        return address.packed
    if isinstance(address, bytes):
        if len(address) not in (4, 16):
            raise ValueError(f"an address has 4 or 16 bytes, not {len(address)}")
        return address
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):  # the latter for a null character
        raise ValueError(f"{address!r} is not an IP address") from None
