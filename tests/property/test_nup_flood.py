"""A flood of unauthenticated datagrams, with any contents and from any number of senders,
keeps memory within the documented bound.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import random
import resource
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.nup.instance import NeighborInstance
from routed.nup.link.state import MAX_NEIGHBORS_PER_LINK
from routed.nup.wire.message import (
    Ack,
    EndOfTable,
    Goodbye,
    HeaderFlag,
    Hello,
    LinkAddress,
    Message,
    MessageType,
    NeighborHeard,
    Receiver,
    RouteUpdate,
    Sender,
    Stream,
    TableVersion,
    Tlv,
    encode,
)
from tests.fakes.fake_wire import link_settings, router_id
from tests.fakes.nup_keys import ring

DATAGRAMS = int(os.environ.get("NUP_FLOOD", "2400"))
"""`make flood` sends a million of them."""
SOURCES = max(1200, DATAGRAMS // 10)
TRACED_MAX = 100_000
BATCH = 100
MEMORY_MAX_BYTES = 4 * 1024 * 1024
"""The memory of 256 neighbors that never leave INIT, each with a hundred addresses and full
lists.
"""


def forged(rng: random.Random, instance: NeighborInstance) -> tuple[bytes, Address]:
    """Return one datagram of a router that does not exist: mostly well formed, sometimes
    damaged.
    """
    number = rng.randrange(SOURCES)
    sender = Sender(Address(Family.IPV4, (172 << 24) + number), rng.choice([1, 2]))
    us, session = router_id(1), rng.getrandbits(32)
    kind = rng.choice(list(MessageType))
    flags, tlvs = HeaderFlag(0), ()
    made: tuple[Tlv, ...] = tlvs
    match kind:
        case MessageType.HEARTBEAT:
            heard = NeighborHeard(us, instance.boot_id, session, rng.getrandbits(32), 1, 1)
            addresses = [LinkAddress(Address(Family.IPV4, rng.getrandbits(32))) for _ in range(40)]
            made = (Hello(rng.choice([10, 1000, 60_000]), 255, 1500, 7), heard, *addresses)
        case MessageType.DATA:
            flags = rng.choice([HeaderFlag(0), HeaderFlag.UNICAST_STREAM])
            update = RouteUpdate(
                Prefix.masked(Family.IPV4, rng.getrandbits(32), 24), 1, 0, False,
                sender.router_id, 1,
            )  # fmt: skip
            made = (TableVersion(rng.getrandbits(63)), *([update] * 20))
            if flags:
                made = (Receiver(us, session), *made, EndOfTable(3))
        case MessageType.ACK:
            made = (Ack(us, session, Stream.MULTICAST, rng.getrandbits(32)),)
        case MessageType.CONTROL:
            made = (Goodbye(),) if rng.random() < 0.1 else ()
    data = bytearray(encode(Message(kind, flags, rng.getrandbits(32), 1, sender, made)))
    if rng.random() < 0.1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data), Address(Family.IPV6, (0xFE80 << 112) + number)


def resident_bytes() -> int:
    """Return the resident memory of the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.fixture
def used_bytes() -> Iterator[Callable[[], int]]:
    """Return the allocated bytes exactly; for a long flood the resident memory, which is six
    times as fast.
    """
    if DATAGRAMS > TRACED_MAX:
        yield resident_bytes
        return
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


@pytest.mark.parametrize("is_signed", [False, True], ids=["open", "keys"])
def test_memory_is_bounded_for_any_number_of_senders(
    is_signed: bool, used_bytes: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(1)
    instance = NeighborInstance(router_id(1), 1, 1, random.Random(1))
    settings = link_settings(1, 1)
    if is_signed:
        settings = dataclasses.replace(settings, key_ring=ring())
    instance.link_up(settings, 0.0)
    now, spent_s, used = 0.0, 0.0, []
    for count in range(0, DATAGRAMS, BATCH):
        batch = [forged(rng, instance) for _ in range(BATCH)]
        started_s = process_time()
        for data, source in batch:
            now += 0.001
            instance.receive_datagram(data, source, 1, 255, now)
            instance.outputs()
        spent_s += process_time() - started_s
        if count % (DATAGRAMS // 4) < BATCH:
            gc.collect()
            used.append(used_bytes())
    gc.collect()
    used.append(used_bytes())
    if DATAGRAMS > TRACED_MAX:
        link = "a link with keys" if is_signed else "an open link"
        with capsys.disabled():
            sys.stdout.write(
                f"\n{DATAGRAMS:,} datagrams to {link}:"
                f" {spent_s / DATAGRAMS * 1e6:.0f} us of processor time each; memory in MB: "
                f"{', '.join(f'{each / 1e6:.1f}' for each in used)}\n"
            )
    assert len(instance.neighbors(now)) <= MAX_NEIGHBORS_PER_LINK + 16
    assert used[-1] - used[0] < MEMORY_MAX_BYTES, used
    assert used[-1] < used[1] * 1.5 + 500_000, "it does not grow with what comes"
    assert instance.learned() == []
    counted = sum(instance.counters().values())
    assert counted > DATAGRAMS / 2, "what did nothing was counted"
