"""Two BFD instances in virtual time, with a wire between them that may lose and delay packets."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import random
from collections.abc import Callable

from routed.bfd.instance import BfdInstance, Origin
from routed.bfd.outputs import BfdStateChanged, SendControl
from routed.model.bfd import BfdReport, BfdSettings, BfdState
from routed.model.prefix import Address

__all__ = ["A", "B", "BfdPair", "settings"]

A, B = Address.parse("192.0.2.1"), Address.parse("192.0.2.2")
DELAY_S = 0.0001


def settings(peer: Address = B, name: str = "s", **changes: object) -> BfdSettings:
    """A single-hop session at 50 ms with the multiplier 3."""
    plain = BfdSettings(
        name=name,
        peer=peer,
        source=None,
        ifindex=0,
        is_multihop=False,
        is_passive=False,
        transmit_us=50_000,
        receive_us=50_000,
        multiplier=3,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


class BfdPair:
    """Instances a and b, each with the session `s` to the other."""

    def __init__(self, a: BfdSettings, b: BfdSettings, seed: int = 1) -> None:
        self.now = 100.0
        self.loses: Callable[[int], bool] = lambda _side: False
        """Whether the packet that a side sends now is lost."""
        self.changes: list[tuple[float, int, BfdState]] = []
        """Time, side (0 or 1), and new state."""
        self.sent: list[tuple[float, int, bytes]] = []
        self.instances = [BfdInstance(random.Random(f"{seed}{side}")) for side in "ab"]
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()
        for side, each in enumerate((a, b)):
            self.instances[side].configure([each], self.now)
            self._drain(side)

    def report(self, side: int) -> BfdReport:
        """The session of a side."""
        report = self.instances[side].report("s", self.now)
        assert report is not None
        return report

    @property
    def states(self) -> tuple[BfdState, BfdState]:
        """Of both sides."""
        return self.report(0).state, self.report(1).state

    def configure(self, side: int, *wanted: BfdSettings) -> None:
        """Give a side other sessions."""
        self.instances[side].configure(wanted, self.now)
        self._drain(side)

    def give(self, side: int, data: bytes, **changes: object) -> None:
        """Give a side a packet, by default one of its peer on its link."""
        origin = Origin((B, A)[side], (A, B)[side], 7, 255, False)._replace(**changes)  # type: ignore[arg-type]
        self.instances[side].receive_datagram(data, origin, self.now)
        self._drain(side)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            timers = [each.next_timer() for each in self.instances]
            moments = [moment for moment in timers if moment is not None]
            moments += [self._flying[0][0]] if self._flying else []
            moment = min(moments, default=math.inf)
            if moment > end:
                self.now = end
                return
            self.now = max(moment, self.now)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, side, data = heapq.heappop(self._flying)
                self.give(side, data)
            for side in (0, 1):
                self.instances[side].handle_timer(self.now)
                self._drain(side)

    def run_until(self, *wanted: BfdState, within_s: float = 30.0) -> float:
        """Let time pass until both sides have these states; how long it took."""
        began = self.now
        while self.states != wanted:
            assert self.now - began < within_s, f"{self.states} after {within_s} s"
            self.run(0.001)
        return self.now - began

    def _drain(self, side: int) -> None:
        for output in self.instances[side].outputs():
            match output:
                case SendControl(data=data):
                    self.sent.append((self.now, side, data))
                    if not self.loses(side):
                        flight = (self.now + DELAY_S, next(self._order), 1 - side, data)
                        heapq.heappush(self._flying, flight)
                case BfdStateChanged(new=new):
                    self.changes.append((self.now, side, new))
