"""The sockets to collectors of flows: opened and connected here, and handed to the observer.

A socket that cannot be opened now, because there is no route for example, is tried again after
SOCKET_RETRY_S. Each observer gets sockets of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from routed.config.observation import IpfixCollectorConfig
from routed.imsg.observer import CollectorSocketReady
from routed.log.logger import Logger
from routed.model.prefix import Family

__all__ = ["SOCKET_RETRY_S", "CollectorSockets"]

SOCKET_RETRY_S = 5.0


class CollectorSockets:
    """Knows which collectors the present observer has sockets for."""

    def __init__(self, log: Logger) -> None:
        """Begin without any.

        Args:
            log: for sockets that cannot be opened.
        """
        self._log = log
        self._sent: set[IpfixCollectorConfig] = set()

    def begin_process(self) -> None:
        """Record that a new observer has nothing yet."""
        self._sent.clear()

    def reconcile(
        self,
        collectors: Iterable[IpfixCollectorConfig],
        send: Callable[[object, int | None], None],
    ) -> bool:
        """Send the observer the sockets that it does not have.

        Args:
            collectors: all that are configured; the observer knows them already.
            send: queues a message for it.

        Returns:
            Whether it has all sockets; otherwise this is to be called again.
        """
        self._sent &= set(collectors)
        is_complete = True
        for collector in collectors:
            if collector in self._sent:
                continue
            try:
                opened = _open(collector)
            except OSError as error:
                self._log.emit("collector-failed", collector=collector.to, problem=error.strerror)
                is_complete = False
                continue
            send(CollectorSocketReady(str(collector.to)), opened.detach())
            self._sent.add(collector)
        return is_complete


def _open(collector: IpfixCollectorConfig) -> socket.socket:
    """Open a socket that sends to a collector alone.

    Raises:
        OSError: there is no route, or no descriptor to spare.
    """
    address, port = collector.to
    family = socket.AF_INET6 if address.family is Family.IPV6 else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.connect((str(address), port))
    except OSError:
        opened.close()
        raise
    return opened
