"""The NUP sockets: which links should have one, and what the present engine was handed.

The parent opens them, for an engine may not; it never reads them. A link that goes takes its socket
along; one that comes, comes back or changes its family gets a new one. A socket that cannot be
opened now (the engine still holds the old one of a link that was down for a moment, or descriptors
are short) is tried again after SOCKET_RETRY_S, for as long as the link should have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from ipc.internal import SocketKind, SocketReady
from routed.config.schema import Config
from routed.log import Logger
from routed.model.link import Interface
from routed.model.prefix import Family
from routed.sockets import open_neighbor_socket

__all__ = ["SOCKET_RETRY_S", "NeighborSockets", "SocketTaker", "neighbor_family"]

SOCKET_RETRY_S = 0.25
"""After this long a NUP socket that could not be opened is tried again."""


class SocketTaker(Protocol):
    """The engine that sockets are handed to."""

    def send_link(self, ifindex: int) -> None:
        """Tell a link as it is now, in order with other messages."""
        ...

    def send(self, message: object, *, request_id: int = 0, descriptor: int | None = None) -> None:
        """Send a message; the descriptor is the taker's from then on."""
        ...


class NeighborSockets:
    """Owns the books of what was handed over, and the links whose socket is tried again."""

    def __init__(
        self,
        link: Callable[[int], Interface | None],
        running: Callable[[], SocketTaker | None],
        log: Logger,
    ) -> None:
        """Args:
        link: a link as it is now, by ifindex.
        running: the engine that is up, if one is.
        log: for what was opened, and what could not be.
        """
        self._link = link
        self._running = running
        self._log = log
        self._families: dict[int, Family] = {}
        self._due: dict[int, float] = {}
        """When to try again, by link."""
        self._has_due = trio.Event()
        self._ports: set[int] = set()
        """Links that NUP was to run on, and does not, because they are ports of others."""

    def __len__(self) -> int:
        return len(self._families)

    def __contains__(self, ifindex: int) -> bool:
        return ifindex in self._families

    def begin_session(self) -> None:
        """A new engine has none."""
        self._families.clear()

    def forget(self, ifindex: int) -> None:
        """NUP does not run on the link, or no longer: it may be gone, and its socket with it."""
        self._families.pop(ifindex, None)

    def settle_all(self, links: Iterable[Interface], config: Config) -> None:
        """The same as `settle` for many."""
        for link in links:
            self.settle(link, config)

    def settle(self, link: Interface, config: Config) -> None:
        """Hand the engine a socket for a link, if it should have one and does not yet."""
        family = neighbor_family(link, config)
        self._note_port(link, config)
        if family is None:
            self.forget(link.ifindex)
            return
        engine = self._running()
        if engine is None or self._families.get(link.ifindex) is family:
            return
        try:
            opened = open_neighbor_socket(link.ifindex, link.ifname, family)
        except OSError as error:
            self._log.emit("socket-failed", link=link.ifname, problem=error.strerror or error)
            self._due.setdefault(link.ifindex, trio.current_time() + SOCKET_RETRY_S)
            self._has_due.set()
            return
        self._families[link.ifindex] = family
        self._log.emit("socket-opened", link=link.ifname, family=family.name.lower())
        engine.send_link(link.ifindex)  # the engine must know the link before its socket comes
        engine.send(
            SocketReady(SocketKind.NEIGHBOR, link.ifindex, family), descriptor=opened.detach()
        )

    def _note_port(self, link: Interface, config: Config) -> None:
        """Say once that NUP does not run on a link because it is a port of another one."""
        is_refused = link.is_port and config.interface_for(link.ifname) is not None
        if is_refused and link.ifindex not in self._ports:
            self._log.emit("nup-not-on-port", link=link.ifname)
        (self._ports.add if is_refused else self._ports.discard)(link.ifindex)

    async def run(self, config: Callable[[], Config]) -> None:
        """Try again, for ever.

        Args:
            config: the one in force.
        """
        while True:
            await self._has_due.wait()
            if not self._due:
                self._has_due = trio.Event()
                continue
            await trio.sleep_until(min(self._due.values()))
            now = trio.current_time()
            for ifindex in [ifindex for ifindex, due in self._due.items() if due <= now]:
                del self._due[ifindex]
                link = self._link(ifindex)
                if link is not None:
                    self.settle(link, config())


def neighbor_family(link: Interface, config: Config) -> Family | None:
    """What NUP speaks over on a link: IPv6 if it can, else IPv4; None where it does not run.

    On a port of a bridge or a bond nothing is ever received, and what is sent there comes from the
    other one's address: neighbors would take the two for one that forgets them all the time.

    While an IPv6 address is still being checked for duplicates nothing is opened: it will be
    usable in a second, and the adjacency should not move from one family to the other.
    """
    entry = config.interface_for(link.ifname)
    if entry is None or not link.is_up or link.is_loopback or link.is_port:
        return None
    if not entry.neighbors and not link.has_multicast:
        return None
    if entry.neighbors and entry.neighbors[0].family is Family.IPV4:
        return Family.IPV4 if any(link.usable_addresses(Family.IPV4)) else None
    if link.link_local() is not None:
        return Family.IPV6
    if any(entry.address.is_link_local and not entry.is_usable for entry in link.addresses):
        return None
    return Family.IPV4 if any(link.usable_addresses(Family.IPV4)) else None
