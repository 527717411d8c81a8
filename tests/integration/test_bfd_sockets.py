"""The sockets of BFD sessions: which ones a liveness process receives, and which ones are kept for
the next process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from routed.imsg.liveness import BfdConfigured, BfdSocketReady
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.bfd import BfdSettings
from routed.model.prefix import Address
from routed.parent.bfd_sockets import BfdSockets
from tests.fakes.bfd_pair import settings
from tests.fakes.kernels import Namespace

pytestmark = pytest.mark.root

S = settings(Address.parse("192.0.2.9"))
FAR = settings(Address.parse("192.0.2.9"), "far", is_multihop=True)


class Scene:
    """The sockets in a namespace whose ports are free, and the messages that were sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.descriptors: list[int] = []
        self.events: list[str] = []
        self.sockets = BfdSockets(Logger(self, "parent", Level.DEBUG))

    def write(self, record: LogRecord) -> None:
        self.events.append(record.event)

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.sockets.close()

    def reconcile(self, *wanted: BfdSettings) -> list[object]:
        """Reconcile with some sessions. Returns the messages that were sent."""
        self.sent = []
        by_name = {each.name: each for each in wanted}
        self.is_complete = self.sockets.reconcile(by_name, {}, self._send)
        return self.sent

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


RECEIVER = BfdSocketReady("", S.peer.family, is_multihop=False)
FAR_RECEIVER = BfdSocketReady("", S.peer.family, is_multihop=True)


def test_a_process_receives_only_changes(scene: Scene) -> None:
    sender = BfdSocketReady("s", S.peer.family, is_multihop=False)
    assert scene.reconcile(S) == [BfdConfigured((S,)), RECEIVER, sender]
    assert scene.reconcile(S) == []
    far = BfdSocketReady("far", S.peer.family, is_multihop=True)
    assert scene.reconcile(S, FAR) == [BfdConfigured((S, FAR)), FAR_RECEIVER, far]
    assert scene.reconcile(FAR) == [BfdConfigured((FAR,))]
    assert scene.reconcile(FAR, S) == [BfdConfigured((FAR, S)), sender], "it still has the port"
    assert scene.is_complete
    assert scene.events == []


def test_the_next_process_gets_the_same_port_at_once(scene: Scene) -> None:
    scene.reconcile(S)
    with pytest.raises(OSError, match="in use"), socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("", 3784))
    scene.sockets.begin_process()
    assert RECEIVER in scene.reconcile(S)
    assert scene.events == []


def test_a_socket_that_a_process_has_connected_is_replaced(scene: Scene) -> None:
    scene.reconcile(S)
    with socket.socket(fileno=scene.descriptors.pop(0)) as theirs:
        theirs.connect(("127.0.0.1", 9))
    scene.sockets.begin_process()
    scene.reconcile(S)
    with socket.socket(fileno=scene.descriptors.pop(1)) as fresh, pytest.raises(OSError):  # noqa: PT011
        fresh.getpeername()


def test_a_port_that_is_in_use_is_tried_again(scene: Scene) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("", 3784))
        assert RECEIVER not in scene.reconcile(S)
        assert not scene.is_complete
        assert scene.events == ["bfd-socket-failed"]
        scene.reconcile(S)
        assert scene.events == ["bfd-socket-failed"], "logged once, however often it is tried"
    assert scene.reconcile(S) == [RECEIVER]
    assert scene.is_complete


def test_senders_have_the_port_and_the_hop_limit_of_the_specification(scene: Scene) -> None:
    scene.reconcile(S)
    with socket.socket(fileno=scene.descriptors.pop()) as sender:
        assert 49_152 <= sender.getsockname()[1] <= 65_535
        assert sender.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 255
