"""ICMP and ICMPv6 echo over raw sockets that were opened in a router.

An echo is matched by identifier and sequence, so several pingers can share a router. A request is
lost if it is not answered until the end of the stream plus a grace time.

Sources: RFC 792 (echo), RFC 4443 section 4 (echo; the kernel fills in the checksum), RFC 1071.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

__all__ = ["Echoes", "PingReport", "PingStream", "Pinger"]

_ECHO = struct.Struct("!BBHHH")
_PAYLOAD = b"routed netns-lab"
_SEQUENCES = 1 << 16
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PingReport:
    """The result of a number of echo requests."""

    sent: int
    received: int
    longest_outage_s: float
    """The longest time without an answer; 0 if all requests were answered."""

    @property
    def lost(self) -> int:
        """Number of requests without an answer."""
        return self.sent - self.received

    def __add__(self, other: PingReport) -> PingReport:
        outage = max(self.longest_outage_s, other.longest_outage_s)
        return PingReport(self.sent + other.sent, self.received + other.received, outage)


@dataclass(slots=True)
class Echoes:
    """Times at which echo requests were sent and answered."""

    sent_at: list[float] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)

    def report(self, interval_s: float) -> PingReport:
        longest = 0.0
        outage_began: float | None = None
        for number, moment in enumerate(self.sent_at):
            if number in self.answered:
                outage_began = None
                continue
            outage_began = moment if outage_began is None else outage_began
            longest = max(longest, moment - outage_began + interval_s)
        return PingReport(len(self.sent_at), len(self.answered), longest)


class Pinger:
    """Sends echo requests from one address to another."""

    def __init__(self, connection: socket.socket, source: str, destination: str) -> None:
        """Use a raw ICMP or ICMPv6 socket of the source router; `close` closes it."""
        self._connection = connection
        self._destination = destination
        self._is_ipv4 = connection.family == socket.AF_INET
        self._identifier = int.from_bytes(os.urandom(2), "big")
        _enlarge_receive_buffer(connection)
        connection.bind((source, 0))
        connection.setblocking(False)

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()

    def ping(self, count: int, interval_s: float = 0.02, grace_s: float = 1.0) -> PingReport:
        """Send echo requests, and wait for the answers.

        Args:
            count: number of requests, 1 to 65536.
            interval_s: time between two requests.
            grace_s: time to wait for the last answers.
        """
        return self._run(count, threading.Event(), interval_s, grace_s)

    def ping_until(self, stop: threading.Event, interval_s: float, grace_s: float) -> PingReport:
        """Send echo requests until an event is set, or 65536 are sent."""
        return self._run(_SEQUENCES, stop, interval_s, grace_s)

    def _run(
        self, count: int, stop: threading.Event, interval_s: float, grace_s: float
    ) -> PingReport:
        echoes = Echoes()
        next_at = time.monotonic()
        while len(echoes.sent_at) < count and not stop.is_set():
            self._send(echoes)
            next_at += interval_s
            self._collect(echoes, next_at, until_all=len(echoes.sent_at) == count)
        self._collect(echoes, time.monotonic() + grace_s, until_all=True)
        return echoes.report(interval_s)

    def _send(self, echoes: Echoes) -> None:
        sequence = len(echoes.sent_at)
        echoes.sent_at.append(time.monotonic())
        try:
            self._connection.sendto(self._request(sequence), (self._destination, 0))
        except OSError:
            return  # no route at present: this request counts as lost

    def _request(self, sequence: int) -> bytes:
        kind = 8 if self._is_ipv4 else 128
        header = _ECHO.pack(kind, 0, 0, self._identifier, sequence)
        checksum = _internet_checksum(header + _PAYLOAD) if self._is_ipv4 else 0
        return _ECHO.pack(kind, 0, checksum, self._identifier, sequence) + _PAYLOAD

    def _collect(self, echoes: Echoes, until: float, *, until_all: bool) -> None:
        """Read answers until a time, or with `until_all` until every request is answered.

        Answers that have arrived are read even after that time: a busy machine delays this program,
        and that does not count as loss.
        """
        while not (until_all and len(echoes.answered) == len(echoes.sent_at)):
            patience = max(0.0, until - time.monotonic())
            if not select.select([self._connection], [], [], patience)[0]:
                return
            try:
                datagram, (peer, *_) = self._connection.recvfrom(2048)
            except OSError:
                continue  # an ICMP error that was queued for the socket
            if peer == self._destination:
                self._take(datagram, echoes)

    def _take(self, datagram: bytes, echoes: Echoes) -> None:
        if self._is_ipv4:
            datagram = datagram[(datagram[0] & 15) * 4 :]  # raw(7): it begins with the IP header
        if len(datagram) < _ECHO.size:
            return
        kind, _, _, identifier, sequence = _ECHO.unpack_from(datagram)
        reply = 0 if self._is_ipv4 else 129
        if (kind, identifier) == (reply, self._identifier) and sequence < len(echoes.sent_at):
            echoes.answered.add(sequence)


def _enlarge_receive_buffer(connection: socket.socket) -> None:
    """Enlarge the receive buffer: at a thousand answers per second the default one holds a quarter
    of a second, and a longer delay of this program would appear as loss."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except PermissionError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)


def _internet_checksum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class PingStream:
    """Pings in the background, one thread per pinger; a context manager.

        with lab.ping_stream("A", "B") as stream:
            ...
        assert stream.lost == 0

    The results are available after the block.
    """

    def __init__(self, pingers: list[Pinger], interval_s: float, grace_s: float = 1.0) -> None:
        self._stop = threading.Event()
        self._reports: list[PingReport] = []
        self._pingers = pingers
        self._threads = [
            threading.Thread(target=self._work, args=(pinger, interval_s, grace_s), daemon=True)
            for pinger in pingers
        ]

    def _work(self, pinger: Pinger, interval_s: float, grace_s: float) -> None:
        self._reports.append(pinger.ping_until(self._stop, interval_s, grace_s))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for pinger in self._pingers:
            pinger.close()

    @property
    def report(self) -> PingReport:
        """Return the combined result of all pingers.

        Raises:
            RuntimeError: the block has not ended, or a thread failed.
        """
        if len(self._reports) < len(self._threads):
            raise RuntimeError("the stream has not ended")
        return sum(self._reports, PingReport(0, 0, 0.0))

    @property
    def sent(self) -> int:
        """Number of requests sent."""
        return self.report.sent

    @property
    def lost(self) -> int:
        """Number of requests that were not answered."""
        return self.report.lost

    @property
    def longest_outage_s(self) -> float:
        """The longest outage of all pingers."""
        return self.report.longest_outage_s
