"""Which interfaces are to be counted. Pure.

An exact name goes before patterns, and an interface with a lower index before one with a higher
one: so the same interfaces have counters whatever the order in which they appear.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from routed.dataplane.layout import LINKS_MAX
from routed.model.link import Interface

__all__ = ["Wanted", "select_interfaces"]

_WILDCARDS = frozenset("*?[")


class Wanted(NamedTuple):
    """What the configuration asks for, and what there is."""

    links: tuple[Interface, ...]
    """Interfaces to be counted, LINKS_MAX at most."""
    too_many: tuple[str, ...]
    """Names of those beyond."""
    absent: tuple[str, ...]
    """Names, not patterns, of interfaces that do not exist."""


def select_interfaces(patterns: Sequence[str], links: Iterable[Interface]) -> Wanted:
    """Choose the interfaces to be counted.

    Args:
        patterns: names and patterns, as `dataplane.interfaces` has them.
        links: all that exist. One whose name is no UTF-8 is called `if:INDEX`, and matches nothing.
    """
    named = {pattern for pattern in patterns if not _WILDCARDS & set(pattern)}
    found = [
        link
        for link in links
        if ":" not in link.ifname
        and any(fnmatch.fnmatchcase(link.ifname, pattern) for pattern in patterns)
    ]
    found.sort(key=lambda link: (link.ifname not in named, link.ifindex))
    absent = named - {link.ifname for link in found}
    return Wanted(
        tuple(found[:LINKS_MAX]),
        tuple(link.ifname for link in found[LINKS_MAX:]),
        tuple(sorted(absent)),
    )
