"""BFD sessions as the parent has them: settings from the configuration, and a socket for each.

    configuration, secrets, links --> settings --> liveness process
                                         |
                         sockets opened -+-------> liveness process

A session whose interface does not exist is left out until it does. When an interface is made again
its index is another one, and so is the session.

The receiving sockets are kept while any session is configured, so that no other program can take
the port between two liveness processes; each process gets copies, which it keeps until it ends.
Sending sockets are opened for each process. A socket that cannot be opened now is tried again after
SOCKET_RETRY_S.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping

from routed.config.bfd import BfdSessionConfig
from routed.config.nup import KeyAlgorithm
from routed.config.schema import Config
from routed.imsg.liveness import BfdConfigured, BfdSocketReady
from routed.log.logger import Logger
from routed.model.bfd import BfdAuthType, BfdKey, BfdSettings
from routed.model.link import Interface
from routed.model.prefix import Family
from routed.model.secret import SharedSecret
from routed.parent.bfd_socket_options import open_receiver, open_sender
from routed.parent.socket_filters import has_peer, is_shut_for_reading

__all__ = ["SOCKET_RETRY_S", "BfdSockets", "SendToLiveness", "bfd_settings"]

SOCKET_RETRY_S = 0.5

SendToLiveness = Callable[[object, int | None], None]
"""Queues a message, with a descriptor that is closed once it was sent."""

_AUTH_TYPES = {
    KeyAlgorithm.PASSWORD: BfdAuthType.SIMPLE_PASSWORD,
    KeyAlgorithm.KEYED_SHA1: BfdAuthType.KEYED_SHA1,
    KeyAlgorithm.METICULOUS_KEYED_SHA1: BfdAuthType.METICULOUS_KEYED_SHA1,
}


def bfd_settings(
    config: Config, secrets: Iterable[SharedSecret], links: Iterable[Interface]
) -> dict[str, BfdSettings]:
    """Return the sessions that can be, by name.

    Args:
        config: the configuration.
        secrets: of its keys.
        links: all links of this system.
    """
    if not config.bfd.sessions:
        return {}
    ifindexes = {link.ifname: link.ifindex for link in links}
    keys = _keys(config, secrets)
    return {
        session.name: _settings(session, ifindexes.get(session.interface or "", 0), keys)
        for session in config.bfd.sessions
        if session.interface is None or session.interface in ifindexes
    }


def _keys(config: Config, secrets: Iterable[SharedSecret]) -> dict[str, BfdKey]:
    """Return the keys that BFD knows, by the name of their set, which has one key."""
    values = {(secret.key_set, secret.id): secret.value for secret in secrets}
    return {
        key_set.name: BfdKey(_AUTH_TYPES[key.algorithm], key.id, values[key_set.name, key.id])
        for key_set in config.keys
        for key in key_set.keys
        if key.algorithm in _AUTH_TYPES
    }


def _settings(session: BfdSessionConfig, ifindex: int, keys: Mapping[str, BfdKey]) -> BfdSettings:
    return BfdSettings(
        name=session.name,
        peer=session.peer,
        source=session.source,
        ifindex=ifindex,
        is_multihop=session.multihop,
        is_passive=session.passive,
        transmit_us=round(session.transmit_s * 1_000_000),
        receive_us=round(session.receive_s * 1_000_000),
        multiplier=session.multiplier,
        key=None if session.key is None else keys[session.key],
    )


class BfdSockets:
    """Owns the receiving sockets, and what the present liveness process was sent."""

    def __init__(self, log: Logger) -> None:
        """Begin without sockets.

        Args:
            log: for sockets that cannot be opened.
        """
        self._log = log
        self._receivers: dict[tuple[Family, bool], socket.socket] = {}
        self._sent: dict[str, BfdSettings] | None = None
        """The sessions that the process was sent; None before the first."""
        self._has_receiver: set[tuple[Family, bool]] = set()
        self._has_sender: dict[str, tuple[object, ...]] = {}
        """The sessions with a sending socket, and what it was opened for."""
        self._problems: dict[str, str] = {}
        """Of sockets that cannot be opened, as logged."""

    def begin_process(self) -> None:
        """Record that a new liveness process has nothing yet."""
        self._sent = None
        self._has_receiver.clear()
        self._has_sender.clear()

    def reconcile(
        self, settings: dict[str, BfdSettings], ifnames: Mapping[int, str], send: SendToLiveness
    ) -> bool:
        """Send what has changed to the liveness process.

        Args:
            settings: the sessions.
            ifnames: of all links, by index.
            send: queues a message for the process.

        Returns:
            Whether it has all sockets; otherwise this is to be called again.
        """
        before, self._problems = self._problems, {}
        if settings != self._sent:
            send(BfdConfigured(tuple(settings.values())), None)
            self._sent = settings
        for name in self._has_sender.keys() - settings.keys():
            del self._has_sender[name]
        kinds = {(each.peer.family, each.is_multihop) for each in settings.values()}
        is_complete = True
        for family, is_multihop in kinds - self._has_receiver:
            is_complete &= self._send_receiver(family, is_multihop, send)
        for each in settings.values():
            is_complete &= self._send_sender(each, ifnames.get(each.ifindex), send)
        for name, problem in self._problems.items():
            if before.get(name) != problem:  # it is tried twice a second
                self._log.emit("bfd-socket-failed", session=name, problem=problem)
        return is_complete

    def close(self) -> None:
        """Close all sockets."""
        for receiver in self._receivers.values():
            receiver.close()
        self._receivers.clear()

    def _send_receiver(self, family: Family, is_multihop: bool, send: SendToLiveness) -> bool:
        try:
            kept = self._receivers.get((family, is_multihop))
            if kept is not None and (has_peer(kept) or is_shut_for_reading(kept)):
                self._receivers.pop((family, is_multihop)).close()
                kept = None
            if kept is None:
                kept = open_receiver(family, is_multihop=is_multihop)
                self._receivers[family, is_multihop] = kept
            copy = os.dup(kept.fileno())
        except OSError as error:
            where = f"{family.label} {'multihop' if is_multihop else 'single hop'}"
            self._problems[where] = error.strerror or str(error)
            return False
        send(BfdSocketReady("", family, is_multihop), copy)
        self._has_receiver.add((family, is_multihop))
        return True

    def _send_sender(self, settings: BfdSettings, ifname: str | None, send: SendToLiveness) -> bool:
        purpose = (settings.peer, settings.source, settings.ifindex, settings.is_multihop)
        if self._has_sender.get(settings.name) == purpose:
            return True
        try:
            opened = open_sender(settings, ifname)
        except OSError as error:
            self._problems[settings.name] = error.strerror or str(error)
            return False
        message = BfdSocketReady(settings.name, settings.peer.family, settings.is_multihop)
        send(message, opened.detach())
        self._has_sender[settings.name] = purpose
        return True
