"""Shared secrets, on their way from their files to the protocol. Pure."""

from __future__ import annotations

from typing import Annotated

from ipc.lazy_dataclass import dataclass, field
from routed.model.bounds import TextBytes

__all__ = [
    "SharedSecret",
]


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """The secret of one key, from its file."""

    key_set: Annotated[str, TextBytes(1024)]
    id: int
    value: Annotated[bytes, TextBytes(4096)] = field(repr=False)
