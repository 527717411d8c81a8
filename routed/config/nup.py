"""The options of NUP: where it runs, by which keys, what it announces.

See `schema` for the rest of routes.yaml, and `options` for how an option is declared.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from routed.config import scalars
from routed.config.options import ListOf, Scalar
from routed.config.options import option as _option
from routed.config.options import unavailable as _unavailable
from routed.config.scalars import PrefixMatch
from routed.model.prefix import Prefix

__all__ = [
    "InterfaceConfig",
    "KeyAlgorithm",
    "KeyConfig",
    "KeySetConfig",
    "RedistributeConfig",
    "RedistributeSource",
]


class RedistributeSource(enum.Enum):
    """What NUP may be told to announce."""

    CONNECTED = "connected"
    STATIC = "static"
    INJECTED = "injected"


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """NUP on the links whose name matches."""

    pattern: str
    """The key: a name, or a pattern with * ? [ ]."""
    cost: int = _option(
        Scalar(scalars.whole_number(1, 65_535)),
        "Added to the metric of every route heard on the link.",
        default=10, written="10",
    )  # fmt: skip
    hello_s: float = _option(
        Scalar(scalars.duration(0.1, 60)), "How often a heartbeat is sent.",
        key="hello", default=1.0, written="1s",
    )  # fmt: skip
    multiplier: int = _option(
        Scalar(scalars.whole_number(2, 100)),
        "After this many silent hello intervals the neighbor is down.",
        default=3, written="3",
    )  # fmt: skip
    key: str | None = _option(
        Scalar(scalars.word),
        "The entry of `keys` that signs what is sent on the link and judges what is heard.",
        default=None,
    )
    accept_unsigned: bool = _option(
        Scalar(scalars.boolean),
        "With `key`: believe neighbors that do not sign, too, while keys are being introduced.",
        default=False, written="false",
    )  # fmt: skip
    neighbors: None = _unavailable("Unicast neighbors, for links without multicast.")


class KeyAlgorithm(enum.Enum):
    """How a signature is made."""

    HMAC_SHA256 = "hmac-sha256"
    BLAKE2S = "blake2s"


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """One shared secret; the secret itself is in a file of its own."""

    id: int = _option(
        Scalar(scalars.whole_number(0, 255)),
        "Tells the key from the others of its set; the same on all routers.",
    )
    secret_file: str = _option(
        Scalar(scalars.file_path),
        "The file with the secret, readable by its owner only; relative to this file.",
    )
    algorithm: KeyAlgorithm = _option(
        Scalar(scalars.choice(KeyAlgorithm)), "`hmac-sha256` or `blake2s`.",
        default=KeyAlgorithm.HMAC_SHA256, written="hmac-sha256",
    )  # fmt: skip
    send_from: float | None = _option(
        Scalar(scalars.moment), "When it is first signed with; always when absent.", default=None
    )
    send_until: float | None = _option(
        Scalar(scalars.moment), "When it is no longer signed with; never when absent.",
        default=None,
    )  # fmt: skip
    accept_from: float | None = _option(
        Scalar(scalars.moment), "When it is first believed; always when absent.", default=None
    )
    accept_until: float | None = _option(
        Scalar(scalars.moment), "When it is no longer believed; never when absent.", default=None
    )


@dataclass(frozen=True, slots=True)
class KeySetConfig:
    """Keys under one name: several at once while they are exchanged."""

    name: str
    keys: tuple[KeyConfig, ...]


@dataclass(frozen=True, slots=True)
class RedistributeConfig:
    """Announce routes of another source to the neighbors."""

    source: RedistributeSource = _option(
        Scalar(scalars.choice(RedistributeSource)), "`connected`, `static` or `injected`."
    )
    metric: int = _option(
        Scalar(scalars.whole_number(0, 65_535)), "The metric that they start with.",
        default=0, written="0",
    )  # fmt: skip
    tag: int | None = _option(
        Scalar(scalars.whole_number(0, 2**32 - 1)),
        "A tag to announce them with, instead of their own.", default=None,
    )  # fmt: skip
    match: tuple[PrefixMatch, ...] = _option(
        ListOf(scalars.prefix_match),
        "Which prefixes: `PREFIX [ge LENGTH] [le LENGTH]`, any of the list; all when absent.",
        default=(),
    )

    def accepts(self, prefix: Prefix) -> bool:
        """Whether the prefix passes `match`."""
        return not self.match or any(match.matches(prefix) for match in self.match)
