"""Frames and descriptors over a real SOCK_SEQPACKET pair."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterable

import pytest
import trio

from ipc.channel import Channel, ChannelClosed, Received
from ipc.closing import Closer
from ipc.fdpass import DESCRIPTORS_MAX, may_carry_descriptors
from ipc.framing import Frame, FrameError, IpcError, pack_frame, unpack_frame

MAX_BYTES = 1024


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours, MAX_BYTES)
    yield channel, theirs
    channel.close()
    theirs.close()


async def test_a_frame_and_its_descriptor_arrive(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    read_end, write_end = os.pipe()
    other = Channel(theirs.dup(), MAX_BYTES)
    await other.send(Frame(7, 42, b"body"), write_end)
    os.close(write_end)
    frame, descriptor = await channel.receive()
    assert frame == Frame(7, 42, b"body")
    assert descriptor is not None
    os.write(descriptor, b"through")
    os.close(descriptor)
    assert os.read(read_end, 10) == b"through"
    os.close(read_end)
    other.close()


async def test_the_end_of_the_channel_is_reported(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.close()
    with pytest.raises(ChannelClosed):
        await channel.receive()
    with pytest.raises(ChannelClosed):
        await channel.send(Frame(1, 0, b""))


async def test_what_is_there_already_is_one_burst_and_its_end_comes_after(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    for number in range(5):
        theirs.send(pack_frame(Frame(1, number, b""), MAX_BYTES))
    theirs.close()
    assert [each.frame.request_id for each in await channel.receive_burst(3)] == [0, 1, 2]
    assert [each.frame.request_id for each in await channel.receive_burst(3)] == [3, 4]
    with pytest.raises(ChannelClosed):
        await channel.receive_burst(3)


@pytest.mark.parametrize("message", [b"x", b"1234567", b"\0\1\0\1\0\0\0\0", bytes(MAX_BYTES + 1)])
async def test_an_invalid_frame_is_refused(
    ends: tuple[Channel, socket.socket], message: bytes
) -> None:
    channel, theirs = ends
    theirs.send(message)
    with pytest.raises(FrameError):
        await channel.receive()


@pytest.mark.parametrize("count", [2, DESCRIPTORS_MAX])
async def test_descriptors_too_many_are_closed(
    ends: tuple[Channel, socket.socket], count: int
) -> None:
    channel, theirs = ends
    read_end, write_end = os.pipe()
    socket.send_fds(theirs, [pack_frame(Frame(1, 0, b""), MAX_BYTES)], [write_end] * count)
    os.close(write_end)
    with pytest.raises(IpcError):
        await channel.receive()
    # Every copy of the write end is gone, or this would block: end of file.
    assert os.read(read_end, 1) == b""
    os.close(read_end)


async def test_an_end_that_refuses_descriptors_goes_on_without_them(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    channel.refuse_descriptors()
    message = pack_frame(Frame(1, 0, b""), MAX_BYTES)
    if may_carry_descriptors(channel._connection):
        pytest.skip("this kernel lacks SO_PASSRIGHTS (Linux 6.16)")
    with pytest.raises(PermissionError):
        socket.send_fds(theirs, [message], [0])
    theirs.send(message)
    assert await channel.receive() == Received(Frame(1, 0, b""), None)


async def test_strays_are_left_to_the_closer() -> None:
    """S3b: a descriptor of another process, passed on by a compromised engine, blocked its
    parent."""
    given: list[int] = []

    class Recorder(Closer):
        def close(self, descriptors: Iterable[int]) -> None:
            given.extend(descriptors)

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours, MAX_BYTES, Recorder())
    with theirs:
        socket.send_fds(theirs, [pack_frame(Frame(1, 0, b""), MAX_BYTES)], [0] * 3)
        with pytest.raises(IpcError):
            await channel.receive()
        assert len(given) == 3
        channel.close()
        assert len(given) == 4, "the connection too: more may be in its queue"
    for descriptor in given:
        os.close(descriptor)


async def test_a_frame_over_the_limit_is_the_senders_mistake(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, _ = ends
    with pytest.raises(FrameError):
        await channel.send(Frame(1, 0, bytes(MAX_BYTES)))


async def test_a_full_peer_makes_the_sender_wait_and_cancelling_harms_nothing(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, theirs = ends
    sent = 0
    with trio.move_on_after(0.05):
        while True:
            await channel.send(Frame(1, sent, bytes(900)))
            sent += 1
    assert sent > 0
    for expected in range(sent):
        assert unpack_frame(theirs.recv(MAX_BYTES), MAX_BYTES).request_id == expected
    await channel.send(Frame(1, 9999, b""))
    assert unpack_frame(theirs.recv(MAX_BYTES), MAX_BYTES).request_id == 9999


@pytest.mark.parametrize("size", [MAX_BYTES - 1, MAX_BYTES])
def test_frames_up_to_the_limit_pass(size: int) -> None:
    frame = Frame(3, 4, bytes(size - 8))
    assert unpack_frame(pack_frame(frame, MAX_BYTES), MAX_BYTES) == frame
