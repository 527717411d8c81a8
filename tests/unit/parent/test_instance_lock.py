"""One daemon for each network namespace, table and protocol; strangers have no say in it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio

from ipc.fdpass import may_carry_descriptors
from routed.parent import instance_lock
from routed.parent.instance_lock import InstanceLock, OtherInstanceError, name_of

DEADLINE_S = 30.0
PROTOCOL = 205
CONFIG = "/etc/routed/routes.yaml"


@pytest.fixture
def table() -> int:
    """A table that no other test of this machine keeps, and the ones after it neither."""
    return 1_000_000 + 16 * os.getpid()


@pytest.fixture
def lock(table: int) -> Iterator[InstanceLock]:
    lock = InstanceLock(table, PROTOCOL, CONFIG)
    yield lock
    lock.close()


@pytest.fixture
async def answering(lock: InstanceLock) -> AsyncIterator[InstanceLock]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock.answer)
        yield lock
        nursery.cancel_scope.cancel()


async def start_second(table: int, protocol: int = PROTOCOL) -> str:
    """What a second daemon is told; empty when it could start."""

    def start() -> str:
        try:
            InstanceLock(table, protocol, "/second.yaml").close()
        except OtherInstanceError as error:
            return str(error)
        return ""

    with trio.fail_after(DEADLINE_S):
        return await trio.to_thread.run_sync(start)


async def test_the_second_daemon_says_who_is_there(answering: InstanceLock, table: int) -> None:
    """S19: two daemons with pid files of their own removed each other's routes for ever."""
    said = await start_second(table)
    assert said == (
        f"another routed keeps table {table} with protocol 205 in this network namespace "
        f"(pid {os.getpid()}, configuration {CONFIG}): end it, or give one of them another "
        "fib.table or fib.protocol"
    )


async def test_another_table_or_protocol_is_another_daemons(
    answering: InstanceLock, table: int
) -> None:
    assert await start_second(table + 1) == ""
    assert await start_second(table, PROTOCOL + 1) == ""


async def test_a_daemon_that_hangs_is_there_all_the_same(
    lock: InstanceLock, table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_lock, "_ANSWER_TIMEOUT_S", 0.01)
    assert f"(pid {os.getpid()}, which does not answer)" in await start_second(table)


async def test_the_name_goes_with_its_holder(table: int) -> None:
    InstanceLock(table, PROTOCOL, CONFIG).close()
    assert await start_second(table) == ""


async def test_many_who_connect_keep_nobody_from_the_truth(
    answering: InstanceLock, table: int
) -> None:
    """A second daemon that a service manager starts again and again fills no queue for ever."""
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
    for client in clients:
        client.connect(name_of(table, PROTOCOL))
    assert f"(pid {os.getpid()}, configuration {CONFIG})" in await start_second(table)
    for client in clients:
        client.close()


async def test_a_reload_takes_another_table_and_gives_up_the_first(
    answering: InstanceLock, table: int
) -> None:
    other = InstanceLock(table + 1, PROTOCOL, "/other.yaml")
    with pytest.raises(OtherInstanceError, match=f"keeps table {table + 1} "):
        await trio.to_thread.run_sync(answering.claim, table + 1)
    assert await start_second(table) != "", "a failed reload changes nothing"
    other.close()
    assert await trio.to_thread.run_sync(answering.claim, table + 1) == ""
    assert await start_second(table) != "", "not before the switch"
    answering.keep_only(table + 1)
    assert await start_second(table) == ""
    assert CONFIG in await start_second(table + 1)


def test_nobody_can_hand_us_a_descriptor(lock: InstanceLock, table: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(name_of(table, PROTOCOL))
        if may_carry_descriptors(next(iter(lock._names.values()))):
            pytest.skip("this kernel lacks SO_PASSRIGHTS (Linux 6.16)")
        with pytest.raises(PermissionError):
            socket.send_fds(client, [b"x"], [0])


def test_a_name_that_is_bound_and_not_listened_on_keeps_no_start_away(
    table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_lock, "_ATTEMPT_S", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter:
        squatter.bind(name_of(table, PROTOCOL))
        lock = InstanceLock(table, PROTOCOL, CONFIG)
        assert lock.warning == "somebody has its name and does not listen"
        lock.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_socket_of_another_type_has_another_name(table: int, kind: int) -> None:
    """So it hides no second daemon, whoever has it and whatever it does."""
    with socket.socket(socket.AF_UNIX, kind) as squatter:
        squatter.bind(name_of(table, PROTOCOL))
        if kind == socket.SOCK_STREAM:
            squatter.listen(1)
        lock = InstanceLock(table, PROTOCOL, CONFIG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock.answer)
            assert lock.warning == ""
            assert f"(pid {os.getpid()}, configuration {CONFIG})" in await start_second(table)
            nursery.cancel_scope.cancel()
        lock.close()


def squat_as_nobody(name: str, backlog: int) -> tuple[Callable[[], None], int]:
    """Have uid 65534 listen at a name; a call ends it."""
    ready, end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end[1])
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter:
            squatter.bind(name)
            squatter.listen(backlog)
            clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(8)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(name)
            os.write(ready[1], b"x")
            os.read(end[0], 1)
        os._exit(0)
    os.read(ready[0], 1)

    def stop() -> None:
        os.close(end[1])
        os.waitpid(child, 0)
        for descriptor in (*ready, end[0]):
            os.close(descriptor)

    return stop, child


@pytest.mark.root
@pytest.mark.parametrize("backlog", [100, 0])
def test_a_stranger_who_has_the_name_keeps_no_start_away(table: int, backlog: int) -> None:
    """Whoever takes the name may also fill its queue, so that nobody learns who it is."""
    stop, child = squat_as_nobody(name_of(table, PROTOCOL), backlog)
    try:
        lock = InstanceLock(table, PROTOCOL, CONFIG)
        assert lock.warning == (
            f"uid 65534 (pid {child}) has its name"
            if backlog
            else "its holder cannot be asked: Resource temporarily unavailable"
        )
        lock.close()
    finally:
        stop()


def test_what_cannot_be_shown_is_not(table: int) -> None:
    name = name_of(table, PROTOCOL)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(name)
        other.listen(1)

        def answer() -> None:
            accepted, _ = other.accept()
            accepted.send(b"configuration \x1b[31m\n")
            accepted.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OtherInstanceError, match=r"\(pid \d+, configuration \?\[31m\?\)"):
            InstanceLock(table, PROTOCOL, CONFIG)
        thread.join(DEADLINE_S)
