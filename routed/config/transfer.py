"""Encoding of a configuration for the engine, which often has most of it already. Pure.

There may be tens of thousands of static routes, of which a reload changes a few. The routes that
the engine has are referred to by their position in its list; only the others are sent.

    old  a b c d e f        runs  (0, 2) (-1, 1) (3, 3)      new  x
    new  a b x d e f

Invariants:
    `unpack(pack(new, known), known) == new` for any two configurations; if nothing is known, the
    whole configuration is sent.
"""

from __future__ import annotations

import dataclasses

from ipc.lazy_dataclass import dataclass
from routed.config.schema import Config, StaticConfig

__all__ = ["ConfigTransfer", "pack", "unpack"]

_NEW = -1


@dataclass(frozen=True, slots=True)
class ConfigTransfer:
    """A configuration as it is sent to a receiver that may have another one."""

    rest: Config
    """The configuration without its static routes."""
    runs: tuple[tuple[int, int], ...]
    """The static routes in order, as (index, count): `count` consecutive routes from `index` of
    the known list or, if it is -1, the next ones of `new`."""
    new: tuple[StaticConfig, ...]
    """The static routes that are not in the known list."""


def pack(config: Config, known: Config | None) -> ConfigTransfer:
    """Encode a configuration.

    Args:
        config: the configuration to send.
        known: the configuration that the receiver has; None if it has none.

    Cost: about 3 us for each static route.
    """
    places = {} if known is None else {static: at for at, static in enumerate(known.static)}
    runs: list[list[int]] = []
    new: list[StaticConfig] = []
    for static in config.static:
        at = places.get(static, _NEW)
        last = runs[-1] if runs else None
        if at == _NEW:
            new.append(static)
        if last is not None and at == (_NEW if last[0] == _NEW else last[0] + last[1]):
            last[1] += 1
        else:
            runs.append([at, 1])
    rest = dataclasses.replace(config, static=())
    return ConfigTransfer(rest, tuple((first, count) for first, count in runs), tuple(new))


def unpack(transfer: ConfigTransfer, known: Config | None) -> Config:
    """Decode a configuration.

    Args:
        transfer: the result of `pack`.
        known: the configuration with which it was packed; None if there was none.

    Raises:
        ValueError: it was packed with another known configuration.
    """
    have = () if known is None else known.static
    static: list[StaticConfig] = []
    used = 0
    for first, count in transfer.runs:
        if first == _NEW:
            static += transfer.new[used : used + count]
            used += count
        elif 0 <= first <= len(have) - count:
            static += have[first : first + count]
        else:
            raise ValueError(f"there are no {count} static routes from {first} in {len(have)}")
    if used != len(transfer.new):
        raise ValueError(f"{used} of {len(transfer.new)} new static routes are used")
    return dataclasses.replace(transfer.rest, static=tuple(static))
