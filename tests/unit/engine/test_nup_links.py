"""Links on which NUP runs: they appear and disappear, match patterns, and have settings."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
from collections.abc import Iterator

import pytest

from routed.config.interface_match import interface_for
from routed.config.load import load_text
from routed.config.schema import Config
from routed.engine.nup_links import NeighborLinks
from routed.fib.links.table import LinkTable
from routed.log.logger import Logger
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family
from routed.nup.events import Output
from routed.nup.instance import NeighborInstance
from routed.nup.link.cost import RttCost
from routed.nup.link.damping import Damping
from routed.nup.link.settings import LinkSettings
from routed.nup.network import NeighborNetwork
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.nup_sockets import NupSockets, neighbor_family
from tests.unit.fib.test_sync import ListSink

PATTERNS = 'interfaces: {"eth*": {cost: 7}, wg0: {cost: 50, neighbors: ["fe80::2"]}}'


def config_of(text: str) -> Config:
    return load_text(f"router_id: 10.255.0.1\nuser: root\n{text}\n")


def link(ifname: str, ifindex: int = 3, *, has_carrier: bool = True) -> Interface:
    addresses = (
        InterfaceAddress(Address.parse("192.0.2.1"), 24),
        InterfaceAddress(Address.parse("fe80::1"), 64),
    )
    return Interface(ifindex, ifname, True, has_carrier, 1500, False, True, addresses)


class Listening(NeighborInstance):
    """Records changes of links."""

    def __init__(self) -> None:
        super().__init__(Address.parse("10.255.0.1"), 1, 1, random.Random(1))
        self.running: dict[int, LinkSettings] = {}

    def link_up(self, settings: LinkSettings, now: float) -> None:
        self.running[settings.ifindex] = settings
        super().link_up(settings, now)

    def link_changed(self, settings: LinkSettings, now: float) -> None:
        self.running[settings.ifindex] = settings
        super().link_changed(settings, now)

    def link_down(self, ifindex: int, now: float) -> None:
        del self.running[ifindex]
        super().link_down(ifindex, now)


class Rig:
    """`NeighborLinks` with sockets that lead nowhere."""

    def __init__(self) -> None:
        self.nup = Listening()
        self.network = NeighborNetwork(self.nup, lambda: 0.0, self._ignore)
        self.links = NeighborLinks(self.nup, self.network, lambda: 0.0)
        self.opened: list[socket.socket] = []

    def _ignore(self, _outputs: list[Output]) -> None:
        """Ignore outputs of NUP."""

    def socket(self) -> socket.socket:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.opened.append(opened)
        return opened

    def appear(self, there: Interface, config: Config) -> None:
        """Add a link with its socket."""
        self.reconcile(there, config)
        self.add_socket(there, Family.IPV6, config)

    def reconcile(self, there: Interface, config: Config) -> None:
        """Have the link follow a configuration."""
        self.links.reconcile(there, interface_for(config.interfaces, there.ifname))

    def add_socket(self, there: Interface, family: Family, config: Config) -> None:
        """Hand over a socket for a link."""
        self.links.add_socket(
            there, family, self.socket(), interface_for(config.interfaces, there.ifname)
        )


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    for opened in made.opened:
        with contextlib.suppress(OSError):
            opened.close()


async def test_links_whose_names_match_appear_and_disappear_while_it_runs(rig: Rig) -> None:
    config = config_of(PATTERNS)
    rig.appear(link("eth0", 3), config)
    assert rig.nup.running[3].cost == 7
    rig.appear(link("eth17", 9), config)  # nobody had heard of it
    assert rig.nup.running.keys() == {3, 9}
    rig.links.remove(3)
    assert rig.nup.running.keys() == {9}
    assert rig.opened[0].fileno() == -1
    rig.appear(link("eth0", 12), config)  # the name comes back with another index
    assert rig.nup.running.keys() == {9, 12}


async def test_nup_does_not_run_on_a_link_that_no_entry_matches(
    rig: Rig,
) -> None:
    rig.appear(link("lo9"), config_of(PATTERNS))
    assert rig.nup.running == {}
    assert rig.opened[0].fileno() == -1


async def test_a_renamed_link_follows_the_entry_of_its_new_name(rig: Rig) -> None:
    config = config_of(PATTERNS)
    rig.appear(link("eth0"), config)
    rig.reconcile(link("wg0"), config)
    assert rig.nup.running[3].cost == 50
    assert rig.nup.running[3].unicast_neighbors == (Address.parse("fe80::2"),)
    rig.reconcile(link("other"), config)
    assert rig.nup.running == {}


async def test_nup_waits_for_carrier_and_for_an_address(rig: Rig) -> None:
    config = config_of(PATTERNS)
    there = link("eth0", has_carrier=False)
    rig.reconcile(there, config)
    assert 3 not in rig.links
    rig.appear(link("eth0"), config)
    assert 3 in rig.links
    rig.reconcile(dataclasses.replace(link("eth0"), addresses=()), config)
    assert rig.nup.running == {}


async def test_a_changed_configuration_changes_running_links_and_ends_those_that_it_leaves_out(
    rig: Rig,
) -> None:
    rig.appear(link("eth0"), config_of(PATTERNS))
    rig.reconcile(link("eth0"), config_of("interfaces: {eth0: {hello: 200ms, multiplier: 4}}"))
    settings = rig.nup.running[3]
    assert (settings.cost, settings.hello_interval_s, settings.multiplier) == (10, 0.2, 4)
    rig.reconcile(link("eth0"), config_of("interfaces: {}"))
    assert rig.nup.running == {}


async def test_metrics_and_damping_reach_the_protocol(rig: Rig) -> None:
    rig.appear(link("eth0"), config_of("interfaces: {eth0: {}}"))
    plain = rig.nup.running[3]
    assert (plain.is_loss_based, plain.damping, plain.rtt_cost) == (False, None, None)
    wanted = config_of(
        "interfaces: {eth0: {metric: loss, rtt_cost: 90, "
        "damping: {half_life: 5s, suppress: 2000, reuse: 500, longest: 20s}}}"
    )
    rig.reconcile(link("eth0"), wanted)
    settings = rig.nup.running[3]
    assert settings.is_loss_based
    assert settings.rtt_cost == RttCost(0.01, 0.12, 90)
    assert settings.damping == Damping(5.0, 2000, 500, 20.0)
    rig.reconcile(link("eth0"), config_of("interfaces: {eth0: {damping: {}}}"))
    assert rig.nup.running[3].damping == Damping(15.0, 3000, 1000, 60.0)


async def test_a_link_that_becomes_a_port_of_a_bridge_has_neighbors_no_longer(rig: Rig) -> None:
    """Its datagrams are the bridge's; neighbors took both for one restarting router (B4)."""
    config = config_of(PATTERNS)
    rig.appear(link("eth0"), config)
    assert rig.nup.running.keys() == {3}
    rig.reconcile(dataclasses.replace(link("eth0"), is_port=True), config)
    assert rig.nup.running == {}


async def test_the_parent_opens_no_socket_on_a_port_and_says_so_once() -> None:
    config = config_of(PATTERNS)
    port = dataclasses.replace(link("eth0"), is_port=True)
    assert neighbor_family(port, interface_for(config.interfaces, "eth0")) is None
    assert neighbor_family(link("eth0"), interface_for(config.interfaces, "eth0")) is Family.IPV6
    sink = ListSink()
    log = Logger(sink, "parent")
    sockets = NupSockets(config.interfaces, LinkTable(), Supervisor(log), log)
    for state in (port, port, link("eth0"), port, dataclasses.replace(port, ifname="other0")):
        sockets.reconcile(state)
    assert [record.fields for record in sink.events("nup-not-on-port")] == [{"link": "eth0"}] * 2


async def test_it_is_known_which_ip_version_carries_nup_on_a_link(rig: Rig) -> None:
    """One end with IPv6 and one without do not hear each other: the two can be compared (Q4)."""
    config = config_of(PATTERNS)
    rig.appear(link("eth0"), config)
    rig.add_socket(link("eth1", 4), Family.IPV4, config)
    assert [rig.links.version_of(ifindex) for ifindex in (3, 4, 5)] == ["ipv6", "ipv4", None]
