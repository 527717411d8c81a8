"""Export of flows: to each collector its own messages, sequence and losses.

    flows that have ended --> encoder of a collector --> its socket, which never waits

A message that the kernel does not take is lost, and its records are counted; the collector sees a
gap in the sequence numbers. The sockets are connected by the parent: this process names no
destination.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence

from routed.dataplane.ipfix import FlowRecord, IpfixEncoder
from routed.imsg.observer import Collector, CollectorReport

__all__ = ["FlowExporter"]


class _Sender:
    """One collector."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.sock: socket.socket | None = None
        self.messages = self.records = self.bytes = self.lost_records = 0
        self.problem = ""
        self._encoder = IpfixEncoder(collector.domain)

    def close(self) -> None:
        """Close the socket."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def send(self, flows: Sequence[FlowRecord], wall_ms: int, now_ns: int) -> None:
        """Send flows, or count them as lost."""
        for message, count in self._encoder.messages(flows, now_ns / 1e9, wall_ms, now_ns):
            problem = self._send(message)
            self.problem = problem
            if problem:
                self.lost_records += count
            else:
                self.messages += 1
                self.records += count
                self.bytes += len(message)

    def _send(self, message: bytes) -> str:
        """Send one message. Returns the problem; empty if it was sent."""
        if self.sock is None:
            return "no socket"
        problem = ""
        for _ in range(2):
            try:
                self.sock.send(message)
            except ConnectionRefusedError as error:
                problem = error.strerror or str(
                    error
                )  # of an earlier message; this one is not sent
            except OSError as error:
                return error.strerror or str(error)
            else:
                return ""
        return problem


class FlowExporter:
    """Owner of the sockets."""

    def __init__(self) -> None:
        """Begin without collectors."""
        self._senders: dict[str, _Sender] = {}

    def configure(self, collectors: Iterable[Collector]) -> None:
        """Have exactly these collectors; the sockets of new ones follow."""
        before, self._senders = self._senders, {}
        for collector in collectors:
            sender = before.pop(collector.to, None)
            if sender is not None and sender.collector != collector:
                sender.close()
                sender = None
            self._senders[collector.to] = sender or _Sender(collector)
        for sender in before.values():
            sender.close()

    def add_socket(self, to: str, sock: socket.socket) -> None:
        """Send a collector's messages by a socket from now on, in place of an earlier one."""
        sender = self._senders.get(to)
        if sender is None:
            sock.close()
            return
        sender.close()
        sock.setblocking(False)
        sender.sock = sock

    def export(self, flows: Sequence[FlowRecord]) -> None:
        """Send flows to all collectors."""
        if flows:
            wall_ms, now_ns = time.time_ns() // 1_000_000, time.monotonic_ns()
            for sender in self._senders.values():
                sender.send(flows, wall_ms, now_ns)

    def reports(self) -> tuple[CollectorReport, ...]:
        """Describe all collectors."""
        return tuple(
            CollectorReport(
                sender.collector.to, sender.collector.domain, sender.sock is not None,
                sender.messages, sender.records, sender.bytes, sender.lost_records, sender.problem,
            )
            for sender in self._senders.values()
        )  # fmt: skip
