"""One daemon for each network namespace and protocol; strangers have no say in it."""

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
CONFIG = "/etc/routed/routes.yaml"


@pytest.fixture
def protocol() -> int:
    """A number that no other test of this machine has, nor the next one."""
    return 1_000_000 + 16 * os.getpid()


@pytest.fixture
def lock(protocol: int) -> Iterator[InstanceLock]:
    lock = InstanceLock(protocol, CONFIG)
    yield lock
    lock.close()


@pytest.fixture
async def answering(lock: InstanceLock) -> AsyncIterator[InstanceLock]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock.answer)
        yield lock
        nursery.cancel_scope.cancel()


async def start_second(protocol: int) -> str:
    """What a second daemon is told; empty when it could start."""

    def start() -> str:
        try:
            InstanceLock(protocol, "/second.yaml").close()
        except OtherInstanceError as error:
            return str(error)
        return ""

    with trio.fail_after(DEADLINE_S):
        return await trio.to_thread.run_sync(start)


async def test_the_second_daemon_names_the_first(answering: InstanceLock, protocol: int) -> None:
    """S19: two daemons with pid files of their own removed each other's routes for ever."""
    said = await start_second(protocol)
    assert said == (
        f"another routed has protocol {protocol} in this network namespace "
        f"(pid {os.getpid()}, configuration {CONFIG}): end it, or give one of them another "
        "fib.protocol"
    )


async def test_another_protocol_is_another_daemons(answering: InstanceLock, protocol: int) -> None:
    assert await start_second(protocol + 1) == ""


async def test_a_daemon_that_hangs_is_detected_nevertheless(
    lock: InstanceLock, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_lock, "_ANSWER_TIMEOUT_S", 0.01)
    assert f"(pid {os.getpid()}, which does not answer)" in await start_second(protocol)


async def test_the_name_is_released_with_its_holder(protocol: int) -> None:
    InstanceLock(protocol, CONFIG).close()
    assert await start_second(protocol) == ""


async def test_many_connections_hide_no_running_daemon(
    answering: InstanceLock, protocol: int
) -> None:
    """A second daemon that a service manager starts again and again fills no queue for ever."""
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
    for client in clients:
        client.connect(name_of(protocol))
    assert f"(pid {os.getpid()}, configuration {CONFIG})" in await start_second(protocol)
    for client in clients:
        client.close()


def held(lock: InstanceLock) -> bool:
    return lock.is_held


async def test_a_name_that_is_had_later_is_answered_for(
    protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_lock, "_ATTEMPT_S", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter:
        squatter.bind(name_of(protocol))
        lock = InstanceLock(protocol, CONFIG)
        assert await lock.claim_again() == lock.warning != ""
        assert held(lock) is False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock.answer)
        assert await lock.claim_again() == ""
        assert held(lock) is True
        assert CONFIG in await start_second(protocol)
        nursery.cancel_scope.cancel()
    lock.close()


def test_no_client_can_send_a_descriptor(lock: InstanceLock, protocol: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(name_of(protocol))
        assert lock._listener is not None
        if may_carry_descriptors(lock._listener):
            pytest.skip("this kernel lacks SO_PASSRIGHTS (Linux 6.16)")
        with pytest.raises(PermissionError):
            socket.send_fds(client, [b"x"], [0])


def test_a_name_that_is_bound_and_not_listened_on_keeps_no_start_away(
    protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_lock, "_ATTEMPT_S", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter:
        squatter.bind(name_of(protocol))
        lock = InstanceLock(protocol, CONFIG)
        assert lock.warning == "a process has bound its name and does not listen"
        lock.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_socket_of_another_type_has_another_name(protocol: int, kind: int) -> None:
    """So it hides no second daemon, whoever has it and whatever it does."""
    with socket.socket(socket.AF_UNIX, kind) as squatter:
        squatter.bind(name_of(protocol))
        if kind == socket.SOCK_STREAM:
            squatter.listen(1)
        lock = InstanceLock(protocol, CONFIG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock.answer)
            assert lock.warning == ""
            assert f"(pid {os.getpid()}, configuration {CONFIG})" in await start_second(protocol)
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
def test_another_user_with_the_name_prevents_no_start(protocol: int, backlog: int) -> None:
    """Whoever takes the name may also fill its queue, so that nobody learns who it is."""
    stop, child = squat_as_nobody(name_of(protocol), backlog)
    try:
        lock = InstanceLock(protocol, CONFIG)
        assert lock.warning == (
            f"uid 65534 (pid {child}) has its name"
            if backlog
            else "its holder does not answer: Resource temporarily unavailable"
        )
        lock.close()
    finally:
        stop()


def test_text_that_cannot_be_displayed_is_not_shown(protocol: int) -> None:
    name = name_of(protocol)
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
            InstanceLock(protocol, CONFIG)
        thread.join(DEADLINE_S)
