"""The Python library of routed: the names that programs import.

    from routed.client import Client

    with Client() as routed:
        for neighbor in routed.neighbors():
            print(neighbor["router_id"], neighbor["state"])

    Client      blocking; queries, and routes that end with the program   (docs/injection.md)
    TrioClient  the same for trio
    FibReader   the forwarding table in shared memory                     (docs/snapshot.md)

    NeighborRow, RouteRow, StatusRow ...   types of the rows     (docs/json.md)

`ipc`, where they are implemented, is a name that other distributions use as well. TrioClient and
FibReader are loaded when they are first used: they need trio and the mapped memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipc.client import Client
from ipc.conversation import ControlError, DaemonUnreachable, Denied, Row
from ipc.requests import LeaseTerm, NextHop, Route, RouteOptions

if TYPE_CHECKING:
    from ipc.rows import NeighborRow, NextHopRow, ReloadRow, RouteRow, StatusRow
    from ipc.snapshot import FibReader, FoundNextHop, FoundRoute, SnapshotError, StaleSnapshot
    from ipc.trio_client import TrioClient

__all__ = [
    "Client",
    "ControlError",
    "DaemonUnreachable",
    "Denied",
    "FibReader",
    "FoundNextHop",
    "FoundRoute",
    "LeaseTerm",
    "NeighborRow",
    "NextHop",
    "NextHopRow",
    "ReloadRow",
    "Route",
    "RouteOptions",
    "RouteRow",
    "Row",
    "SnapshotError",
    "StaleSnapshot",
    "StatusRow",
    "TrioClient",
]

_LOADED_LATE = {
    "TrioClient": "ipc.trio_client",
    "FibReader": "ipc.snapshot",
    "FoundNextHop": "ipc.snapshot",
    "FoundRoute": "ipc.snapshot",
    "SnapshotError": "ipc.snapshot",
    "StaleSnapshot": "ipc.snapshot",
    "NeighborRow": "ipc.rows",
    "NextHopRow": "ipc.rows",
    "ReloadRow": "ipc.rows",
    "RouteRow": "ipc.rows",
    "StatusRow": "ipc.rows",
}


def __getattr__(name: str) -> object:
    """Load a name of a heavier module.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _LOADED_LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LOADED_LATE[name]), name)
