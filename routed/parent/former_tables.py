"""Routes that an earlier life of this daemon left in a kernel table that is not kept any more.

    state files --texts--> tables and protocol numbers of earlier configurations
                              | not kept now, the number held by no other daemon
                              v
    the engine is in sync --> read, remove our routes there

What a daemon keeps is the table and the protocol number of its configuration; it looks nowhere
else, because what is elsewhere may be another daemon's. So when it crashed, or kept its routes at
its end, and starts by another `fib.table` or `fib.protocol`, nobody would remove the former routes.
The state files beside the pid file say what this daemon, and no other, went by: what is in force,
what was before, and what was never confirmed.

Invariants:
    Nothing is removed before the engine is in sync, as in the table that is kept.
    What has another protocol number is removed while no other daemon has that, and that is known:
    its name (`routed.parent.instance_lock`) is ours meanwhile, so none can begin to. With it go the
    policy rules and the nexthop objects of that number.

Failure: what the kernel refuses is left, and said; the next start tries again, as long as a state
file names the table.
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


def key_of(config: Config) -> TableKey:
    """What a configuration has its daemon keep."""
    return config.fib.table_id, config.fib.protocol


async def sweep_former_tables(
    texts: Iterable[str], kept: Config, reader: ConfigReader, log: Logger
) -> None:
    """Remove what is left in the tables of earlier configurations.

    Args:
        texts: those configurations.
        kept: in force now.
        reader: decodes them.
        log: for what was removed, or left.
    """
    former: set[TableKey] = set()
    for text in dict.fromkeys(texts):
        try:
            former.add(key_of(await reader.decode(text, "an earlier configuration")))
        except ConfigError:
            continue  # it was right once: of another release, or its user is gone
    for table_id, protocol in sorted(former - {key_of(kept)}):
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
    """The name of a protocol number, as if it were ours.

    Raises:
        OtherInstanceError: another daemon has it, or somebody whom we cannot know.
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
    """Remove the routes of a protocol in a table; how many were, and how many are left.

    Args:
        table_id: of the kernel table.
        protocol: of the routes.
        log: for what goes wrong.
        has_all: remove the rules and the nexthop objects of that protocol, too.
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
