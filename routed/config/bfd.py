"""The options of BFD: sessions and their timers.

See `schema` for the rest of routes.yaml, and `options` for how an option is declared.
"""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass
from routed.config import scalars
from routed.config.options import MapOf, Scalar
from routed.config.options import option as _option
from routed.model.prefix import Address

__all__ = ["BfdConfig", "BfdInitial", "BfdSessionConfig"]

_INTERVAL = Scalar(scalars.duration(0.01, 60))


class BfdInitial(enum.Enum):
    """What counts before a session has been up for the first time."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True)
class BfdSessionConfig:
    """One session with one system."""

    name: str
    """The key."""
    peer: Address = _option(
        Scalar(scalars.address),
        "The address of the other system; a link-local one needs `interface`.",
    )
    source: Address | None = _option(
        Scalar(scalars.address),
        "The address of this system; the kernel's choice when absent.", default=None,
    )  # fmt: skip
    interface: str | None = _option(
        Scalar(scalars.interface_name),
        "The interface that packets leave and arrive by.", default=None,
    )  # fmt: skip
    multihop: bool = _option(
        Scalar(scalars.boolean),
        "Whether there may be routers between the two systems (RFC 5883, port 4784); the hop "
        "limit is not checked then.",
        default=False, written="false",
    )  # fmt: skip
    transmit_s: float = _option(
        _INTERVAL, "Shortest interval at which this system sends once the session is up.",
        key="transmit", default=0.3, written="300ms",
    )  # fmt: skip
    receive_s: float = _option(
        _INTERVAL, "Shortest interval at which this system is willing to receive.",
        key="receive", default=0.3, written="300ms",
    )  # fmt: skip
    multiplier: int = _option(
        Scalar(scalars.whole_number(1, 255)),
        "The other system takes the session down after this many intervals without a packet.",
        default=3, written="3",
    )  # fmt: skip
    key: str | None = _option(
        Scalar(scalars.word),
        "The entry of `keys` that authenticates packets, both ways; it has one key for BFD.",
        default=None,
    )
    passive: bool = _option(
        Scalar(scalars.boolean), "Send nothing before the other system does.",
        default=False, written="false",
    )  # fmt: skip
    initial: BfdInitial = _option(
        Scalar(scalars.choice(BfdInitial)),
        "Whether next hops that name the session are used before it has been up: `down` or `up`.",
        default=BfdInitial.DOWN, written="down",
    )  # fmt: skip

    @property
    def identity(self) -> tuple[object, ...]:
        """The options that make it another session when they change."""
        return self.peer, self.source, self.interface, self.multihop


@dataclass(frozen=True, slots=True)
class BfdConfig:
    """BFD sessions with other systems (RFC 5880)."""

    sessions: tuple[BfdSessionConfig, ...] = _option(
        MapOf(BfdSessionConfig, scalars.word), "The sessions, by name.", default=(), written="{}"
    )
    relearn_s: float = _option(
        Scalar(scalars.duration(1, 3600)),
        "After a restart of the liveness process: how long the last known state of a session "
        "counts while it is not up again.",
        key="relearn", default=10.0, written="10s",
    )  # fmt: skip
