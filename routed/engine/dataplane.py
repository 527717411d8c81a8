"""The engine's side of the dataplane: the counters that the programs write, read in mapped memory.

The parent loads and attaches; it sends the memory once for each engine, and what is attached after
each change. No system call reads a counter, so bpf(2) stays among the calls that end an engine.

Counters belong to the kernel's memory, not to an engine: they go on while an engine dies and the
next one starts.

Every SAMPLE_S the counters are kept for the windows of `show traffic ... last 10s`; if the engine
is late, the samples are further apart, and each window has its real length.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from routed.dataplane.accounts import RouteAccounts
from routed.dataplane.activity import Activity
from routed.dataplane.counters import LinkCounters
from routed.dataplane.history import CounterHistory
from routed.dataplane.kernel import MappedArray
from routed.dataplane.layout import Sizes
from routed.engine.observer_client import ObserverClient
from routed.imsg.dataplane import Attachment, DataplaneArrayReady, DataplaneChanged
from routed.log.logger import Logger
from routed.model.dataplane import DataplaneArray
from routed.snapshot.mirror import RouteMirror
from routed.snapshot.writer import FibSnapshot

__all__ = ["SAMPLE_S", "Dataplane"]

SAMPLE_S = 1.0


class Dataplane:
    """Owner of the mapped memory, and of the last report of the parent."""

    def __init__(self, snapshot: FibSnapshot, clock: Callable[[], float], log: Logger) -> None:
        """Begin without memory.

        Args:
            snapshot: whose routes are published to the programs, too.
            clock: seconds, monotonic.
            log: for an observer that misbehaves.
        """
        self.observer = ObserverClient(log, snapshot)
        """Knows the flows."""
        self.attachments: tuple[Attachment, ...] = ()
        """Every configured interface."""
        self.counters: LinkCounters | None = None
        """None until the memory is there."""
        self.accounts: RouteAccounts | None = None
        """None unless routes are counted."""
        self.mirror: RouteMirror | None = None
        self._snapshot = snapshot
        self._clock = clock
        self._links: CounterHistory | None = None
        self._cleared: LinkCounters | None = None
        """The counters of interfaces when they were last cleared."""
        self._attached_at: dict[int, float] = {}
        """When an interface got the counters of a slot, with the value zero; by slot."""
        self._has_report = False
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
        sizes = Sizes(message.processors, message.words, message.records, message.flow_sets)
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
                self._links = CounterHistory(mapping.memory)
            case DataplaneArray.ACTIVITY:
                self._activity = Activity(mapping.memory)
            case DataplaneArray.WORDS:
                self._words = mapping.memory.cast("I")
            case DataplaneArray.ROUTES:
                self._count_routes(RouteAccounts(mapping.memory, sizes.records))
            case _:
                pass  # for the observer: the parent sends the engine none of them

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
        if message.continues:
            return
        before = {(entry.slot, entry.ifindex) for entry in self.attachments}
        self.attachments, self._parts = tuple(self._parts), []
        for entry in self.attachments:
            if entry.slot < 0 or (entry.slot, entry.ifindex) in before:
                continue
            if self._cleared is not None:
                self._cleared.clear(entry.slot)
            if self._has_report:  # else the counters are of before this engine
                self._attached_at[entry.slot] = self._clock()
        self._has_report = True

    # --- windows of time

    async def run(self) -> None:
        """Keep the counters every SAMPLE_S, and listen to the observer, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.observer.run)
            while True:
                self.sample()
                await trio.sleep(SAMPLE_S)

    def sample(self) -> None:
        """Keep the present counters."""
        now = self._clock()
        if self._links is not None:
            self._links.sample(now)
        if self.accounts is not None:
            self.accounts.sample(now)

    def counters_since_clear(self) -> LinkCounters | None:
        """Return the counters of interfaces since they were last cleared."""
        return None if self.counters is None else self.counters.since(self._cleared)

    def counters_of_last(self, seconds: float) -> tuple[LinkCounters, float] | None:
        """Return the counters of interfaces in a window, and its length in seconds.

        Args:
            seconds: that the window has at least, if there are samples of so long ago.

        Returns:
            None if there is no sample yet.
        """
        counters, now = self.counters, self._clock()
        window = None if self._links is None else self._links.window(now - seconds)
        if counters is None or window is None:
            return None
        before = counters.copy_of(window.content_before())
        for slot, moment in self._attached_at.items():
            if moment > window.began:
                before.clear(slot)
        return counters.copy_of(bytearray().join(window.now)).since(before), now - window.began

    def clear(self) -> None:
        """Let the counters that are shown begin at zero."""
        if self.counters is not None and self._links is not None:
            self._cleared = self.counters.copy_of(self._links.content())
        if self.accounts is not None:
            self.accounts.begin_again()
