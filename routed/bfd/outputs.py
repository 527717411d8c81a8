"""The outputs of a BFD instance: what its adapter is to do, in order."""

from __future__ import annotations

from typing import NamedTuple

from routed.model.bfd import BfdState

__all__ = ["BfdOutput", "BfdStateChanged", "SendControl"]


class SendControl(NamedTuple):
    """Send a control packet on the socket of a session."""

    session: str
    data: bytes


class BfdStateChanged(NamedTuple):
    """A session has another state."""

    session: str
    old: BfdState
    new: BfdState


BfdOutput = SendControl | BfdStateChanged
