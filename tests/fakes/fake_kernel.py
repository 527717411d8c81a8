"""A kernel's route tables in a dictionary, with failures on demand.

It keeps the rules that the daemon relies on (what EXCL, REPLACE and a removal by protocol do), and
the contract suite in tests/integration runs the same assertions against the real kernel, so that
the fake cannot drift from it unnoticed.

Each refusal is consumed by the next request that it concerns; `unconsumed` says which were not, and
a test that sets one asserts that it was used.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from routed.fib.ledger import Outcome
from routed.fib.netlink import DumpInterrupted, NetlinkError
from routed.fib.ownership import KernelRoute, RouteKey, RouteValue
from routed.fib.plan import FibOp, OpKind

__all__ = ["FakeKernel"]


class FakeKernel:
    """One network namespace's routes, as rtnetlink shows them."""

    def __init__(self, protocol: int = 205) -> None:
        self.protocol = protocol
        self.routes: dict[RouteKey, KernelRoute] = {}
        self.writes: list[FibOp] = []
        """Every operation ever asked for, in order."""
        self.dumps = 0
        self.interrupt_dumps = 0
        """So many dumps to come are interrupted."""
        self.refuse_dump = False
        self.refuse_apply = False
        self._refusals: dict[tuple[OpKind, RouteKey], Outcome] = {}
        self.down_links: set[int] = set()

    def refuse_next(self, kind: OpKind, key: RouteKey, number: int, detail: str = "") -> None:
        """Refuse the next operation of this kind on this key."""
        self._refusals[kind, key] = Outcome(number, detail)

    @property
    def unconsumed(self) -> list[object]:
        """Failures that were set and never met."""
        flags: list[object] = list(self._refusals)
        if self.interrupt_dumps:
            flags.append("interrupt_dumps")
        if self.refuse_dump:
            flags.append("refuse_dump")
        if self.refuse_apply:
            flags.append("refuse_apply")
        return flags

    def put(self, key: RouteKey, value: RouteValue, protocol: int) -> KernelRoute:
        """Have somebody else write a route."""
        route = KernelRoute(key, protocol, value)
        self.routes[key] = route
        return route

    def ours(self) -> dict[RouteKey, RouteValue]:
        """The routes that carry our protocol number."""
        return {
            key: route.value
            for key, route in self.routes.items()
            if route.protocol == self.protocol
        }

    async def dump_routes(self, table_id: int) -> list[KernelRoute]:
        """As `netlink.RequestSocket.dump_routes`."""
        self.dumps += 1
        if self.refuse_dump:
            self.refuse_dump = False
            raise NetlinkError("dump refused")
        if self.interrupt_dumps:
            self.interrupt_dumps -= 1
            raise DumpInterrupted("the table changed under the dump")
        return [route for key, route in self.routes.items() if key.table_id == table_id]

    async def apply(self, operations: Sequence[FibOp]) -> list[Outcome]:
        """As `netlink.RequestSocket.apply`."""
        if self.refuse_apply:
            self.refuse_apply = False
            raise NetlinkError("answers got lost")
        self.writes.extend(operations)
        return [self._apply(operation) for operation in operations]

    def _apply(self, operation: FibOp) -> Outcome:
        kind, key, value = operation
        refusal = self._refusals.pop((kind, key), None)
        if refusal is not None:
            return refusal
        there = self.routes.get(key)
        if kind is OpKind.REMOVE:
            if there is None or there.protocol != self.protocol:
                return Outcome(errno.ESRCH, "")
            del self.routes[key]
            return Outcome(0, "")
        if any(hop.ifindex in self.down_links for hop in value.next_hops):
            return Outcome(errno.ENETDOWN, "")
        if kind is OpKind.INSTALL and there is not None:
            return Outcome(errno.EEXIST, "")
        if kind is OpKind.REPLACE and there is None:
            return Outcome(errno.ENOENT, "")
        self.routes[key] = KernelRoute(key, self.protocol, value)
        return Outcome(0, "")

    def lose(self, keys: Iterable[RouteKey]) -> list[KernelRoute]:
        """Have routes vanish (a link went down, somebody flushed); returns what is gone."""
        return [self.routes.pop(key) for key in list(keys) if key in self.routes]
