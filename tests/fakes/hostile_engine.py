"""The real engine with an attacker inside: after it is configured it runs what a test wrote.

    python hostile_engine.py SCRIPT --role engine --ids UID:GID --sandbox auto

SCRIPT defines `async def attack(engine, send_raw)`, which runs once, in the daemon's first engine,
confined like everything else there. It is read before that. Nothing installed leads here: a test
starts the daemon by `hostile_daemon.py`, which replaces
`routed.parent.engine_process.spawn.ENGINE_COMMAND`.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import trio

import routed.engine.main
from routed import cli
from routed.engine.components import ProcessResources
from routed.engine.main import Engine
from routed.imsg.messages import ConfBegin, SocketKind, SocketReady


class TakenOver(Engine):
    """The engine, and the attack beside it."""

    source = ""

    def __init__(self, connection: socket.socket, resources: ProcessResources) -> None:
        super().__init__(connection, resources)
        self._has_all = trio.Event()
        self._engine_restarts = 0

    async def run(self) -> None:
        """Serve, and attack once everything is as in a daemon that runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._attack)
            await super().run()
            nursery.cancel_scope.cancel()

    def _handle(
        self, message: object, request_id: int, descriptor: int | None, nursery: trio.Nursery
    ) -> None:
        super()._handle(message, request_id, descriptor, nursery)
        match message:
            case ConfBegin():
                self._engine_restarts = message.engine_restarts
            case SocketReady(kind=SocketKind.MANAGEMENT):
                self._has_all.set()

    async def _attack(self) -> None:
        await self._has_all.wait()
        if self._engine_restarts:
            return  # the next engine is a good one
        names: dict[str, Any] = {}
        exec(compile(self.source, "attack", "exec"), names)
        await names["attack"](self, self._send_raw)

    async def _send_raw(self, message: bytes, descriptors: bytes = b"") -> None:
        """One message on the channel, past everything that a good engine would check."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        await self._channel._socket.sendmsg([message], ancillary)


if __name__ == "__main__":
    TakenOver.source = Path(sys.argv[1]).read_text(encoding="utf-8")
    routed.engine.main.Engine = TakenOver  # type: ignore[misc]
    sys.exit(cli.main(sys.argv[2:]))
