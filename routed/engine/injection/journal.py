"""Journal of injected routes, kept in memory that an engine leaves to the next one.

    engine 1 --append--> two files in memory, made and held by the parent --read--> engine 2

The parent never reads the files, so nothing that a client has sent reaches it. A change is appended
once it was carried out. A new engine folds the records into the routes that still exist, and
installs them. Routes that were leased for a session are not in the journal: their sessions ended
with the engine.

A file is

    BEGIN n   records of everything there was ...   COMMIT n   records of later changes ...

and the file with the highest committed n counts. When it has become too long, the other one is
rewritten; until its COMMIT is there, the first one counts. So a crash at any line loses at most the
change that was being carried out.

Invariants:
    `fold` of what was appended is what `InjectedRoutes` holds without sessions; a test compares.
    The files hold at most twice JOURNAL_BYTES_MAX. Beyond that nothing is kept, and that is logged.

Failure: a damaged or truncated record ends its file; the records before it count.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from ipc import codec
from ipc.control import RouteAttributes, RouteNextHop
from ipc.framing import IpcError
from ipc.lazy_dataclass import dataclass
from ipc.route_rules import LEASE_MAX_S, attributes_problem, family_problem, is_owner
from routed.imsg.columns import pack_indices, pack_keys, unpack_keys, unpack_values
from routed.imsg.messages import JOURNAL_BYTES_MAX
from routed.model.injection import InjectedAttributes
from routed.model.prefix import Family
from routed.model.route import RouteColumn
from routed.model.route_checks import kernel_problem

__all__ = ["Dropped", "Journal", "Kept", "Record", "Removed", "Renewed", "check", "fold"]

REWRITE_BYTES = 1024 * 1024
"""A file is rewritten when obsolete records exceed live ones by this much."""
_ROUTES_IN_RECORD = 4096

_HEADER = struct.Struct(">BII")
"""Kind, length of the body, its CRC-32."""


class _Kind(enum.IntEnum):
    BEGIN = 1
    COMMIT = 2
    KEPT = 3
    REMOVED = 4
    RENEWED = 5
    DROPPED = 6


@dataclass(frozen=True, slots=True)
class Kept:
    """Routes of one owner and family, which replace those that it has."""

    owner: str
    family: Family
    keys: bytes
    """Packed by `routed.imsg.columns`, as are `numbers`."""
    numbers: bytes
    """Indices into `attributes`, one for each key."""
    attributes: tuple[InjectedAttributes, ...]
    until: float | None
    """CLOCK_MONOTONIC, in seconds; None: no lease."""
    table_id: int = 0
    """The kernel table; 0 for the main one."""

    @classmethod
    def of(
        cls,
        owner: str,
        column: RouteColumn,
        attributes: tuple[InjectedAttributes, ...],
        until: float | None,
        table_id: int = 0,
    ) -> Kept:
        """Make a record of routes that a client has put."""
        family, keys, numbers = column
        packed = pack_keys(family, keys), pack_indices(numbers)
        return cls(owner, family, *packed, attributes, until, table_id)

    def column(self) -> RouteColumn:
        """Unpack the routes.

        Raises:
            ColumnError: the record was not written by a journal.
        """
        keys = unpack_keys(self.family, self.keys)
        places = range(len(self.attributes))
        return RouteColumn(self.family, keys, unpack_values(self.numbers, places, len(keys)))


@dataclass(frozen=True, slots=True)
class Removed:
    """Routes of an owner that were deleted."""

    owner: str
    family: Family
    keys: bytes
    table_id: int = 0


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewal of every timed lease of an owner that had not expired."""

    owner: str
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Dropped:
    """The end of all routes of a table, which a reload has removed."""

    table_id: int


Record = Kept | Removed | Renewed | Dropped
_KINDS: dict[type[Record], _Kind] = {
    Kept: _Kind.KEPT, Removed: _Kind.REMOVED, Renewed: _Kind.RENEWED, Dropped: _Kind.DROPPED,
}  # fmt: skip
_CLASSES = {kind: record_class for record_class, kind in _KINDS.items()}

_Held = dict[int, tuple[InjectedAttributes, float | None, int]]
"""Attributes of the route, end of its lease, and number of renewals of its owner before it, by
key."""


def check(records: Iterable[Record]) -> None:
    """Validate records by the rules for requests of clients.

    A compromised engine writes what it likes. A later engine would fail on a number that no message
    can carry.

    Raises:
        IpcError: no request can have led to a record.

    Cost: linear in the bytes; equal attributes are validated once.
    """
    valid: set[tuple[Family, InjectedAttributes]] = set()
    for record in records:
        if not isinstance(record, Renewed) and not 0 <= record.table_id < 1 << 32:
            raise IpcError("a table that cannot exist")
        if isinstance(record, Dropped):
            continue
        if not is_owner(record.owner):
            raise IpcError("an owner that cannot exist")
        if not isinstance(record, Kept):
            continue
        for attributes in record.attributes:
            if (record.family, attributes) not in valid:
                _check_attributes(record.family, attributes)
                valid.add((record.family, attributes))


def _check_attributes(family: Family, attributes: InjectedAttributes) -> None:
    hops = tuple(
        RouteNextHop(
            None if hop.via is None else str(hop.via), hop.ifname, hop.weight, hop.is_onlink
        )
        for hop in attributes.gateways
    )
    as_requested = RouteAttributes(
        attributes.type.name.lower(), hops, attributes.metric, attributes.tag
    )
    problem = (
        attributes_problem(as_requested)
        or family_problem(family.width // 8, as_requested)
        or kernel_problem(family, attributes.type, attributes.kernel_attributes)
    )
    if problem:
        raise IpcError(problem)


def _check_leases(kept: Iterable[Kept], now: float) -> None:
    if any(each.until is not None and each.until > now + LEASE_MAX_S for each in kept):
        raise IpcError("a lease that is too long")


def fold(records: Iterable[Record], now: float) -> Iterator[Kept]:
    """Reduce all changes to few records of the routes that still exist.

    Raises:
        IpcError: a record was not written by a journal.

    Cost: about 0.3 us for each route and change, however many routes a renewal covers.
    """
    held: dict[tuple[int, str, Family], _Held] = {}
    renewals: dict[str, list[Renewed]] = {}
    for record in records:
        match record:
            case Kept():
                _, keys, numbers = record.column()
                count = len(renewals.get(record.owner, ()))
                shared = [(each, record.until, count) for each in record.attributes]
                routes = held.setdefault((record.table_id, record.owner, record.family), {})
                routes.update(zip(keys, [shared[number] for number in numbers], strict=True))
            case Removed():
                routes = held.get((record.table_id, record.owner, record.family), {})
                for key in unpack_keys(record.family, record.keys):
                    routes.pop(key, None)
            case Renewed():
                of_owner = renewals.setdefault(record.owner, [])
                if of_owner and record.at < of_owner[-1].at:
                    raise IpcError("a renewal before the last one")
                of_owner.append(record)
            case Dropped(table_id=table_id):
                held = {place: routes for place, routes in held.items() if place[0] != table_id}
    for (table_id, owner, family), routes in held.items():
        for kept in _packed(owner, family, routes, renewals.get(owner, ()), now):
            yield kept if not table_id else dataclasses.replace(kept, table_id=table_id)


def _ends(renewals: Sequence[Renewed]) -> list[float]:
    """Return, for each renewal, when a lease ends that had not expired at it.

    A later renewal may have come too late. A renewal that is too late for a lease makes all later
    ones too late as well.
    """
    ends: list[float] = []
    following: Renewed | None = None
    for renewed in reversed(renewals):
        is_renewed = following is not None and renewed.until > following.at
        ends.append(ends[-1] if is_renewed else renewed.until)
        following = renewed
    return ends[::-1]


def _packed(
    owner: str, family: Family, routes: _Held, renewals: Sequence[Renewed], now: float
) -> Iterator[Kept]:
    ends = _ends(renewals)
    by_until: dict[float | None, list[tuple[int, InjectedAttributes]]] = {}
    for key, (attributes, first_until, count) in routes.items():
        until = first_until
        if until is not None and count < len(ends) and until > renewals[count].at:
            until = ends[count]
        if until is None or until > now:
            by_until.setdefault(until, []).append((key, attributes))
    for until, some in by_until.items():
        for start in range(0, len(some), _ROUTES_IN_RECORD):
            yield _packed_some(owner, family, some[start : start + _ROUTES_IN_RECORD], until)


def _packed_some(
    owner: str, family: Family, some: Sequence[tuple[int, InjectedAttributes]], until: float | None
) -> Kept:
    numbers: dict[InjectedAttributes, int] = {}
    of_each = [numbers.setdefault(attributes, len(numbers)) for _, attributes in some]
    column = RouteColumn(family, [key for key, _ in some], of_each)
    return Kept.of(owner, column, tuple(numbers), until)


class Journal:
    """Owns the two files."""

    def __init__(self, descriptors: Sequence[int], log_problem: Callable[[str], None]) -> None:
        """Read what an earlier engine has left.

        Args:
            descriptors: two files in memory, open for appending; they become the journal's.
            log_problem: called with the reason if nothing is kept any more, or what was kept is
                damaged.
        """
        self._descriptors = tuple(descriptors)
        self._log_problem = log_problem
        self._is_kept = True
        self._current, self._generation = 0, 0
        self._found: list[Record] = []
        for number, descriptor in enumerate(self._descriptors):
            generation, records = _committed(_read(descriptor))
            if generation > self._generation:
                self._current, self._generation, self._found = number, generation, records
        self._size = self._idle = 0

    def restore(self, now: float) -> list[Kept]:
        """Return the routes that still exist, and rewrite the journal with them.

        Args:
            now: CLOCK_MONOTONIC, in seconds.
        """
        found, self._found = self._found, []
        try:
            check(found)
            kept = list(fold(found, now))
            _check_leases(kept, now)
        except IpcError as error:
            self._log_problem(f"the journal of an earlier engine is damaged: {error}")
            kept = []
        self._rewrite(kept)
        return kept

    def append(self, record: Record, now: float, *, is_new: bool = False) -> None:
        """Record one change that was carried out.

        Args:
            record: the change.
            now: CLOCK_MONOTONIC, in seconds.
            is_new: no earlier record has these routes, and they have no lease: a large import is
                not written twice.
        """
        if not self._is_kept:
            return
        frame = _frame(_KINDS[type(record)], codec.encode(record))
        self._write(self._current, frame)
        if not is_new:
            # A removal makes an earlier and longer record obsolete, too.
            self._idle += len(frame) * (3 if isinstance(record, Removed) else 1)
        if self._idle > self._size - self._idle + REWRITE_BYTES:
            _, records = _committed(_read(self._descriptors[self._current]))
            self._rewrite(fold(records, now))

    def close(self) -> None:
        """Close the files; the parent has its own descriptors."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _rewrite(self, records: Iterable[Kept]) -> None:
        other = 1 - self._current
        os.ftruncate(self._descriptors[other], 0)
        self._generation += 1
        number = self._generation.to_bytes(8, "big")
        frames = [_frame(_KINDS[Kept], codec.encode(record)) for record in records]
        self._size = 0
        self._write(other, b"".join([_frame(_Kind.BEGIN, number), *frames]))
        self._write(other, _frame(_Kind.COMMIT, number))
        self._current, self._idle = other, 0

    def _write(self, number: int, data: bytes) -> None:
        try:
            if self._size + len(data) > JOURNAL_BYTES_MAX:
                raise OSError(f"over {JOURNAL_BYTES_MAX} bytes")
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptors[number], rest) :]
        except OSError as error:
            self._is_kept = False
            self._log_problem(f"injected routes will not outlive this engine: {error}")
        self._size += len(data)


def _frame(kind: _Kind, body: bytes) -> bytes:
    return _HEADER.pack(kind, len(body), zlib.crc32(body)) + body


_PIECE_BYTES = 1 << 20


def _read(descriptor: int) -> bytes:
    """Read the whole file in pieces: the sandbox does not allow to ask for its size."""
    pieces = []
    size = 0
    while piece := os.pread(descriptor, _PIECE_BYTES, size):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _committed(data: bytes) -> tuple[int, list[Record]]:
    """Return the generation of a file and its records; generation 0 if it was never finished."""
    begun = committed = 0
    records: list[Record] = []
    for kind, body in _frames(data):
        if kind == _Kind.BEGIN:
            begun = int.from_bytes(body, "big")
        elif kind == _Kind.COMMIT:
            committed = int.from_bytes(body, "big")
        elif kind in _CLASSES:
            try:
                records.append(codec.decode(_CLASSES[_Kind(kind)], body))
            except codec.CodecError:
                break
    return (committed, records) if committed == begun else (0, [])


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over frames up to the first that is damaged or truncated."""
    at = 0
    while at + _HEADER.size <= len(data):
        kind, length, check = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        body = data[at : at + length]
        if len(body) != length or zlib.crc32(body) != check:
            return
        yield kind, body
        at += length
