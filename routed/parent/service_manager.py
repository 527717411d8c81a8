"""Notifications to the service manager by the sd_notify protocol, without its library.

    READY=1         routes are in the kernel, or have failed visibly; units with `After=` start now
    RELOADING=1     with MONOTONIC_USEC; READY=1 again at the end of the reload
    STOPPING=1      the daemon has begun to stop
    STATUS=...      a line for `systemctl status`
    WATCHDOG=1      the event loop runs; without it for WatchdogSec=, systemd restarts the daemon

Each is one datagram to the socket in $NOTIFY_SOCKET; a name that begins with @ is in the abstract
namespace. Without the variable nothing is sent.

Failure: routing goes on if the manager does not answer or is slow; a notification that cannot be
sent is dropped.

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
"""The interval at which the status line is computed; it is sent if it has changed."""


class ServiceManager:
    """The connection to the service manager that started the daemon, if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Open a socket if a service manager expects notifications.

        Args:
            environment: the environment of the process, of which NOTIFY_SOCKET, WATCHDOG_USEC and
                WATCHDOG_PID are used.
        """
        self.watchdog_period_s = _watchdog_period(environment)
        """The interval at which to call `alive`, in seconds; None if there is no watchdog."""
        self._socket: socket.socket | None = None
        self._status = ""
        """The status line that was sent last."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @property
    def is_present(self) -> bool:
        """Whether there is a service manager."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """Report that the service is ready, with a status line."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, reason: str) -> None:
        """Report that the service has begun to stop."""
        self._send("STOPPING=1", f"STATUS=stopping: {reason}")

    def status(self, text: str) -> None:
        """Report the line for `systemctl status`, if it has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Report that the event loop runs."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if self._socket is None:
            return
        lines = "\n".join(assignment.replace("\n", " ") for assignment in assignments)
        try:
            self._socket.sendto(lines.encode(), self._address)
        except OSError:
            pass  # see the module's docstring


class ServiceReporter:
    """The reports to the service manager, with the counts of the FIB as status line."""

    def __init__(self, manager: ServiceManager, fib: FibSync) -> None:
        """Report the counts of a FIB to a service manager."""
        self._manager = manager
        self._fib = fib

    def ready(self) -> None:
        """Report that the daemon is ready: at the start, and after each reload."""
        self._manager.ready(self._fib.counters().text)

    @contextmanager
    def reload_announced(self) -> Iterator[None]:
        """Report that a reload has begun, and at the end that the daemon is ready again."""
        self._manager.reloading()
        try:
            yield
        finally:
            self.ready()

    async def update_status(self) -> None:
        """Keep the status line up to date, until cancelled."""
        while self._manager.is_present:
            await trio.sleep(STATUS_PERIOD_S)
            self._manager.status(self._fib.counters().text)

    async def ping_watchdog(self) -> None:
        """Report that the event loop of this process runs; the parent watches the engine itself."""
        period_s = self._manager.watchdog_period_s
        while period_s is not None:
            self._manager.alive()
            await trio.sleep(period_s)


def _watchdog_period(environment: Mapping[str, str]) -> float | None:
    """Return half of the watchdog's interval in seconds; None if there is none for this process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(text) / 2e6
