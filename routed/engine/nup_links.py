"""Where NUP runs: it needs the parent's socket, a configured interface, carrier and an address.

    links, sockets, configuration --reconcile--> NeighborInstance.link_up / link_changed / link_down
                                         \\--> NeighborNetwork.add_socket / remove_socket

Those four come and go in any order, so every change of any of them ends in the same question, for
one link: can NUP run here, should it, and how? `reconcile` makes it so.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable

from routed.config.schema import (
    Config,
    DampingConfig,
    InterfaceConfig,
    KeyConfig,
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
    """Owns the sockets that were handed over and the set of links on which NUP runs."""

    def __init__(
        self, instance: NeighborInstance, network: NeighborNetwork, clock: Callable[[], float]
    ) -> None:
        self._nup = instance
        self._network = network
        self._clock = clock
        self._waiting: dict[int, tuple[Family, socket.socket]] = {}
        """Handed over, and NUP does not run on the link yet."""
        self._running: dict[int, Family] = {}
        self._key_rings: dict[str, KeyRing] = {}

    def __contains__(self, ifindex: int) -> bool:
        """Whether NUP runs on a link."""
        return ifindex in self._running

    def version_of(self, ifindex: int) -> str | None:
        """What NUP speaks over on a link, ipv6 or ipv4; None where it does not run."""
        family = self._running.get(ifindex)
        return None if family is None else family.name.lower()

    def set_keys(self, config: Config, secrets: Iterable[SharedSecret]) -> None:
        """Make the key rings of a configuration; `reconcile` then gives them to the links."""
        values = {(secret.key_set, secret.id): secret.value for secret in secrets}
        self._key_rings = {
            key_set.name: KeyRing(
                key_set.name,
                tuple(_auth_key(key, values[key_set.name, key.id]) for key in key_set.keys),
            )
            for key_set in config.keys
        }

    def add_socket(
        self, link: Interface, family: Family, opened: socket.socket, config: Config
    ) -> None:
        """Take over the socket of a link, instead of an earlier one."""
        self.remove(link.ifindex)
        self._waiting[link.ifindex] = family, opened
        self.reconcile(link, config)

    def reconcile(self, link: Interface, config: Config) -> None:
        """Make NUP run on a link exactly when it can and should, with the present settings."""
        settings = self._settings(link, config)
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
        """End NUP on a link and close its socket; no matter if it does not run there."""
        if self._running.pop(ifindex, None) is not None:
            self._nup.link_down(ifindex, self._clock())
            self._network.kick()
            self._network.remove_socket(ifindex)
        waiting = self._waiting.pop(ifindex, None)
        if waiting is not None:
            waiting[1].close()

    def _settings(self, link: Interface, config: Config) -> LinkSettings | None:
        """How NUP runs on a link; None when it cannot or should not."""
        wanted = config.interface_for(link.ifname)
        family = self._family(link.ifindex)
        if wanted is None or family is None or not link.is_up or link.is_port:
            return None
        local = _local_address(link, family)
        if local is None:
            return None
        return LinkSettings(
            ifindex=link.ifindex,
            ifname=link.ifname,
            cost=wanted.cost,
            hello_interval_s=wanted.hello_s,
            multiplier=wanted.multiplier,
            mtu=link.mtu,
            local_address=local,
            addresses=link.addresses,
            key_ring=None if wanted.key is None else self._key_rings[wanted.key],
            accepts_unsigned=wanted.accept_unsigned,
            rtt_cost=_rtt_cost(wanted),
            unicast_neighbors=wanted.neighbors,
            is_loss_based=wanted.metric is LinkMetric.LOSS,
            max_prefixes=wanted.max_prefixes,
            damping=_damping(wanted.damping),
        )

    def _family(self, ifindex: int) -> Family | None:
        """What the link's socket speaks over; None while there is no socket."""
        if ifindex in self._running:
            return self._running[ifindex]
        waiting = self._waiting.get(ifindex)
        return None if waiting is None else waiting[0]


def _auth_key(key: KeyConfig, secret: bytes) -> AuthKey:
    return AuthKey(
        id=key.id,
        algorithm=Algorithm(key.algorithm.value),
        secret=secret,
        send_from=_or_ever(key.send_from, -math.inf),
        send_until=_or_ever(key.send_until, math.inf),
        accept_from=_or_ever(key.accept_from, -math.inf),
        accept_until=_or_ever(key.accept_until, math.inf),
    )


def _rtt_cost(wanted: InterfaceConfig) -> RttCost | None:
    if wanted.rtt_cost == 0:
        return None
    return RttCost(wanted.rtt_min_s, wanted.rtt_max_s, wanted.rtt_cost)


def _damping(wanted: DampingConfig | None) -> Damping | None:
    if wanted is None:
        return None
    return Damping(wanted.half_life_s, wanted.suppress, wanted.reuse, wanted.longest_s)


def _or_ever(moment: float | None, otherwise: float) -> float:
    return otherwise if moment is None else moment


def longest_dead_interval(links: Iterable[Interface], config: Config) -> float:
    """Seconds within which every neighbor that is there has been heard."""
    intervals = [
        entry.hello_s * entry.multiplier
        for link in links
        if link.is_up and not link.is_loopback
        if (entry := config.interface_for(link.ifname)) is not None
    ]
    return max(intervals, default=0.0)


def _local_address(link: Interface, family: Family) -> Address | None:
    if family is Family.IPV6:
        return link.link_local()
    return min((entry.address for entry in link.usable_addresses(family)), default=None)
