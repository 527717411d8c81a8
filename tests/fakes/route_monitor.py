"""Listens to a router's route notifications, as `ip monitor route` does."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from network import Network
from routed.fib.routes.codec import decode_route
from routed.netlink.message import RTM_DELROUTE, split_messages

__all__ = ["RouteMonitor"]

_RTMGRP_IPV4_ROUTE, _RTMGRP_IPV6_ROUTE = 0x40, 0x400
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 8 * 1024 * 1024


class RouteMonitor:
    """Every change of routes with our protocol number during a `with` block."""

    def __init__(self, lab: Network, router: str, protocol: int = 205) -> None:
        self.heard: list[tuple[str, str]] = []
        """(new or del, prefix), in order; complete after the block."""
        self._protocol = protocol
        self._socket = lab.open_socket(router, socket.AF_NETLINK, socket.SOCK_RAW, 0)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:  # no privilege in the lab's namespace: as much as is allowed
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind((0, _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_ROUTE))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drain()
        self._socket.close()

    def _drain(self) -> None:
        while True:
            try:
                buffer = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            for message in split_messages(buffer):
                route = decode_route(message.payload)
                if route is not None and route.protocol == self._protocol:
                    word = "del" if message.type == RTM_DELROUTE else "new"
                    self.heard.append((word, str(route.key.prefix)))
