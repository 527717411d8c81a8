"""The tables of routes besides the main one: a RIB and desired routes for each.

    configuration, links --apply, link_changed--> RoutingTables --process--> desired routes
    main RIB --changes--> gateways of the other tables

A table exists while the configuration has it: without `tables` nothing here has a cost. Each is
decided after the main table, whose routes never rest on those of another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from routed.config.schema import Config, FibConfig
from routed.config.tables import TableConfig, statics_by_table
from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.programming import FibProgramming
from routed.engine.fib.table_programming import TableProgramming
from routed.engine.static_routes import StaticRoutes
from routed.log.logger import Logger
from routed.model.link import Interface
from routed.model.prefix import Prefix
from routed.rib.table import BestPathChanges, Rib
from routed.rib.table_rib import TableRib

__all__ = ["RoutingTable", "RoutingTables", "refresh_all"]


R_co = TypeVar("R_co", bound=Rib, covariant=True)


class RoutingTable(Generic[R_co]):
    """One table: its name, its RIB, and its way into the kernel."""

    def __init__(
        self, name: str, rib: R_co, desired: DesiredFib, programming: TableProgramming
    ) -> None:
        """Join the parts of a table.

        Args:
            name: for people.
            rib: decides between the candidates.
            desired: the routes that the kernel should have.
            programming: makes them of best paths.
        """
        self.name = name
        self.rib = rib
        self.desired = desired
        self.programming = programming
        self.statics = StaticRoutes(rib)


class RoutingTables:
    """Owns the tables besides the main one, and names that one."""

    def __init__(
        self,
        main: RoutingTable[Rib],
        programming: FibProgramming,
        links: Mapping[int, Interface],
        log: Logger,
    ) -> None:
        """Begin without other tables.

        Args:
            main: the main table.
            programming: sends the desired routes of all tables.
            links: all links of this system, by index.
            log: for the programming of each table.
        """
        self.main = main
        self.by_name: dict[str, RoutingTable[TableRib]] = {}
        """In the order of the configuration."""
        self._programming = programming
        self._links = links
        self._log = log
        self._tracker_problems: Mapping[str, str] = {}
        self._fib = FibConfig()

    # --- inputs

    def apply(self, config: Config) -> None:
        """Follow a configuration: the tables that it has, and their static routes.

        A table that it has no longer is forgotten; the parent removes its routes from the kernel.
        One that has another name is the same: the kernel knows its number.
        """
        former = {table.desired.table_id: table for table in self.by_name.values()}
        refreshes = self._fib.priority != config.fib.priority
        self._fib = config.fib
        statics = statics_by_table(config.static, config.tables)
        gone = former.keys() - {entry.table_id for entry in config.tables}
        for table_id in gone:
            self._programming.tables.remove(former[table_id].desired)
        self.by_name = {}
        for entry in config.tables:
            table = former.get(entry.table_id) or self._add(entry)
            self.by_name[entry.name], table.name = table, entry.name
            if table.programming.set_kernel_rules(config.filters.kernel) or refreshes:
                refresh_all(table.rib, table.programming)
            table.statics.apply(statics[entry.name])

    def _add(self, entry: TableConfig) -> RoutingTable[TableRib]:
        rib = TableRib(self.main.rib.find_cover)
        rib.set_trackers(self._tracker_problems)
        for link in self._links.values():
            rib.link_changed(link)
        desired = self._programming.tables.add(entry.table_id)
        programming = TableProgramming((), rib.best, desired, self._log)
        return RoutingTable(entry.name, rib, desired, programming)

    def link_changed(self, link: Interface) -> None:
        """Follow a link that appeared or changed."""
        for table in self.by_name.values():
            table.rib.link_changed(link)

    def link_removed(self, ifindex: int) -> None:
        """Follow the removal of a link."""
        for table in self.by_name.values():
            table.rib.link_removed(ifindex)

    def set_trackers(self, problems: Mapping[str, str]) -> None:
        """Follow the states of trackers, of all tables, main included."""
        self._tracker_problems = problems
        self.main.rib.set_trackers(problems)
        for table in self.by_name.values():
            table.rib.set_trackers(problems)

    # --- decision

    def process(self, main_changes: Sequence[BestPathChanges]) -> None:
        """Decide all tables, after the main one.

        Args:
            main_changes: best paths of the main table that have changed.
        """
        for table in self.by_name.values():
            if main_changes:
                table.rib.main_changed(main_changes)
            for changes in table.rib.process():
                table.programming.set_desired(changes)


def refresh_all(rib: Rib, programming: TableProgramming) -> None:
    """Compute the desired routes of a table again, although their best paths are the same."""
    for family, keys, _ in rib.choices():
        for key in keys:
            programming.refresh(Prefix.from_int(family, key))
