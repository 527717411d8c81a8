"""A configuration on its way to the engine, which often knows most of it already. Pure.

Static routes come by the ten thousand and change by the ten: those that the engine has are named by
where they stand in its list, and only the others travel.

    old  a b c d e f        runs  (0, 2) (-1, 1) (3, 3)      new  x
    new  a b x d e f

Invariants:
    `unpack(pack(new, known), known) == new` for any two configurations; with nothing known, all
    of it travels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from routed.config.schema import Config, StaticConfig

__all__ = ["ConfigTransfer", "pack", "unpack"]

_NEW = -1


@dataclass(frozen=True, slots=True)
class ConfigTransfer:
    """What the other side needs to have a configuration."""

    rest: Config
    """All but the static routes."""
    runs: tuple[tuple[int, int], ...]
    """The static routes in order, as (first in the known list, how many); -1: the next new ones."""
    new: tuple[StaticConfig, ...]


def pack(config: Config, known: Config | None) -> ConfigTransfer:
    """What has to be told of a configuration to whoever knows another one.

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
    """The configuration that was meant.

    Raises:
        ValueError: it was packed for somebody who knows something else.
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
            raise ValueError(f"static routes {first} to {first + count - 1} of {len(have)}")
    if used != len(transfer.new):
        raise ValueError(f"{used} new static routes are used, {len(transfer.new)} came")
    return dataclasses.replace(transfer.rest, static=tuple(static))
