"""What the checks of `doctor` examine: the state of this host as plain data.

None stands for what this kernel does not have, or what this process may not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = [
    "ClockFacts",
    "Facts",
    "Interrupt",
    "LinkFacts",
    "NeighborMtu",
    "NeighborTable",
    "NetworkdFacts",
    "Ring",
    "RoutedFacts",
]


class Ring(NamedTuple):
    """The lengths of a device's descriptor rings, in packets."""

    received: int
    received_max: int
    """Largest length of the receive ring that the device supports."""


class Interrupt(NamedTuple):
    """An interrupt of a device that has occurred since boot."""

    number: int
    cpus: frozenset[int]
    """Processors that serve it."""


class LinkFacts(NamedTuple):
    """One interface that is up and no loopback."""

    name: str
    ifindex: int
    mtu: int
    """Bytes."""
    kind: str = ""
    """Of a software interface: veth, vlan, bridge ...; empty for a device."""
    has_device: bool = False
    """Whether a device of the machine is behind it, so that rings and interrupts exist."""
    link: int | None = None
    """Index of the other end of a veth, or of the interface below; None if there is none in this
    network namespace."""
    master: int | None = None
    """Index of the bridge, bond or VRF that it is a port of."""
    ring_losses: int = 0
    """Packets that the device dropped since boot, because its receive ring was full."""
    queues: int = 1
    """Receive queues in use."""
    queues_max: int | None = None
    """Most receive queues that the device supports."""
    has_lro: bool | None = None
    has_gro: bool | None = None
    has_checksum_offload: bool | None = None
    """Whether the checksum of sent packets is left to the device."""
    ring: Ring | None = None
    interrupts: tuple[Interrupt, ...] = ()
    numa_cpus: frozenset[int] | None = None
    """Processors of the device's NUMA node; None if the machine has one node."""
    has_rps: bool | None = None
    """Whether packets of a receive queue are distributed to several processors (RPS)."""


class NeighborTable(NamedTuple):
    """The kernel's table of link-layer addresses of one family, of all network namespaces."""

    entries: int
    overflows: int
    """How often an entry was refused since boot, because the table was full."""


class ClockFacts(NamedTuple):
    """The state of the clock, as the kernel sees it (adjtimex)."""

    is_synchronised: bool
    error_s: float
    """Largest error of the clock as the kernel estimates it."""


class NetworkdFacts(NamedTuple):
    """systemd-networkd's settings, whether it runs or not."""

    foreign: Mapping[str, str]
    """Last value of each `ManageForeign...` option that a configuration file sets."""


class NeighborMtu(NamedTuple):
    """A neighbor's interface as the neighbor describes it."""

    interface: str
    """The local one."""
    neighbor: str
    mtu: int
    """Bytes."""


class RoutedFacts(NamedTuple):
    """What routed reports."""

    problem: str
    """Reason why it reports nothing; else empty."""
    pid: int | None = None
    network_namespace: int | None = None
    """Inode of its network namespace."""
    neighbor_mtus: tuple[NeighborMtu, ...] = ()


class Facts(NamedTuple):
    """Everything that the checks examine."""

    daemon: RoutedFacts
    sysctls: Mapping[str, str] = {}
    """Value by path below /proc/sys, such as `net/ipv4/ip_forward`; absent if it is not shown."""
    links: tuple[LinkFacts, ...] = ()
    links_problem: str = ""
    """Reason why `links` is empty, if the kernel cannot be queried."""
    cpus: int = 1
    """Processors that are online."""
    backlog_drops: int | None = None
    """Packets that were dropped since boot, because a processor's backlog was full."""
    neighbor_tables: Mapping[str, NeighborTable] = {}
    """By address family: `ipv4`, `ipv6`."""
    clock: ClockFacts | None = None
    programs: Mapping[str, tuple[int, ...]] | None = None
    """Process ids of the programs of this network namespace, by name; None without /proc."""
    networkd: NetworkdFacts = NetworkdFacts({})
    network_namespace: int | None = None
    """Inode of the network namespace of this process."""
