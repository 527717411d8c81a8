"""Routes that an earlier life of this daemon left in a kernel table that is not kept any more.

    state files --texts--> tables and protocol numbers of earlier configurations
                              | not kept now, and held by no other daemon
                              v
    the engine is in sync --> read, remove our routes there

What a daemon keeps is the table and the protocol number of its configuration; it looks nowhere
else, because routes elsewhere may be another daemon's. So when it crashed, or kept its routes at
its end, and starts by another `fib.table` or `fib.protocol`, nobody would remove the former routes.
The state files beside the pid file say what this daemon, and no other, went by: what is in force,
what was before, and what was never confirmed.

Invariants:
    Nothing is removed before the engine is in sync, as in the table that is kept.
    Nothing is removed while another daemon holds the table, nor while that cannot be known; the
    name of the table (`routed.parent.instance_lock`) is ours meanwhile, so none can begin to.

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
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.ownership import Ownership
from routed.fib.routes.tables import FibTables
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
            with _held(await _claim(table_id, protocol, reader.path)):
                swept, left = await _sweep(table_id, protocol, log)
        except (OtherInstanceError, NetlinkError, OSError) as error:
            log.emit("former-table-left", table=table_id, protocol=protocol, reason=str(error))
            continue
        if left:
            reason = f"{left} routes could not be removed"
            log.emit("former-table-left", table=table_id, protocol=protocol, reason=reason)
        if swept:
            log.emit("former-table-swept", table=table_id, protocol=protocol, routes=swept)


async def _claim(table_id: int, protocol: int, config_path: str) -> InstanceLock:
    """The name of a table, as if it were kept.

    Raises:
        OtherInstanceError: another daemon has it, or somebody whom we cannot know.
    """
    lock = await trio.to_thread.run_sync(InstanceLock, table_id, protocol, config_path)
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


async def _sweep(table_id: int, protocol: int, log: Logger) -> tuple[int, int]:
    """Remove the routes of a protocol in a table; how many were, and how many are left."""
    ownership = Ownership(protocol, 0, frozenset({table_id}))
    with RequestSocket(protocol) as kernel:
        sync = FibSync(
            FibTables(ownership),
            kernel,
            resync_s=math.inf,
            log=log,
            rng=random.Random(),  # noqa: S311  (jitter, not a secret)
            on_progress=lambda: None,
            is_link_up=lambda _ifindex: True,
        )
        left = await sync.sweep_all()
        return sync.counters().swept, left
