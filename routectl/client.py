"""What routectl asks of a daemon beyond one request: lookups in the snapshot, and live values for
completion.

A snapshot is opened anew for every `lookup`: the descriptor costs one round trip, and a snapshot
that was kept would be that of a daemon which may have restarted since.

Live values come over a connection of their own with a short timeout: completion may run beside the
shell's own request, must never make the keyboard wait, and is silent when the daemon is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Protocol

from ipc.blocking import ControlClient, ControlError
from ipc.control import Request, ShowInterfaces, ShowNeighbors, ShowRoutes
from routectl.grammar import ValueKind
from routectl.render.text import Row

__all__ = ["LIVE_VALUES_MAX", "FoundNextHop", "FoundRoute", "LiveValueSource", "Reader", "look_up"]


class FoundNextHop(Protocol):
    """A next hop in the snapshot, which names links by their index."""

    @property
    def via(self) -> object:
        """The neighboring router; None when the destination is on the link."""

    @property
    def ifindex(self) -> int:
        """The link."""

    @property
    def weight(self) -> int:
        """Share of the traffic."""


class FoundRoute(Protocol):
    """What `lookup` shows of a route in the snapshot."""

    @property
    def prefix(self) -> object:
        """The longest match; its text is what is shown."""

    @property
    def type(self) -> object:
        """unicast, blackhole, ..."""

    @property
    def source(self) -> object:
        """connected, static, ..."""

    @property
    def metric(self) -> int:
        """Cost within the source."""

    @property
    def next_hops(self) -> Sequence[FoundNextHop]:
        """Empty unless packets are sent on."""


class Reader(Protocol):
    """What `lookup` needs of `ipc.snapshot.FibReader`."""

    def lookup(self, address_text: str, /) -> FoundRoute | None:
        """The longest match."""

    def close(self) -> None:
        """Unmap."""


LIVE_VALUES_MAX = 200
"""More than a completion menu can be read for."""

_LIVE_TIMEOUT_S = 1.0

_LIVE_COLUMNS: dict[ValueKind, tuple[Request, tuple[str, ...]]] = {
    ValueKind.NEIGHBOR: (ShowNeighbors(), ("router_id", "address")),
    ValueKind.INTERFACE: (ShowInterfaces(), ("interface",)),
    ValueKind.PREFIX: (ShowRoutes(is_selected_only=True), ("prefix",)),
}
"""Which request lists the values of a kind, and the columns that hold them."""


def look_up(client: ControlClient, addresses: Sequence[str]) -> list[Row]:
    """Find each address in the daemon's snapshot.

    Returns:
        One row each, in order; `prefix` is None where no route covers it.

    Raises:
        ControlError: the snapshot could not be had.
    """
    from ipc.snapshot import FibReader  # maps memory and decodes it; only `lookup` pays for it

    reader: Reader = FibReader.from_fd(client.open_snapshot())
    with closing(reader):
        return [_lookup_row(address, reader.lookup(address)) for address in addresses]


class LiveValueSource:
    """Values that the daemon knows now, for completion."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path

    def __call__(self, kind: ValueKind, start: str) -> list[str]:
        """Up to LIVE_VALUES_MAX values that begin with `start`; none when nobody answers.

        A long answer is dropped as soon as enough is found: hanging up ends it at the daemon, too.
        """
        found: dict[str, None] = {}
        with ControlClient(self._socket_path, timeout_s=_LIVE_TIMEOUT_S) as client:
            try:
                for value in _values(client, kind):
                    if value.startswith(start):
                        found[value] = None
                    if len(found) >= LIVE_VALUES_MAX:
                        break
            except ControlError:
                # Completion has no place to complain; the command itself will say what is wrong.
                pass
        return list(found)


def _values(client: ControlClient, kind: ValueKind) -> Iterator[str]:
    if kind not in _LIVE_COLUMNS:
        return
    request, columns = _LIVE_COLUMNS[kind]
    for row in client.ask(request).rows():
        for column in columns:
            if row.get(column) is not None:
                yield str(row[column])


def _lookup_row(address: str, found: FoundRoute | None) -> Row:
    if found is None:
        columns = ("prefix", "type", "next_hops", "source", "metric")
        return {"address": address, **dict.fromkeys(columns)}
    return {
        "address": address,
        "prefix": str(found.prefix),
        "type": str(found.type),
        "next_hops": [_next_hop(next_hop) for next_hop in found.next_hops],
        "source": str(found.source),
        "metric": found.metric,
    }


def _next_hop(next_hop: FoundNextHop) -> Row:
    via = None if next_hop.via is None else str(next_hop.via)
    return {"via": via, "dev": _link_name(next_hop.ifindex), "weight": next_hop.weight}


def _link_name(ifindex: int) -> str:
    """The link's name; its number when it is gone, or lies in another network namespace."""
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"if{ifindex}"
