"""A running network of routers: links, kernel tables, convergence, traffic, diagnosis."""

from __future__ import annotations

import socket
from collections.abc import Callable

import convergence
import kernel
from client import HolderClient, LabError
from daemons import Daemons
from kernel import PROTOCOL_ROUTED, KernelRoute
from pinger import Pinger, PingReport, PingStream
from rtnetlink import NETLINK_ROUTE, Rtnetlink
from topology import Topology
from waiting import wait_until

__all__ = ["Network"]

_STREAM_INTERVAL_S = 0.01


class Network(Daemons):
    """The operations on a lab, whichever process built it."""

    def __init__(self, client: HolderClient, topology: Topology) -> None:
        """Use a client; `detach` closes it."""
        super().__init__(client, topology)
        self.name = client.name
        self._netlinks: dict[str, Rtnetlink] = {}

    def detach(self) -> None:
        """Close the client and all sockets; the lab is not changed."""
        for netlink in self._netlinks.values():
            netlink.close()
        self._netlinks.clear()
        super().detach()

    def open_socket(self, router: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket that was opened in a router and is used here; the caller closes it.

        Raises:
            LabError: there is no such router, or the kernel refused.
        """
        return self._client.open_socket(router, family, kind, protocol)

    # links and kernel tables

    def netlink(self, router: str) -> Rtnetlink:
        """Return an rtnetlink socket of a router (or of a LAN's bridge), which is kept for later
        calls.

        Raises:
            LabError: there is no such router.
        """
        if router not in self._netlinks:
            connection = self.open_socket(router, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
            self._netlinks[router] = Rtnetlink(connection)
        return self._netlinks[router]

    def cut(self, link: str) -> None:
        """Switch off A's end of the link `A-B` (or `A-LAN`); B loses its carrier.

        Raises:
            TopologyError: there is no such link.
        """
        port = self.topology.port_between(link)
        self.netlink(port.node).set_up(port.ifname, is_up=False)

    def mend(self, link: str) -> None:
        """Switch both ends of a link on, whichever was cut.

        Raises:
            TopologyError: there is no such link.
        """
        port = self.topology.port_between(link)
        segment = next(segment for segment in self.topology.segments if port in segment.ports)
        for end in (port,) if segment.is_lan else segment.ports:
            self.netlink(end.node).set_up(end.ifname, is_up=True)

    def cut_ports(self) -> frozenset[tuple[str, str]]:
        """The ports that are switched off now, as (router, interface name)."""
        return frozenset(
            (node, port.ifname)
            for node in self.topology.nodes
            for port in self.topology.ports_of(node)
            if not self.netlink(node).link_is_up(port.ifname)
        )

    def kernel_routes(
        self, router: str, protocol: int | None = PROTOCOL_ROUTED, table: int | None = None
    ) -> list[KernelRoute]:
        """Read the routes of a router's kernel, both families.

        Args:
            router: its name.
            protocol: only routes with this rtm_protocol; None for all.
            table: only routes of this table; None for all.
        """
        return kernel.read_routes(self.netlink(router), protocol, table)

    # convergence

    def gaps(self) -> list[str]:
        """Return why the network has not converged, one line per reason (convergence.py)."""
        # Running routectl takes a process per router, so it is done last.
        return self.path_gaps() or [
            difference for name in self.topology.nodes for difference in self.fib_differences(name)
        ]

    def path_gaps(self) -> list[str]:
        """Return which packets would not use a shortest path, by the kernels' routes; one line
        each."""
        first_hops = self.topology.first_hops(self.cut_ports())
        routes = {name: self.kernel_routes(name) for name in self.topology.nodes}
        return convergence.path_gaps(self.topology, first_hops, routes)

    def fib_differences(self, router: str) -> list[str]:
        """Return the differences between a router's `show fib` and its kernel, one line each; all
        begin with `ROUTER: `.

        A daemon that does not answer (its engine may be restarting) is a difference, too.
        """
        try:
            rows = self.routectl(router, "show", "fib", "table", "all")
        except LabError as error:
            return [str(error)]
        found = convergence.fib_differences(rows, self.kernel_routes(router))
        return [f"{router}: {difference}" for difference in found]

    def wait_converged(
        self, deadline_s: float, progress: Callable[[list[str]], None] | None = None
    ) -> None:
        """Wait until the network has converged on the links that are up.

        Args:
            deadline_s: longest time to wait, in seconds.
            progress: called with the gaps after each check.

        Raises:
            DeadlineExceededError: it did not converge; the text lists the gaps.
        """
        gaps: list[str] = []

        def is_converged() -> bool:
            gaps[:] = self.gaps()
            if progress is not None:
                progress(gaps)
            return not gaps

        wait_until(is_converged, deadline_s, "converged", explain=lambda: "\n".join(gaps))

    # traffic

    def pinger(self, source: str, destination: str, version: int) -> Pinger:
        """Return a pinger from one router's loopback address to another's.

        Args:
            source: router.
            destination: router.
            version: 4 or 6.

        Raises:
            LabError: there is no such router.
        """
        addresses = [
            str(self.node(name).loopbacks[version == 6].ip) for name in (source, destination)
        ]
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP)
            if version == 4
            else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        connection = self.open_socket(source, family, socket.SOCK_RAW, protocol)
        return Pinger(connection, *addresses)

    def ping(self, source: str, destination: str, count: int = 5, version: int = 4) -> PingReport:
        """Ping from loopback address to loopback address.

        Args:
            source: router.
            destination: router.
            count: number of echo requests.
            version: 4 or 6.
        """
        pinger = self.pinger(source, destination, version)
        try:
            return pinger.ping(count)
        finally:
            pinger.close()

    def ping_stream(
        self,
        source: str,
        destination: str,
        versions: tuple[int, ...] = (4, 6),
        interval_s: float = _STREAM_INTERVAL_S,
    ) -> PingStream:
        """Return pings in the background, for the duration of a `with` block."""
        pingers = [self.pinger(source, destination, version) for version in versions]
        return PingStream(pingers, interval_s)

    # diagnosis

    def dump(self) -> str:
        """Return every router's views, kernel routes and log, for the analysis of a failure."""
        return "\n".join(self._dump_router(router) for router in self.topology.nodes)

    def _dump_router(self, router: str) -> str:
        parts = [f"======== {router}"]
        for view in ("neighbors", "routes", "fib"):
            parts += [f"-- routectl show {view}", self._shown(router, view)]
        parts.append("-- kernel routes")
        parts += [kernel.as_ip_route(route) for route in self.kernel_routes(router, None)]
        parts += ["-- log", self.log(router)]
        return "\n".join(parts)

    def _shown(self, router: str, view: str) -> str:
        try:
            return self.show(router, view)
        except LabError as error:
            return str(error)
