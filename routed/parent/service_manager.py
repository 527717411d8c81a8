"""Tell the service manager how we are: the sd_notify protocol, without its library.

    READY=1         routes are in the kernel, or failed visibly: what `After=` waits for
    RELOADING=1     with MONOTONIC_USEC; READY=1 again when the reload is over
    STOPPING=1      the goodbye has begun
    STATUS=...      a line for `systemctl status`
    WATCHDOG=1      the event loop turns; when it does not for WatchdogSec=, we are restarted

Each is one datagram to the socket that $NOTIFY_SOCKET names; a name that begins with @ is in the
abstract namespace. Without the variable nothing happens.

Failure: a manager that is gone or slow is no reason to stop routing; what could not be said is
dropped.

Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import trio

from routed.fib.sync import FibSync

__all__ = ["ServiceManager", "ServiceReporter"]

STATUS_PERIOD_S = 1.0
"""How often the status line is computed; it is sent when it has changed."""


class ServiceManager:
    """Whoever started us and wants to know."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Look for a manager.

        Args:
            environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked at.
        """
        self.watchdog_period_s = _watchdog_period(environment)
        """How often to call `alive`; None when nobody waits for it."""
        self._socket: socket.socket | None = None
        self._status = ""
        """As last said."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """The service does its work."""
        self._status = status
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, reason: str) -> None:
        """The service is about to end."""
        self._say("STOPPING=1", f"STATUS=stopping: {reason}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows; one line, said when it has changed."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={text}")

    def alive(self) -> None:
        """The event loop turns."""
        self._say("WATCHDOG=1")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *assignments: str) -> None:
        if self._socket is None:
            return
        lines = "\n".join(assignment.replace("\n", " ") for assignment in assignments)
        try:
            self._socket.sendto(lines.encode(), self._address)
        except OSError:
            pass  # see the module's docstring


class ServiceReporter:
    """Tells the service manager how the daemon is, with the FIB in numbers as its status line."""

    def __init__(self, manager: ServiceManager, fib: FibSync) -> None:
        self._manager = manager
        self._fib = fib

    def ready(self) -> None:
        """Say that the daemon does its work: at the start, and after each reload."""
        self._manager.ready(self._fib.counters().text)

    @contextmanager
    def reload_announced(self) -> Iterator[None]:
        """Say that a reload has begun, and at the end that the daemon is ready again."""
        self._manager.reloading()
        try:
            yield
        finally:
            self.ready()

    async def update_status(self) -> None:
        """Keep the status line up to date, until cancelled."""
        while self._manager.is_there:
            await trio.sleep(STATUS_PERIOD_S)
            self._manager.status(self._fib.counters().text)

    async def pet_watchdog(self) -> None:
        """Show that the event loop of this process turns; it watches the engine itself."""
        period_s = self._manager.watchdog_period_s
        while period_s is not None:
            self._manager.alive()
            await trio.sleep(period_s)


def _watchdog_period(environment: Mapping[str, str]) -> float | None:
    """Half of what the manager allows, if it means this process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(text) / 2e6
