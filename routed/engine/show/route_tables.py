"""The tables of a router for clients: the rows of one of them, or of one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from routed.control.selection import RouteSelector
from routed.control.tables import Position, TablePage, TablePosition
from routed.control.views import RouteView
from routed.engine.router import Router
from routed.engine.show.routes import TablePages
from routed.engine.tables import RoutingTable
from routed.model.prefix import Address, Prefix
from routed.model.tables import ALL_TABLES, MAIN_TABLE
from routed.rib.table import Rib

__all__ = ["RouteTablePages"]

_Page = Callable[[RouteSelector, Prefix | None, int], TablePage]


class RouteTablePages:
    """Reads RIB and FIB state of all tables; owns nothing."""

    def __init__(self, router: Router) -> None:
        """Show the tables of a router."""
        self._router = router
        self._main = TablePages(router, router.tables.main)

    @property
    def version(self) -> int:
        """A number that changes with any change of the tables, except for ages and times left."""
        return self._router.version

    @property
    def table_ids(self) -> Mapping[str, int]:
        """The number of each table, by its name; the main one first."""
        tables = [self._router.tables.main, *self._router.tables.by_name.values()]
        return {table.name: table.desired.table_id for table in tables}

    def table(self, name: str) -> RoutingTable[Rib] | None:
        """Return a table by its name; None if a reload has removed it."""
        return (
            self._router.tables.main
            if name == MAIN_TABLE
            else self._router.tables.by_name.get(name)
        )

    def pages(self, name: str) -> TablePages | None:
        """Return the rows of a table by its name; None if a reload has removed it."""
        if name == MAIN_TABLE:
            return self._main
        table = self.table(name)
        return None if table is None else TablePages(self._router, table)

    def routes(self, selector: RouteSelector, after: Position | None, limit: int) -> TablePage:
        """List candidates of the tables that are selected; as `TablePages.routes`."""
        return self._read(selector, after, limit, TablePages.routes)

    def fib(self, selector: RouteSelector, after: Position | None, limit: int) -> TablePage:
        """List desired routes of the tables that are selected; as `TablePages.fib`."""
        return self._read(selector, after, limit, TablePages.fib)

    def _read(
        self,
        selector: RouteSelector,
        after: Position | None,
        limit: int,
        read: Callable[[TablePages, RouteSelector, Prefix | None, int], TablePage],
    ) -> TablePage:
        if selector.table == MAIN_TABLE:
            assert not isinstance(after, TablePosition)
            return read(self._main, selector, after, limit)
        names = list(self.table_ids) if selector.table == ALL_TABLES else [selector.table]
        number, prefix = after if isinstance(after, TablePosition) else (0, None)
        pages = self.pages(names[number]) if number < len(names) else None
        page = TablePage([], None) if pages is None else read(pages, selector, prefix, limit)
        if page.after is not None:
            assert isinstance(page.after, Prefix)
            return page._replace(after=TablePosition(number, page.after))
        following = TablePosition(number + 1, None) if number + 1 < len(names) else None
        return page._replace(after=following)

    def route(self, address: Address, table: str) -> Sequence[RouteView]:
        """List the candidates of the longest prefix of a table that covers an address."""
        pages = self.pages(table)
        return [] if pages is None else pages.route(address)
