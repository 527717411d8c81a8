"""The NUP sockets: the links that have one, and the copies that the present engine has.

The parent opens the sockets, because an engine may not, and keeps them; an engine gets copies. The
parent never reads them. When an engine dies, and while a link is down, the socket stays bound, so
that no other process on this machine can bind the port. The next engine gets a copy of the same
socket once its options have been restored (`routed.parent.nup_socket_options.is_reusable`). The
engine discards the datagrams that arrived in the meantime.

The socket of a link is closed when the link is removed, when NUP no longer runs on it, and when its
family changes. A socket that cannot be opened (the engine still holds an old one, or there is no
free descriptor) is tried again after SOCKET_RETRY_S, as long as NUP should run on the link.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import trio

from ipc.lazy_dataclass import dataclass
from routed.config.interface_match import interface_for
from routed.config.plan import LinkPlan
from routed.config.schema import InterfaceConfig
from routed.fib.links.table import LinkChange, LinkTable
from routed.imsg.messages import SocketKind, SocketReady
from routed.log.logger import Logger
from routed.model.link import Interface
from routed.model.prefix import Family
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.nup_socket_options import is_reusable, open_neighbor_socket

__all__ = ["SOCKET_RETRY_S", "NupSockets", "neighbor_family"]

SOCKET_RETRY_S = 0.25
"""The pause before a socket that could not be opened is tried again."""


@dataclass(slots=True)
class _Kept:
    """The socket of one link."""

    family: Family
    sock: socket.socket
    is_handed_over: bool = False
    """Whether the present engine has a copy, and the link has not been unusable since."""


class NupSockets:
    """The owner of the NUP sockets, which retries those that could not be opened."""

    def __init__(
        self,
        interfaces: Sequence[InterfaceConfig],
        links: LinkTable,
        supervisor: Supervisor,
        log: Logger,
    ) -> None:
        """Begin without sockets.

        Args:
            interfaces: the section of the configuration.
            links: the present links.
            supervisor: its running engine gets a copy of each socket.
            log: receives an event for each socket that was opened, or could not be.
        """
        self._interfaces = interfaces
        self._links = links
        self._supervisor = supervisor
        self._log = log
        self._kept: dict[int, _Kept] = {}
        self._due: dict[int, float] = {}
        """Monotonic time of the next attempt, by interface index."""
        self._has_due = trio.Event()
        self._ports: set[int] = set()
        """Links on which NUP is configured and does not run, because they are ports of others."""

    def __len__(self) -> int:
        return sum(kept.is_handed_over for kept in self._kept.values())

    def __contains__(self, ifindex: int) -> bool:
        kept = self._kept.get(ifindex)
        return kept is not None and kept.is_handed_over

    def begin_session(self) -> None:
        """Record that a new engine has no copies."""
        for kept in self._kept.values():
            kept.is_handed_over = False

    def drop(self, ifindex: int) -> None:
        """Close the socket of a link that was removed, or on which NUP no longer runs."""
        kept = self._kept.pop(ifindex, None)
        if kept is not None:
            kept.sock.close()

    def close(self) -> None:
        """Close all sockets."""
        for ifindex in list(self._kept):
            self.drop(ifindex)

    def follow(self, interfaces: Sequence[InterfaceConfig]) -> None:
        """Use another section from now on; `reconcile_all` opens and closes sockets."""
        self._interfaces = interfaces

    def reconcile_all(self) -> None:
        """Open and close sockets by the configuration in force."""
        for link in self._links.interfaces.values():
            self.reconcile(link)

    def handle_link_change(self, change: LinkChange) -> None:
        """Open or close the socket of a link that has changed."""
        if change.after is None:
            self.drop(change.ifindex)
        else:
            self.reconcile(change.after)

    def reconcile(self, link: Interface) -> None:
        """Send the engine a socket for a link, if NUP runs there and the engine has none."""
        entry = interface_for(self._interfaces, link.ifname)
        family = neighbor_family(link, entry)
        self._record_port(link, is_configured=entry is not None)
        if family is None:
            self._suspend(link, is_configured=entry is not None)
            return
        engine = self._supervisor.running
        if engine is None:
            return
        kept = self._kept.get(link.ifindex)
        if kept is not None and kept.family is family and kept.is_handed_over:
            return
        try:
            kept = self._restore(link, family) or self._open(link, family)
            copy = os.dup(kept.sock.fileno())
        except OSError as error:
            self._log.emit("socket-failed", link=link.ifname, problem=error.strerror or error)
            self._due.setdefault(link.ifindex, trio.current_time() + SOCKET_RETRY_S)
            self._has_due.set()
            return
        kept.is_handed_over = True
        engine.send_link(link.ifindex)  # the engine must know the link before its socket comes
        engine.send(SocketReady(SocketKind.NEIGHBOR, link.ifindex, family), descriptor=copy)

    def _suspend(self, link: Interface, *, is_configured: bool) -> None:
        """Close the socket of a link that NUP cannot use, or keep it if that may change."""
        kept = self._kept.get(link.ifindex)
        if link.is_port or not is_configured:
            self.drop(link.ifindex)
        elif kept is not None:
            kept.is_handed_over = False

    def _restore(self, link: Interface, family: Family) -> _Kept | None:
        """Restore the kept socket of a link for another engine; None if that is impossible."""
        kept = self._kept.get(link.ifindex)
        if kept is None:
            return None
        own = next((entry.address for entry in link.usable_addresses(family)), None)
        if kept.family is family and is_reusable(kept.sock, link.ifindex, link.ifname, family, own):
            return kept
        self.drop(link.ifindex)
        return None

    def _open(self, link: Interface, family: Family) -> _Kept:
        """Open a new socket for a link.

        Raises:
            OSError: it cannot be opened now.
        """
        kept = _Kept(family, open_neighbor_socket(link.ifindex, link.ifname, family))
        self._kept[link.ifindex] = kept
        self._log.emit("socket-opened", link=link.ifname, family=family.name.lower())
        return kept

    def _record_port(self, link: Interface, *, is_configured: bool) -> None:
        """Log once that NUP does not run on a link because it is a port of another one."""
        is_refused = link.is_port and is_configured
        if is_refused and link.ifindex not in self._ports:
            self._log.emit("nup-not-on-port", link=link.ifname)
        (self._ports.add if is_refused else self._ports.discard)(link.ifindex)

    def link_plans(self, new: Sequence[InterfaceConfig]) -> list[LinkPlan]:
        """Return for every link its present entry, and its entry in another section."""
        return [
            LinkPlan(
                link.ifname,
                interface_for(self._interfaces, link.ifname),
                interface_for(new, link.ifname),
                has_socket=link.ifindex in self,
            )
            for link in self._links.interfaces.values()
            if not link.is_loopback
        ]

    async def run(self) -> None:
        """Retry the sockets that could not be opened, until cancelled."""
        while True:
            await self._has_due.wait()
            if not self._due:
                self._has_due = trio.Event()
                continue
            await trio.sleep_until(min(self._due.values()))
            now = trio.current_time()
            for ifindex in [ifindex for ifindex, due in self._due.items() if due <= now]:
                del self._due[ifindex]
                link = self._links.interfaces.get(ifindex)
                if link is not None:
                    self.reconcile(link)


def neighbor_family(link: Interface, entry: InterfaceConfig | None) -> Family | None:
    """Choose the family of NUP on a link: IPv6 if possible, else IPv4; None if NUP does not run.

    A port of a bridge or a bond receives nothing, and its datagrams have the source address of the
    bridge or bond: to neighbors the two would appear as one router that keeps losing its state.

    While an IPv6 address is checked for duplicates, the result is None: the address will be usable
    within a second, and the adjacency should not move from one family to the other.
    """
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
