"""The links on which NUP runs: it needs the parent's socket, a configured interface, carrier and an
address.

    links, sockets, configuration --reconcile--> NeighborInstance.link_up, link_changed, link_down
                                            \\--> NeighborNetwork.add_socket, remove_socket

These four appear and disappear in any order, so every change of any of them leads to the same
evaluation of one link: can NUP run on it, should it, and with which settings? `reconcile` makes it
so.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable, Sequence

from routed.config.interface_match import interface_for
from routed.config.schema import (
    DampingConfig,
    InterfaceConfig,
    KeyConfig,
    KeySetConfig,
    LinkMetric,
)
from routed.model.link import Interface
from routed.model.prefix import Address, Family
from routed.model.secret import SharedSecret
from routed.nup.auth.keys import Algorithm, AuthKey, KeyRing
from routed.nup.instance import NeighborInstance
from routed.nup.link.cost import RttCost
from routed.nup.link.damping import Damping
from routed.nup.link.settings import LinkSettings
from routed.nup.network import NeighborNetwork

__all__ = ["NeighborLinks", "longest_dead_interval"]


class NeighborLinks:
    """Owns the sockets that the parent has sent, and the set of links on which NUP runs."""

    def __init__(
        self, instance: NeighborInstance, network: NeighborNetwork, clock: Callable[[], float]
    ) -> None:
        self._nup = instance
        self._network = network
        self._clock = clock
        self._waiting: dict[int, tuple[Family, socket.socket]] = {}
        """Sockets of links on which NUP does not run yet."""
        self._running: dict[int, Family] = {}
        self._key_rings: dict[str, KeyRing] = {}

    def __contains__(self, ifindex: int) -> bool:
        """Return whether NUP runs on a link."""
        return ifindex in self._running

    def version_of(self, ifindex: int) -> str | None:
        """Return the IP version of NUP on a link, ipv6 or ipv4; None where it does not run."""
        family = self._running.get(ifindex)
        return None if family is None else family.name.lower()

    def set_keys(self, key_sets: Iterable[KeySetConfig], secrets: Iterable[SharedSecret]) -> None:
        """Make the key rings of a configuration; `reconcile` then passes them to the links."""
        values = {(secret.key_set, secret.id): secret.value for secret in secrets}
        self._key_rings = {
            key_set.name: KeyRing(
                key_set.name,
                tuple(_auth_key(key, values[key_set.name, key.id]) for key in key_set.keys),
            )
            for key_set in key_sets
            if not any(key.algorithm.is_for_bfd for key in key_set.keys)
        }

    def add_socket(
        self,
        link: Interface,
        family: Family,
        opened: socket.socket,
        configured: InterfaceConfig | None,
    ) -> None:
        """Use a socket for a link, in place of an earlier one. It becomes this object's."""
        self.remove(link.ifindex)
        self._waiting[link.ifindex] = family, opened
        self.reconcile(link, configured)

    def reconcile(self, link: Interface, configured: InterfaceConfig | None) -> None:
        """Run NUP on a link if and only if it can and should, with the present settings.

        Args:
            link: the link, as it is now.
            configured: its entry of `interfaces`, if any.
        """
        settings = self._settings(link, configured)
        if settings is None:
            self.remove(link.ifindex)
        elif link.ifindex in self._running:
            self._nup.link_changed(settings, self._clock())
        else:
            family, opened = self._waiting.pop(link.ifindex)
            self._running[link.ifindex] = family
            self._network.add_socket(link.ifindex, family, opened)
            self._nup.link_up(settings, self._clock())
        self._network.kick()

    def remove(self, ifindex: int) -> None:
        """End NUP on a link and close its socket, if it runs there."""
        if self._running.pop(ifindex, None) is not None:
            self._nup.link_down(ifindex, self._clock())
            self._network.kick()
            self._network.remove_socket(ifindex)
        waiting = self._waiting.pop(ifindex, None)
        if waiting is not None:
            waiting[1].close()

    def _settings(self, link: Interface, configured: InterfaceConfig | None) -> LinkSettings | None:
        """Return the settings of NUP on a link; None if it cannot or should not run."""
        family = self._family(link.ifindex)
        if configured is None or family is None or not link.is_up or link.is_port:
            return None
        local = _local_address(link, family)
        if local is None:
            return None
        return LinkSettings(
            ifindex=link.ifindex,
            ifname=link.ifname,
            cost=configured.cost,
            hello_interval_s=configured.hello_s,
            multiplier=configured.multiplier,
            mtu=link.mtu,
            local_address=local,
            addresses=link.addresses,
            key_ring=None if configured.key is None else self._key_rings[configured.key],
            accepts_unsigned=configured.accept_unsigned,
            rtt_cost=_rtt_cost(configured),
            unicast_neighbors=configured.neighbors,
            is_loss_based=configured.metric is LinkMetric.LOSS,
            max_prefixes=configured.max_prefixes,
            damping=_damping(configured.damping),
        )

    def _family(self, ifindex: int) -> Family | None:
        """Return the family of the link's socket; None while there is no socket."""
        if ifindex in self._running:
            return self._running[ifindex]
        waiting = self._waiting.get(ifindex)
        return None if waiting is None else waiting[0]


def _auth_key(key: KeyConfig, secret: bytes) -> AuthKey:
    return AuthKey(
        id=key.id,
        algorithm=Algorithm(key.algorithm.value),
        secret=secret,
        send_from=_time_or(key.send_from, -math.inf),
        send_until=_time_or(key.send_until, math.inf),
        accept_from=_time_or(key.accept_from, -math.inf),
        accept_until=_time_or(key.accept_until, math.inf),
    )


def _rtt_cost(configured: InterfaceConfig) -> RttCost | None:
    if configured.rtt_cost == 0:
        return None
    return RttCost(configured.rtt_min_s, configured.rtt_max_s, configured.rtt_cost)


def _damping(configured: DampingConfig | None) -> Damping | None:
    if configured is None:
        return None
    return Damping(
        configured.half_life_s, configured.suppress, configured.reuse, configured.longest_s
    )


def _time_or(time: float | None, default: float) -> float:
    return default if time is None else time


def longest_dead_interval(
    links: Iterable[Interface], interfaces: Sequence[InterfaceConfig]
) -> float:
    """Return the seconds within which every present neighbor is heard."""
    intervals = [
        entry.hello_s * entry.multiplier
        for link in links
        if link.is_up and not link.is_loopback
        if (entry := interface_for(interfaces, link.ifname)) is not None
    ]
    return max(intervals, default=0.0)


def _local_address(link: Interface, family: Family) -> Address | None:
    if family is Family.IPV6:
        return link.link_local()
    return min((entry.address for entry in link.usable_addresses(family)), default=None)
