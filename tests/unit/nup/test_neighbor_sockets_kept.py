"""The parent keeps the port of a link while engines are replaced."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from routed.config.load import load_file
from routed.fib.links.table import LinkTable
from routed.imsg.messages import SocketReady
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.link import Interface, InterfaceAddress
from routed.model.nup_addresses import NUP_PORT
from routed.model.prefix import Address
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.nup_sockets import NupSockets
from tests.unit.nup.test_neighbor_socket import IPV6, LEFT, in_namespace, pytestmark

__all__ = ["pytestmark"]


class Engine:
    """An engine that receives sockets and can be ended."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def send_link(self, ifindex: int) -> None:
        """Nobody looks at it."""

    def send(self, message: object, *, request_id: int = 0, descriptor: int | None = None) -> None:
        """Keep the descriptor."""
        assert isinstance(message, SocketReady)
        assert descriptor is not None
        self.descriptors.append(descriptor)

    def die(self) -> list[int]:
        """Close all sockets. Returns their inodes."""
        inodes = [os.fstat(descriptor).st_ino for descriptor in self.descriptors]
        for descriptor in self.descriptors:
            os.close(descriptor)
        return inodes


class Sink:
    def write(self, record: LogRecord) -> None:
        """Nobody looks at it."""

    def close(self) -> None:
        """Nothing to close."""


def assert_taken() -> None:
    """Check that no other socket can bind the port: on any device, on this link, or shared."""
    for option in (None, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        for device in (b"", LEFT.encode()):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger:
                if option is not None:
                    stranger.setsockopt(socket.SOL_SOCKET, option, 1)
                if device:
                    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                with pytest.raises(OSError, match="in use") as caught:
                    stranger.bind(("::", NUP_PORT))
                assert caught.value.errno == errno.EADDRINUSE


def test_the_port_stays_ours_while_an_engine_restarts_or_a_link_is_down(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(f"router_id: 10.0.0.1\ninterfaces: {{{LEFT}: {{}}}}\n", encoding="utf-8")
    config = load_file(path)

    async def test() -> None:
        index = socket.if_nametoindex(LEFT)
        addresses = (InterfaceAddress(Address.parse(IPV6[LEFT]), 64),)
        link = Interface(index, LEFT, True, True, 1500, False, True, addresses)
        down = Interface(index, LEFT, False, False, 1500, False, True, ())
        engines = SimpleNamespace(running=None)
        sockets = NupSockets(
            config.interfaces,
            LinkTable(),
            cast("Supervisor", engines),
            Logger(Sink(), "t", Level.DEBUG),
        )
        inodes = []
        for _ in range(3):
            engine = engines.running = Engine()
            sockets.begin_session()
            sockets.reconcile(link)
            assert len(engine.descriptors) == 1
            sockets.reconcile(down)
            assert_taken()
            sockets.reconcile(link)
            inodes += engine.die()
            engines.running = None
            assert_taken()
        assert len(inodes) == 6
        assert len(set(inodes)) == 1, "the same socket each time"
        sockets.close()

    in_namespace(test)
