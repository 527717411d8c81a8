"""Probes on sockets: which packets count as replies, from any sender."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing

from routed.imsg.liveness_probes import ProbeSocketFailed, ProbeSocketReady
from routed.liveness.probe_network import ProbeNetwork
from routed.model.prefix import Address
from routed.model.probe import ProbeKind, ProbeReport, ProbeState
from routed.probe.instance import ProbeInstance
from tests.fakes.probe_scene import probe_settings

TARGET = Address.parse("127.0.0.1")
ECHO = probe_settings(target=TARGET, interval_s=0.2, timeout_s=0.15)
TCP = probe_settings(kind=ProbeKind.TCP, target=TARGET, port=7, interval_s=0.2, timeout_s=0.15)
IDENTIFIER = 0x1234


class Scene:
    """A network with one probe, whose socket is one of UDP: the other end is the test's."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.instance = ProbeInstance(random.Random(1))
        self._event = trio.Event()
        self.changed: list[str] = []
        self.requested: list[int] = []
        self.network = ProbeNetwork(
            self.instance,
            trio.current_time,
            self._record_change,
            self._record_request,
            nursery,
        )
        nursery.start_soon(self.network.keep_time)
        self.theirs = socket.socket(type=socket.SOCK_DGRAM)
        self.theirs.bind(("127.0.0.1", 0))
        self.theirs.settimeout(10)

    def _record_change(self, name: str) -> None:
        self.changed.append(name)
        self._event.set()

    def _record_request(self, _name: str, number: int) -> None:
        self.requested.append(number)
        self._event.set()

    async def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until a probe that changes, or a request, makes it so."""
        with trio.fail_after(30):
            while not is_so():
                self._event = trio.Event()
                await self._event.wait()

    def add_echo_socket(self) -> None:
        ours = socket.socket(type=socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        ours.connect(self.theirs.getsockname())
        self.ours_at = ours.getsockname()
        ready = ProbeSocketReady("p", 0, IDENTIFIER, has_ip_header=False)
        self.network.add_socket(ready, ours)

    def report(self) -> ProbeReport:
        report = self.instance.report("p", trio.current_time())
        assert report is not None
        return report

    async def wait_state(self, state: ProbeState) -> None:
        await self.wait_for(lambda: self.report().state is state)

    async def request(self) -> bytes:
        """The next request, as the target receives it."""
        with trio.fail_after(30):
            await trio.lowlevel.wait_readable(self.theirs)
        return self.theirs.recvfrom(200)[0]

    def reply(self, data: bytes) -> None:
        self.theirs.sendto(data, self.ours_at)


@pytest.fixture
async def bare(nursery: trio.Nursery) -> AsyncIterator[Scene]:
    """Without probes."""
    made = Scene(nursery)
    yield made
    made.network.configure([])
    made.theirs.close()


@pytest.fixture
async def scene(bare: Scene) -> Scene:
    """With the probe, and its socket."""
    bare.network.configure([ECHO])
    bare.add_echo_socket()
    return bare


def reply_to(request: bytes) -> bytes:
    return b"\0" + request[1:]


async def test_replies_take_the_probe_up_and_silence_takes_it_down(scene: Scene) -> None:
    for _ in range(2):
        scene.reply(reply_to(await scene.request()))
    await scene.wait_state(ProbeState.UP)
    assert scene.changed == ["p"]
    await scene.wait_state(ProbeState.DOWN)
    assert scene.report().change_reason == "3 of 3 failed: no answer within 150 ms"


async def test_no_reply_counts_that_is_not_exactly_the_one(scene: Scene) -> None:
    earlier = b""
    for _ in range(4):
        request = await scene.request()
        good = reply_to(request)
        for bad in (
            request,
            good[:-1],
            good + b"\0",
            good[:4] + struct.pack(">H", IDENTIFIER ^ 1) + good[6:],
            good[:6] + bytes([good[6], good[7] ^ 1]) + good[8:],
            good[:-1] + bytes([good[-1] ^ 1]),
            b"\x03" + good[1:],
            b"",
            os.urandom(1400),
            earlier,
        ):
            scene.reply(bad)
        earlier = good
    await scene.wait_state(ProbeState.DOWN)
    assert scene.report().times_up == 0


async def test_a_flood_delays_no_timeout_and_is_read_in_parts(scene: Scene) -> None:
    request = await scene.request()
    for _ in range(500):
        scene.reply(b"\0" * 24)
    scene.reply(reply_to(request)[:-1] + b"\0")
    await scene.wait_state(ProbeState.DOWN)


async def test_an_icmp_error_is_a_hint_and_no_result(scene: Scene) -> None:
    for _ in range(2):
        scene.reply(reply_to(await scene.request()))
    await scene.wait_state(ProbeState.UP)
    scene.theirs.close()  # from now on the kernel answers with an ICMP error
    await scene.wait_state(ProbeState.DOWN)
    assert scene.report().last_reason == os.strerror(errno.ECONNREFUSED)
    assert scene.report().errors == 0, "an attempt was made each time"


async def test_a_probe_without_a_socket_fails_with_the_reason(bare: Scene) -> None:
    scene = bare
    scene.network.configure([ECHO])
    scene.network.socket_failed(ProbeSocketFailed("p", 0, "eth0 does not exist"))
    await scene.wait_state(ProbeState.DOWN)
    assert scene.report().change_reason == "3 of 3 failed: eth0 does not exist"
    assert scene.report().errors >= 3
    scene.network.configure([])
    assert scene.changed == ["p", "p"], "its end is reported as well"


async def wait_request(scene: Scene, earlier: int) -> int:
    await scene.wait_for(lambda: len(scene.requested) > earlier)
    return scene.requested[-1]


async def test_connections_succeed_are_refused_or_come_too_late(bare: Scene) -> None:
    scene = bare
    scene.network.configure([TCP])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        stale = 0
        for earlier in range(2):
            number = await wait_request(scene, earlier)
            for wanted in (stale, number):
                connecting = socket.socket()
                connecting.setblocking(False)
                connecting.connect_ex(listener.getsockname())
                ready = ProbeSocketReady("p", wanted, 0, has_ip_header=False)
                scene.network.add_socket(ready, connecting)
            stale = number
        await scene.wait_state(ProbeState.UP)
        port = listener.getsockname()[1]
    for _ in range(3):
        number = await wait_request(scene, len(scene.requested))
        connecting = socket.socket()
        connecting.setblocking(False)
        connecting.connect_ex(("127.0.0.1", port))
        scene.network.add_socket(ProbeSocketReady("p", number, 0, has_ip_header=False), connecting)
    await scene.wait_state(ProbeState.DOWN)
    assert scene.report().change_reason.startswith("3 of 3 failed: Connection refused")
    scene.network.socket_failed(ProbeSocketFailed("p", 1, "of an earlier attempt"))


DNS = probe_settings(
    kind=ProbeKind.DNS,
    target=TARGET,
    port=53,
    query="www.example.org",
    answer=Address.parse("192.0.2.80"),
    interval_s=0.2,
    timeout_s=0.15,
)


def answer_to(query: bytes, *addresses: str, rcode: int = 0) -> bytes:
    """A well-formed answer, as a resolver sends it."""
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
        for address in addresses
    )
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, len(addresses), 0, 0)
    return head + query[12:] + records


@pytest.mark.parametrize(
    ("addresses", "rcode", "reason"),
    [
        (("192.0.2.7", "192.0.2.80"), 0, ""),
        (("192.0.2.7",), 0, "the answer has 192.0.2.7, expected 192.0.2.80"),
        ((), 0, "the answer has no address, expected 192.0.2.80"),
        ((), 2, "the code is servfail, expected noerror"),
    ],
)
async def test_a_resolver_is_judged_by_its_answer(
    bare: Scene, addresses: tuple[str, ...], rcode: int, reason: str
) -> None:
    bare.network.configure([DNS])
    earlier = b""
    for attempt in range(3):
        number = await wait_request(bare, attempt)
        ours = socket.socket(type=socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        ours.connect(bare.theirs.getsockname())
        bare.ours_at = ours.getsockname()
        bare.network.add_socket(ProbeSocketReady("p", number, 0, has_ip_header=False), ours)
        query = await bare.request()
        right = answer_to(query, "192.0.2.80")
        for wrong in (earlier, right[:-1], bytes([right[0] ^ 1]) + right[1:], right.swapcase()):
            bare.reply(wrong)
        bare.reply(answer_to(query, *addresses, rcode=rcode))
        earlier = right
        if not reason and attempt == 1:
            break
    await bare.wait_state(ProbeState.DOWN if reason else ProbeState.UP)
    report = bare.report()
    assert report.last_reason == reason
    assert (report.times_up, report.errors) == (int(not reason), 0)
