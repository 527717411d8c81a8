"""Removal of the daemon's routes from kernel tables that it used before and does not use now.

    state files --texts--> tables and protocol numbers of earlier configurations
                              | not in use now, the number held by no other daemon
                              v
    the engine is in sync --> read, remove the routes there

A daemon keeps the routes with the table and the protocol number of its configuration. It examines
no others, because they may belong to another daemon. If it crashed, or kept its routes when it
stopped, and is started with another `fib.table` or `fib.protocol`, its former routes would stay
forever. The state files have the configurations that this daemon, and no other, used: the one in
force, the previous one, and one that was never confirmed.

Invariants:
    Nothing is removed before the engine is in sync, as in the table in use.
    Routes with another protocol number are removed only while this daemon holds the lock of that
    number (`routed.parent.instance_lock`), so that no other daemon has it or can obtain it. The
    policy rules and nexthop objects with that number are removed as well.

Failure: a route that the kernel does not remove is logged, and stays; the next start tries again,
as long as a state file names the table.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import trio

from routed.config.load import ConfigError
from routed.config.schema import Config
from routed.fib.nexthop_sync import ObjectSync
from routed.fib.nexthops.table import NexthopTable
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.ownership import Ownership
from routed.fib.routes.tables import FibTables
from routed.fib.rule_sync import RuleSync
from routed.fib.sync import FibSync
from routed.log.logger import Logger
from routed.netlink.socket import NetlinkError
from routed.parent.config_reader import ConfigReader
from routed.parent.instance_lock import InstanceLock, OtherInstanceError

__all__ = ["TableKey", "sweep_former_tables"]

TableKey = tuple[int, int]
"""A kernel table and a protocol number."""


def keys_of(config: Config) -> set[TableKey]:
    """Return each table of a configuration with its protocol number."""
    table_ids = [config.fib.table_id, *(entry.table_id for entry in config.tables)]
    return {(table_id, config.fib.protocol) for table_id in table_ids}


async def sweep_former_tables(
    texts: Iterable[str], kept: Config, reader: ConfigReader, log: Logger
) -> None:
    """Remove the routes that are left in the tables of earlier configurations.

    Args:
        texts: texts of the earlier configurations.
        kept: the configuration in force.
        reader: decodes the texts.
        log: receives an event for each table from which routes were removed, or in which some are
            left.
    """
    former: set[TableKey] = set()
    for text in dict.fromkeys(texts):
        try:
            former |= keys_of(await reader.decode(text, "an earlier configuration"))
        except ConfigError:
            continue  # of another release, or its user no longer exists: it was valid once
    for table_id, protocol in sorted(former - keys_of(kept)):
        try:
            if protocol == kept.fib.protocol:
                swept, left = await _sweep(table_id, protocol, log)
            else:
                with _held(await _claim(protocol, reader.path)):
                    swept, left = await _sweep(table_id, protocol, log, has_all=True)
        except (OtherInstanceError, NetlinkError, OSError) as error:
            log.emit("former-table-left", table=table_id, protocol=protocol, reason=str(error))
            continue
        if left:
            reason = f"{left} routes could not be removed"
            log.emit("former-table-left", table=table_id, protocol=protocol, reason=reason)
        if swept:
            log.emit("former-table-swept", table=table_id, protocol=protocol, routes=swept)


async def _claim(protocol: int, config_path: str) -> InstanceLock:
    """Obtain the lock of a protocol number.

    Raises:
        OtherInstanceError: another daemon has it, or the lock cannot be obtained otherwise.
    """
    lock = await trio.to_thread.run_sync(InstanceLock, protocol, config_path)
    if lock.warning:
        lock.close()
        raise OtherInstanceError(lock.warning)
    return lock


@contextmanager
def _held(lock: InstanceLock) -> Iterator[None]:
    try:
        yield
    finally:
        lock.close()


async def _sweep(
    table_id: int, protocol: int, log: Logger, *, has_all: bool = False
) -> tuple[int, int]:
    """Remove the routes of a protocol from a table.

    Args:
        table_id: number of the kernel table.
        protocol: protocol number of the routes.
        log: receives the errors.
        has_all: whether to remove the rules and nexthop objects of the protocol as well.

    Returns:
        The number of routes that were removed, and the number of routes and rules that are left.

    Raises:
        NetlinkError: the kernel cannot be read.
        OSError: the sockets failed.
    """
    with RequestSocket(protocol) as kernel:
        fib_tables = FibTables(Ownership(protocol, 0, frozenset({table_id})))
        objects = _former_objects(protocol, kernel, fib_tables, log) if has_all else None
        sync = FibSync(
            fib_tables,
            kernel,
            resync_s=math.inf,
            log=log,
            rng=random.Random(),  # noqa: S311  (jitter, not a secret)
            on_progress=lambda: None,
            is_link_up=lambda _ifindex: True,
            objects=objects,
        )
        left = await sync.sweep_all()
        if has_all:
            rules = RuleSync(kernel, protocol, resync_s=math.inf, log=log, on_states=lambda: None)
            left += await rules.flush()
        return sync.counters().swept, left


def _former_objects(
    protocol: int, kernel: RequestSocket, fib_tables: FibTables, log: Logger
) -> ObjectSync:
    table = NexthopTable(protocol, is_enabled=True, is_link_up=lambda _ifindex: True)
    return ObjectSync(table, kernel, fib_tables, log, lambda: None)
