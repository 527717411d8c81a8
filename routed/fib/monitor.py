"""Handling of kernel notifications: links, addresses, routes, rules and nexthop objects.

    EventSocket --messages--> KernelMonitor --LinkChange--> parent (engine, sockets)
                                            --route--> FibSync (drift, conflicts)
                               '--route--> LinkTable (which subnets are connected)
                                            --overrun--> both read everything again

Subscribe, then dump, so that no change is missed: the caller opens the event socket before the
first `load`, and notifications that were queued meanwhile are applied to the result. Each has a
whole state, so a later one supersedes an earlier one.

Our own writes cause no notifications here: the event socket has a filter against them.

Failure: a dump that fails, or is interrupted DUMP_ATTEMPTS times because the links change faster
than they can be read, is repeated without limit, after a pause that doubles up to the limit of
RETRY. Meanwhile the known state is kept, and notifications wait in their socket.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import trio

from routed.fib.links import codec as events
from routed.fib.links.table import LinkChange, LinkTable
from routed.fib.nexthops.codec import (
    NEXTHOP_MESSAGES,
    SeenNextHop,
    decode_nexthop,
)
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.codec import decode_route
from routed.fib.routes.ownership import KernelRoute
from routed.fib.rule_codec import RULE_MESSAGES
from routed.model.backoff import Backoff
from routed.netlink.message import (
    NLM_F_REPLACE,
    RTM_DELNEXTHOP,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    NetlinkDecodeError,
    NetlinkMessage,
)
from routed.netlink.socket import (
    DUMP_ATTEMPTS,
    DumpInterrupted,
    EventSocket,
    NetlinkError,
    Overrun,
)

__all__ = ["RETRY", "KernelMonitor"]

RETRY = Backoff(first_s=0.1, limit_s=5.0)
"""Pauses between two rounds of DUMP_ATTEMPTS dumps."""


class KernelMonitor:
    """Keeps the table of links current and passes notifications on."""

    def __init__(
        self,
        listener: EventSocket,
        requests: RequestSocket,
        *,
        on_link: Callable[[LinkChange], None],
        on_route: Callable[[KernelRoute, bool, bool], None],
        on_rule: Callable[[], None],
        on_nexthop: Callable[[SeenNextHop, bool], None],
        on_overrun: Callable[[str], None],
        on_failure: Callable[[Exception], None],
        links: LinkTable | None = None,
    ) -> None:
        """Begin; nothing is read before `load` and `run`.

        Args:
            listener: a subscribed event socket.
            requests: the socket for dumps of links and device routes.
            on_link: called for every change of a link.
            on_route: called with a route, whether it was removed, and whether it replaced another
                one of its key (NLM_F_REPLACE).
            on_rule: called when a policy rule was added or removed.
            on_nexthop: called with a nexthop object and whether it was removed.
            on_overrun: called when notifications were lost, after links were read again.
            on_failure: called with the error of a failed dump, which is repeated after a pause.
            links: the table to keep current, for another kernel table than main.
        """
        self.links = links or LinkTable()
        self.overruns = 0
        self._waiting = trio.CancelScope()
        self._listener = listener
        self._requests = requests
        self._on_link = on_link
        self._on_route = on_route
        self._on_rule = on_rule
        self._on_nexthop = on_nexthop
        self._on_overrun = on_overrun
        self._on_failure = on_failure

    async def load(self) -> None:
        """Read links, addresses and device routes; repeat until a dump succeeds.

        If cancelled, the known state is kept.
        """
        for rounds in itertools.count(1):
            try:
                await self._load_once()
            except (NetlinkError, OSError) as error:
                self._on_failure(error)
            else:
                return
            await trio.sleep(RETRY.pause_s(rounds))

    async def _load_once(self) -> None:
        """Read every link, address and device route.

        Raises:
            NetlinkError: the kernel refused, or interrupted DUMP_ATTEMPTS dumps.
            OSError: the system refused the request.
        """
        for attempt in range(1, DUMP_ATTEMPTS + 1):
            try:
                self.links.replace(*await self._requests.dump_links())
                await self._read_device_routes()
            except DumpInterrupted:
                if attempt == DUMP_ATTEMPTS:
                    raise
                continue
            return

    async def _read_device_routes(self) -> None:
        try:
            routes = await self._requests.dump_device_routes(self.links.tables)
        except OSError as error:
            raise NetlinkError(str(error)) from error
        self._notify(self.links.replace_routes(routes))

    def follow_table(self, table_id: int) -> None:
        """Read device routes for another table, to which the daemon's routes go from now on."""
        self.links.follow_table(table_id)
        self._waiting.cancel()

    async def run(self) -> None:
        """Handle notifications until cancelled."""
        while True:
            try:
                with trio.CancelScope() as self._waiting:
                    for message in await self._listener.receive():
                        self._handle(message)
                if self.links.device_routes.is_doubtful:
                    await self._read_device_routes()
                self._notify(self.links.pop_changes())
            except (Overrun, NetlinkDecodeError, NetlinkError) as error:
                self.overruns += isinstance(error, Overrun)
                await self.load()
                self._on_overrun(str(error))

    def link_answered(self, message: NetlinkMessage) -> None:
        """Apply the answer to a request for one link, changed or not."""
        self._apply_link(message)

    def _handle(self, message: NetlinkMessage) -> None:
        if message.type in events.LINK_MESSAGES:
            self._apply_link(message)
        elif message.type in events.ADDRESS_MESSAGES:
            address = events.decode_address(message)
            if address is not None:
                self.links.record(address)
        elif message.type in RULE_MESSAGES:
            self._on_rule()
        elif message.type in NEXTHOP_MESSAGES:
            self._on_nexthop(decode_nexthop(message), message.type == RTM_DELNEXTHOP)
        elif message.type in (RTM_NEWROUTE, RTM_DELROUTE):
            route = decode_route(message.payload)
            if route is not None:
                is_removed = message.type == RTM_DELROUTE
                is_replacing = bool(message.flags & NLM_F_REPLACE)
                self.links.record_route(route, is_removed=is_removed, is_replacing=is_replacing)
                self._on_route(route, is_removed, is_replacing)

    def _apply_link(self, message: NetlinkMessage) -> None:
        event = events.decode_link(message)
        change = self.links.apply(event) if event is not None else None
        if change is not None:
            self._on_link(change)

    def _notify(self, changes: Iterable[LinkChange]) -> None:
        for change in changes:
            self._on_link(change)
