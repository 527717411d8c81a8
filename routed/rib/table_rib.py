"""The RIB of a table besides the main one. Pure.

The kernel has the connected subnets in its main table (or, of the links of a VRF, in the VRF's), so
this RIB has no connected routes. A gateway is looked up in this RIB and in the main one, and the
longer match decides; where both are as long, the main one. So a gateway on a connected subnet
resolves as in the main table, as fib_check_nh of Linux does it: first in the table, then by the
policy rules, which lead to main.

Routes of the main table never rest on those of this one, so the RIBs can be decided one after the
other: main first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from routed.model.link import Interface
from routed.model.prefix import Address
from routed.rib.nexthop import Cover
from routed.rib.table import BestPathChanges, Rib

__all__ = ["TableRib"]

KEYS_MAX = 1000
"""Changed prefixes of the main table that are compared with the gateways one by one; of more, all
gateways are looked up again."""


class TableRib(Rib):
    """Candidates by prefix, and the best path of each, of another table than main."""

    def __init__(
        self,
        find_outer: Callable[[Address], Cover | None],
        now: Callable[[], float] | None = None,
    ) -> None:
        """Start empty.

        Args:
            find_outer: the longest match in the main RIB, as of its last decision.
            now: as for `Rib`.
        """
        super().__init__(now)
        self._find_outer = find_outer

    def main_changed(self, changes: Iterable[BestPathChanges]) -> None:
        """Follow the main RIB: gateways may resolve in another way; `process` decides."""
        for family, keys, _ in changes:
            self._paths.apply_route_changes(family, keys if len(keys) <= KEYS_MAX else None)

    def find_cover(self, address: Address) -> Cover | None:
        """Return the longest match for an address in both RIBs."""
        own, outer = super().find_cover(address), self._find_outer(address)
        if own is None or (outer is not None and outer.prefix.prefix_len >= own.prefix.prefix_len):
            return None if outer is None else outer._replace(is_outer=True)
        return own

    def _update_connected(self, before: Interface | None, after: Interface | None) -> None:
        """Do nothing: connected routes are not in this table."""
