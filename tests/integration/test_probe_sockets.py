"""The sockets of probes: what a liveness process is sent, and what a hostile one can request."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from routed.imsg.liveness_probes import (
    ProbeObserved,
    ProbesConfigured,
    ProbeSocketFailed,
    ProbeSocketReady,
    ProbeSocketRequest,
)
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.link import Interface
from routed.model.prefix import Address, Family
from routed.model.probe import ProbeKind, ProbeSettings
from routed.parent.probe_sockets import REQUEST_PAUSE_S, REQUESTS_BURST, ProbeSockets
from routed.probe.icmp import decode_reply, encode_request
from tests.fakes.kernels import Namespace
from tests.fakes.probe_scene import probe_settings
from tests.unit.rib.test_trackers import ETH0

pytestmark = pytest.mark.root

LOOPBACK = Address.parse("127.0.0.1")
ECHO = probe_settings("echo", target=LOOPBACK)
TCP = probe_settings("tcp", kind=ProbeKind.TCP, target=LOOPBACK, port=7007)
WIRE = probe_settings("wire", kind=ProbeKind.CARRIER, target=None, interface=ETH0.ifname)
TOKEN = bytes(range(16))


class Scene:
    """Sockets, in a namespace with a loopback, and what was sent."""

    def __init__(self) -> None:
        self.now = 10.0
        self.sent: list[object] = []
        self.descriptors: list[int] = []
        self.events: list[str] = []
        self.links: dict[str, Interface] = {}
        self.sockets = ProbeSockets(Logger(self, "parent", Level.DEBUG), lambda: self.now)

    def write(self, record: LogRecord) -> None:
        self.events.append(record.event)

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)

    def reconcile(self, *wanted: ProbeSettings) -> list[object]:
        """What is sent for probes."""
        self.sent = []
        by_name = {each.name: each for each in wanted}
        self.is_complete = self.sockets.reconcile(by_name, self.links, self._send)
        return self.sent

    def request(self, name: str = "tcp", number: int = 1) -> list[object]:
        """What is sent for a request."""
        self.sent = []
        self.sockets.answer(ProbeSocketRequest(name, number), self._send)
        return self.sent

    def opened(self) -> socket.socket:
        """The last socket that was sent."""
        return socket.socket(fileno=self.descriptors.pop())

    def _send(self, message: object, descriptor: int | None) -> None:
        self.sent.append(message)
        if descriptor is not None:
            self.descriptors.append(descriptor)


@pytest.fixture
def scene(namespace: Namespace) -> Iterator[Scene]:
    with namespace.here.inside():
        made = Scene()
        yield made
        made.close()


def permit_datagram_sockets() -> None:
    with open("/proc/sys/net/ipv4/ping_group_range", "w", encoding="ascii") as file:
        file.write("0 2147483647")


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("is_raw", [True, False])
def test_an_echo_socket_sends_and_receives_replies_with_its_identifier_only(
    scene: Scene, family: Family, is_raw: bool
) -> None:
    if not is_raw:
        permit_datagram_sockets()
    target = LOOPBACK if family is Family.IPV4 else Address.parse("::1")
    configured, ready = scene.reconcile(probe_settings("echo", target=target))
    assert isinstance(configured, ProbesConfigured)
    assert isinstance(ready, ProbeSocketReady)
    assert ready.number == 0
    assert ready.has_ip_header is (is_raw and family is Family.IPV4)
    with scene.opened() as sock:
        sock.setblocking(True)
        sock.settimeout(30)
        assert sock.type is (socket.SOCK_RAW if is_raw else socket.SOCK_DGRAM)
        if is_raw:  # that of another program: the filter drops the reply
            sock.send(encode_request(family, ready.identifier ^ 1, 1, TOKEN))
        sock.send(encode_request(family, ready.identifier, 2, TOKEN))
        data, source = sock.recvfrom(200)
    reply = decode_reply(family, data, has_ip_header=ready.has_ip_header)
    assert reply == (ready.identifier, 2, TOKEN)
    assert source[0] == str(target)
    assert scene.events == []


def test_a_process_is_sent_what_changes(scene: Scene) -> None:
    assert scene.reconcile() == []
    scene.links = {ETH0.ifname: ETH0}
    sent = scene.reconcile(ECHO, TCP, WIRE)
    assert sent[0] == ProbesConfigured((ECHO, TCP, WIRE))
    assert ProbeObserved("wire", is_up=True, reason="") in sent
    assert len(sent) == 3, "a TCP probe has its sockets on request"
    assert scene.is_complete
    assert scene.reconcile(ECHO, TCP, WIRE) == []
    assert scene.reconcile(ECHO) == [ProbesConfigured((ECHO,))]
    assert scene.reconcile() == [ProbesConfigured(())]
    scene.sockets.begin_process()
    assert len(scene.reconcile(ECHO, WIRE)) == 3


def test_a_carrier_is_sent_as_it_changes(scene: Scene) -> None:
    gone = ProbeObserved("wire", None, "eth0 does not exist")
    assert scene.reconcile(WIRE)[1:] == [gone]
    scene.links = {"eth0": ETH0}
    assert scene.reconcile(WIRE) == [ProbeObserved("wire", is_up=True, reason="")]
    scene.links = {}
    assert scene.reconcile(WIRE) == [gone]


def test_a_probe_of_an_interface_that_does_not_exist_fails_with_a_reason(scene: Scene) -> None:
    bound = probe_settings("echo", target=LOOPBACK, interface="eth9")
    failed = ProbeSocketFailed("echo", 0, "eth9 does not exist")
    assert scene.reconcile(bound)[1:] == [failed]
    assert scene.is_complete, "the links will change"
    assert scene.reconcile(bound) == [], "it is said once"
    assert scene.events == ["probe-socket-failed"]


def test_a_connection_is_begun_to_the_target_only(scene: Scene) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 7007))
        listener.listen()
        scene.reconcile(TCP)
        assert scene.request() == [ProbeSocketReady("tcp", 1, 0, has_ip_header=False)]
        with scene.opened() as sock:
            assert sock.getpeername() == ("127.0.0.1", 7007)
    assert scene.request("echo") == [], "it has no such probe"
    assert scene.request("absent") == []


def test_a_refusal_is_a_result_and_a_missing_route_is_none(scene: Scene) -> None:
    away = Address.parse("203.0.113.9")
    scene.reconcile(TCP, probe_settings("away", kind=ProbeKind.TCP, target=away, port=7))
    (failed,) = scene.request("away")
    assert failed == ProbeSocketFailed("away", 1, "Network is unreachable")
    scene.request("tcp")
    refused = [each for each in scene.sent if isinstance(each, ProbeSocketFailed)]
    if refused:  # else the kernel says so a moment later, on the socket
        assert refused == [ProbeSocketFailed("tcp", 1, "Connection refused", is_refusal=True)]


def test_requests_beyond_the_rate_open_nothing(scene: Scene) -> None:
    scene.reconcile(TCP)
    for number in range(1000):
        scene.request(number=number)
    assert len(scene.descriptors) <= REQUESTS_BURST
    assert scene.sent == [ProbeSocketFailed("tcp", 999, "too many attempts")]
    scene.now += 1.5 * REQUEST_PAUSE_S
    assert scene.request(number=1000) != [ProbeSocketFailed("tcp", 1000, "too many attempts")]
    scene.now += 1e6
    for number in range(1000):
        scene.request(number=number)
    assert len(scene.descriptors) <= 2 * REQUESTS_BURST + 1
