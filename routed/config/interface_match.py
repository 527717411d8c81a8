"""Find the entry of `interfaces` that applies to a link."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from routed.config.schema import InterfaceConfig

__all__ = ["interface_for"]


def interface_for(interfaces: Sequence[InterfaceConfig], ifname: str) -> InterfaceConfig | None:
    """Return the entry for a link of this name; None if NUP does not run on it.

    An exact name goes before patterns, and patterns are tried in their order. A link whose name is
    no UTF-8 is called `if:INDEX`. No pattern matches it, because its socket is bound by name.
    """
    if ":" in ifname:
        return None
    for entry in interfaces:
        if entry.pattern == ifname:
            return entry
    for entry in interfaces:
        if fnmatch.fnmatchcase(ifname, entry.pattern):
            return entry
    return None
