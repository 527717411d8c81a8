"""The view of a probe."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address

__all__ = ["ProbeView"]


@dataclass(frozen=True, slots=True)
class ProbeView:
    """One configured probe. Times have their unit in their name; None: not known now."""

    name: str
    kind: str
    target: Address | None
    port: int | None
    source: Address | None
    interface: str | None
    mark: int
    session: str | None
    of: tuple[str, ...]
    """The probes that a combination follows."""
    least: int | None
    """How many of them must be up."""
    query: str | None
    type: str | None
    rcode: str | None
    answer: Address | None
    rtt_max_ms: float | None
    """Limit of the mean round-trip time; None: no limit."""
    loss_max_percent: int | None
    window: int
    """Attempts that the limits apply to."""
    interval_s: float
    timeout_s: float
    jitter_s: float
    rise: int
    fall: int
    invert: bool
    on_error: str
    initial: str
    users: int
    """Next hops of static routes that name the probe."""
    used: bool
    """Whether these next hops may be used."""
    reason: str
    """Why they are not; else empty."""
    state: str = "unknown"
    """up, falling, down, rising; or unknown."""
    state_age_s: float | None = None
    """Since it came up or went down."""
    change_reason: str | None = None
    """Why it came up or went down last."""
    last_reason: str | None = None
    """Why the last attempt failed; empty if it succeeded."""
    in_a_row: int | None = None
    """How many of the last attempts had the same result."""
    attempts: int | None = None
    failures: int | None = None
    errors: int | None = None
    """Attempts that could not be made."""
    times_up: int | None = None
    times_down: int | None = None
    loss_percent: float | None = None
    """Of the attempts in the history."""
    rtt_ms: float | None = None
    """Mean of the successful attempts in the history."""
    rtt_last_ms: float | None = None
    history_ms: tuple[float | None, ...] = ()
    """Round-trip times of the last attempts, oldest first; None: it failed."""
