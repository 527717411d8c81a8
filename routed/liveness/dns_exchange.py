"""One query of a DNS probe on its socket: sent, and what comes back compared with what is expected.

Bounds: ANSWERS_BURST packets are read at a time; all but the answer to the query are ignored.
"""

from __future__ import annotations

import os
import random
import socket

from routed.model.probe import RCODES, ProbeSettings, RecordType
from routed.probe.dns import ANSWER_BYTES_MAX, DnsAnswer, decode_answer, make_query

__all__ = ["DnsExchange"]

ANSWERS_BURST = 16


class DnsExchange:
    """Owns the query; the socket is the network's."""

    def __init__(self, sock: socket.socket, settings: ProbeSettings) -> None:
        """Make a query.

        Args:
            sock: connected to the target.
            settings: the probe.
        """
        self.sock = sock
        self.hint = ""
        """What an ICMP error says, which any host may have sent."""
        self._settings = settings
        self._query = make_query(settings.query, settings.query_type, random.SystemRandom())

    def send(self) -> str:
        """Send the query. Returns why that is impossible; empty if it was sent."""
        try:
            self.sock.send(self._query.data)
        except OSError as error:
            return os.strerror(error.errno or 0)
        return ""

    def read(self) -> str | None:
        """Read what has come.

        Returns:
            Why the answer is a failure, or empty for a success; None if there is no answer yet.
        """
        for _ in range(ANSWERS_BURST):
            try:
                data = self.sock.recv(ANSWER_BYTES_MAX + 1)
            except BlockingIOError:
                return None
            except OSError as error:
                self.hint = os.strerror(error.errno or 0)
                continue
            answer = decode_answer(data, self._query)
            if answer is not None:
                return _verdict(answer, self._settings)
        return None


def _verdict(answer: DnsAnswer, settings: ProbeSettings) -> str:
    """Return why an answer is not the expected one; empty if it is."""
    if answer.rcode != settings.rcode:
        return f"the code is {_code(answer.rcode)}, expected {_code(settings.rcode)}"
    if settings.rcode != 0:
        return ""
    if settings.answer is not None:
        if settings.answer in answer.addresses:
            return ""
        found = ", ".join(map(str, answer.addresses[:4])) or "no address"
        return f"the answer has {found}, expected {settings.answer}"
    if answer.records or answer.is_truncated:
        return ""
    kind: RecordType = settings.query_type
    return f"the answer has no record of type {kind.value}"


def _code(number: int) -> str:
    return RCODES[number] if number < len(RCODES) else str(number)
