"""A collector of IPFIX: decodes messages by the templates that it has received (RFC 7011)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["IpfixCollector"]


class IpfixCollector:
    """Keeps templates by domain, and checks sequence numbers."""

    def __init__(self) -> None:
        self.records: list[dict[int, bytes]] = []
        """By information element."""
        self.templates_received = 0
        self.missing = 0
        """Records that were sent and not received, by the sequence numbers."""
        self._templates: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._next: dict[int, int] = {}

    def receive(self, message: bytes) -> None:
        """Decode one message; any rule that it breaks fails the test."""
        version, size, _, sequence, domain = struct.unpack_from("!HHIII", message)
        assert version == 10
        assert size == len(message)
        self.missing += sequence - self._next.get(domain, sequence)
        before = len(self.records)
        at = 16
        while at < size:
            number, length = struct.unpack_from("!HH", message, at)
            assert length > 4
            content = message[at + 4 : at + length]
            assert len(content) == length - 4
            if number == 2:
                self._read_templates(domain, content)
            else:
                self.records += self._read_records(self._templates[domain, number], content)
            at += length
        assert at == size
        self._next[domain] = sequence + len(self.records) - before

    def _read_templates(self, domain: int, content: bytes) -> None:
        at = 0
        while at < len(content):
            number, count = struct.unpack_from("!HH", content, at)
            assert number >= 256
            pairs = list(struct.iter_unpack("!HH", content[at + 4 : at + 4 + 4 * count]))
            self._templates[domain, number] = pairs
            self.templates_received += 1
            at += 4 + 4 * count
        assert at == len(content)

    def _read_records(
        self, template: list[tuple[int, int]], content: bytes
    ) -> Iterator[dict[int, bytes]]:
        size = sum(length for _, length in template)
        assert len(content) % size == 0
        for first in range(0, len(content), size):
            at, record = first, {}
            for element, length in template:
                record[element] = content[at : at + length]
                at += length
            yield record
