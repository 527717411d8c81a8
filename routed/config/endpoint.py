"""The reader of an address and a port, where something is sent to."""

from __future__ import annotations

import re
from typing import NamedTuple

from routed.config.scalars import Reader
from routed.model.prefix import Address

__all__ = ["Endpoint", "endpoint"]


class Endpoint(NamedTuple):
    """An address and a port."""

    address: Address
    port: int

    def __str__(self) -> str:
        """Format as a URL has it."""
        host = str(self.address)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def _read_endpoint(text: str) -> Endpoint:
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", text)
    if not found or not 1 <= int(found[3]) <= 65_535:
        raise ValueError(f"expected ADDRESS:PORT, such as 192.0.2.9:4739, got {text!r}")
    return Endpoint(Address.parse(found[1] or found[2]), int(found[3]))


endpoint = Reader(
    _read_endpoint, {"type": "string", "examples": ["192.0.2.9:4739", "[2001:db8::9]:4739"]}
)
