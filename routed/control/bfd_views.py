"""The view of a BFD session. Names are those of the state variables of RFC 5880, section 6.8.1."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address

__all__ = ["BfdDropView", "BfdSessionView"]


@dataclass(frozen=True, slots=True)
class BfdDropView:
    """Packets of a session that were dropped for one reason."""

    reason: str
    packets: int


@dataclass(frozen=True, slots=True)
class BfdSessionView:
    """One configured BFD session. Intervals are in microseconds; None: not known now."""

    name: str
    peer: Address
    source: Address | None
    interface: str | None
    multihop: bool
    passive: bool
    desired_min_tx_us: int
    """As configured; at least one second is announced while the session is not up."""
    required_min_rx_us: int
    detect_mult: int
    auth_type: str | None
    """The algorithm of its key; None: no authentication."""
    users: int
    """Next hops of static routes that name the session."""
    used: bool
    """Whether these next hops may be used."""
    reason: str
    """Why they are not; else empty."""
    session_state: str = "unknown"
    """admin_down, down, init, up; or unknown: the liveness process reports nothing about it."""
    state_age_s: float | None = None
    local_diag: str | None = None
    local_discr: int | None = None
    remote_session_state: str | None = None
    remote_diag: str | None = None
    remote_discr: int | None = None
    remote_min_tx_us: int | None = None
    remote_min_rx_us: int | None = None
    remote_detect_mult: int | None = None
    remote_demand_mode: bool | None = None
    transmit_interval_us: int | None = None
    """The interval in use, before jitter; 0: this system does not send."""
    detection_time_us: int | None = None
    polling: bool | None = None
    packets_sent: int | None = None
    packets_received: int | None = None
    times_up: int | None = None
    times_down: int | None = None
    send_errors: int | None = None
    drops: tuple[BfdDropView, ...] = ()
