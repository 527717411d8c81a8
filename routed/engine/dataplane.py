"""The engine's side of the dataplane: the counters that the programs write, read in mapped memory.

The parent loads and attaches; it sends the memory once for each engine, and what is attached after
each change. No system call reads a counter, so bpf(2) stays among the calls that end an engine.

Counters belong to the kernel's memory, not to an engine: they go on while an engine dies and the
next one starts.
"""

from __future__ import annotations

import os

from routed.dataplane.accounts import RouteAccounts
from routed.dataplane.activity import Activity
from routed.dataplane.counters import LinkCounters
from routed.dataplane.kernel import MappedArray
from routed.dataplane.layout import Sizes
from routed.imsg.dataplane import Attachment, DataplaneArrayReady, DataplaneChanged
from routed.model.dataplane import DataplaneArray
from routed.snapshot.mirror import RouteMirror
from routed.snapshot.writer import FibSnapshot

__all__ = ["Dataplane"]


class Dataplane:
    """Owner of the mapped memory, and of the last report of the parent."""

    def __init__(self, snapshot: FibSnapshot) -> None:
        """Begin without memory.

        Args:
            snapshot: whose routes are published to the programs, too.
        """
        self.attachments: tuple[Attachment, ...] = ()
        """Every configured interface."""
        self.counters: LinkCounters | None = None
        """None until the memory is there."""
        self.accounts: RouteAccounts | None = None
        """None unless routes are counted."""
        self.mirror: RouteMirror | None = None
        self._snapshot = snapshot
        self._activity: Activity | None = None
        self._words: memoryview | None = None
        self._parts: list[Attachment] = []
        self._mappings: list[MappedArray] = []
        """Mapped until this process ends."""

    def handle_array(self, message: DataplaneArrayReady, descriptor: int) -> None:
        """Map memory that the programs write.

        Raises:
            OSError: the kernel refuses.
        """
        sizes = Sizes(message.processors, message.words, message.records)
        try:
            size = sizes.array_bytes[message.array.value]
            is_shared = message.array in (DataplaneArray.WORDS, DataplaneArray.ROUTES)
            mapping = MappedArray(descriptor, size, is_writable=is_shared)
        finally:
            os.close(descriptor)
        self._mappings.append(mapping)
        match message.array:
            case DataplaneArray.LINKS:
                self.counters = LinkCounters(mapping.memory, sizes.processors)
            case DataplaneArray.ACTIVITY:
                self._activity = Activity(mapping.memory)
            case DataplaneArray.WORDS:
                self._words = mapping.memory.cast("I")
            case DataplaneArray.ROUTES:
                self._count_routes(RouteAccounts(mapping.memory, sizes.records))

    def _count_routes(self, accounts: RouteAccounts) -> None:
        """Publish the routes to the programs; the parent sends the memory in this order."""
        assert self._activity is not None
        assert self._words is not None
        self.accounts = accounts
        self.mirror = RouteMirror(self._words, self._activity, accounts)
        self._snapshot.attach_mirror(self.mirror)

    def handle_changed(self, message: DataplaneChanged) -> None:
        """Keep what is attached, once all parts of the report are there."""
        self._parts += message.attachments
        if not message.continues:
            self.attachments, self._parts = tuple(self._parts), []
