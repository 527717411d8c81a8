"""The engine's end of the channel to the parent, as one value."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.engine.parent_client import ParentClient
from routed.engine.parent_watch import ParentWatch
from routed.engine.send_queue import SendQueue

__all__ = ["ParentChannel"]


@dataclass(frozen=True, slots=True)
class ParentChannel:
    """The objects that communicate with the parent."""

    queue: SendQueue
    client: ParentClient
    watch: ParentWatch
