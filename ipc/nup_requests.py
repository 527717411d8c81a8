"""The request for NUP's own table; see `ipc.control`."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["ShowNupRoutes"]


@dataclass(frozen=True, slots=True)
class ShowNupRoutes:
    """The routes that neighbors advertise and those that routed advertises, one row each."""

    prefix: str | None = None
    """Select exactly this prefix."""
    neighbor: str | None = None
    """Select the routes received from the neighbor with this router id or address, and those
    advertised on its links."""
    direction: str | None = None
    """`received` or `advertised`; None for both."""
