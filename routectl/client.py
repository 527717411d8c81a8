"""Requests that need more than one exchange: lookups in the snapshot, and values for completion.

A snapshot is opened again for every `lookup`. The descriptor costs one round trip, and a snapshot
that was kept could belong to a daemon that has restarted since.

Live values come over a separate connection with a short timeout: completion can run at the same
time as the shell's own request and must never block the keyboard. It returns nothing if the daemon
does not answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ipc.blocking import ControlClient, ControlError, ExitStatus
from ipc.control import (
    Request,
    ShowBfdSessions,
    ShowConfig,
    ShowInterfaces,
    ShowNeighbors,
    ShowProbes,
    ShowRoutes,
)
from routectl.grammar import ValueKind
from routectl.render.text import Row

if TYPE_CHECKING:
    from ipc.snapshot import FoundNextHop, FoundRoute

__all__ = ["LIVE_VALUES_MAX", "LiveValueSource", "look_up"]


LIVE_VALUES_MAX = 200
"""Most values that are fetched for a completion menu."""

_LIVE_TIMEOUT_S = 1.0

_LIVE_COLUMNS: dict[ValueKind, tuple[Request, tuple[str, ...]]] = {
    ValueKind.NEIGHBOR: (ShowNeighbors(), ("router_id", "address")),
    ValueKind.INTERFACE: (ShowInterfaces(), ("interface",)),
    ValueKind.ADDRESS: (ShowRoutes(is_selected_only=True), ("prefix",)),
    ValueKind.DESTINATION: (ShowRoutes(is_selected_only=True), ("prefix",)),
    ValueKind.PROBE: (ShowProbes(), ("name",)),
    ValueKind.SESSION: (ShowBfdSessions(), ("name",)),
    ValueKind.PREFIX: (ShowRoutes(is_selected_only=True), ("prefix",)),
    ValueKind.TABLE: (ShowConfig(section="tables"), ("option",)),
}
"""Request that lists the values of a kind, and the columns that hold them."""


def look_up(client: ControlClient, addresses: Sequence[str]) -> list[Row]:
    """Find each address in the daemon's snapshot.

    Returns:
        One row per address, in order; `prefix` is None where no route covers it.

    Raises:
        ControlError: the snapshot could not be opened, or is damaged.
    """
    # This import maps and decodes shared memory; only `lookup` needs it.
    from ipc.snapshot import FibReader, SnapshotError

    try:
        with FibReader.from_fd(client.open_snapshot()) as reader:
            return [_lookup_row(address, reader.lookup(address)) for address in addresses]
    except SnapshotError as error:
        raise ControlError("snapshot", f"the snapshot: {error}", ExitStatus.REFUSED) from error


class LiveValueSource:
    """Live values of the daemon, for completion."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path

    def __call__(self, kind: ValueKind, start: str) -> list[str]:
        """Return up to LIVE_VALUES_MAX values that begin with `start`; none if no daemon answers.

        The connection is closed as soon as enough values are found, which also ends the request in
        the daemon.
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
                # Completion cannot show an error; the command itself will report it.
                pass
        return list(found)


def _values(client: ControlClient, kind: ValueKind) -> Iterator[str]:
    if kind not in _LIVE_COLUMNS:
        return
    request, columns = _LIVE_COLUMNS[kind]
    for row in client.ask(request).rows():
        for column in columns:
            if row.get(column) is not None:
                value = str(row[column])
                if kind is ValueKind.TABLE:
                    value = value.partition(".")[2] or "all"  # the section itself stands for all
                yield value.partition("/")[0] if kind is ValueKind.ADDRESS else value


def _lookup_row(address: str, found: FoundRoute | None) -> Row:
    if found is None:
        columns = ("prefix", "type", "next_hops", "source", "metric")
        return {"address": address, **dict.fromkeys(columns)}
    return {
        "address": address,
        "prefix": found.prefix,
        "type": found.type,
        "next_hops": [_next_hop(next_hop) for next_hop in found.next_hops],
        "source": found.source,
        "metric": found.metric,
    }


def _next_hop(next_hop: FoundNextHop) -> Row:
    return {"via": next_hop.via, "dev": next_hop.dev, "weight": next_hop.weight}
