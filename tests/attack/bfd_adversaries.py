"""Adversaries of BFD: users of the peer's machine, stations on the link, and what happens to the
liveness process itself.

R has two sessions: `to-a` without a key, which a user of A attacks, and `to-b` with a meticulous
key, which a station on B's link attacks, which receives all packets. A route follows each.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from routed.bfd.wire import HEADER_BYTES, ControlPacket, encode
from routed.model.bfd import BfdDiagnostic, BfdState
from tests.attack.scene import DEADLINE_S, STRANGER, Scene
from tests.fuzz.mutate import mutated
from waiting import wait_until

__all__ = ["bfd_floods", "bfd_stations", "bfd_users", "liveness_deaths"]

PORTS = (3784, 4784)
FLOOD_PACKETS = 5000
"""Packets of a flood that were counted before it may end."""
RECORDED = 6

_FORGED = ControlPacket(BfdState.DOWN, BfdDiagnostic.NONE, 3, 0xBAD, 0, 50_000, 50_000)


def _session(scene: Scene, name: str) -> dict[str, Any]:
    (row,) = scene.ask("show", "bfd", "session", name)
    return row


def _drops(scene: Scene, name: str) -> Counter[str]:
    """Return by reason: packets that a session has dropped, and those of no session."""
    found = Counter(
        {
            counter.removeprefix("bfd_dropped_"): value
            for counter, value in scene.counters().items()
            if counter.startswith("bfd_dropped_")
        }
    )
    found.update({drop["reason"]: drop["packets"] for drop in _session(scene, name)["drops"]})
    return found


@contextlib.contextmanager
def _unmoved(scene: Scene, name: str, *reasons: str) -> Iterator[None]:
    """Attack a session within the block: its state must not change, and the refused packets must
    be counted by these reasons.
    """
    with scene.under_attack():
        session, counted = _session(scene, name), _drops(scene, name)
        yield
        wait_until(
            lambda: all(_drops(scene, name)[reason] > counted[reason] for reason in reasons),
            DEADLINE_S, f"what is refused is counted as {', '.join(reasons)}",
        )  # fmt: skip
        after = _session(scene, name)
        for key in ("session_state", "times_up", "times_down", "local_discr", "remote_discr"):
            assert after[key] == session[key], f"{key} of {name} is {after[key]}"
        assert after["used"]


def _forgeries(scene: Scene, known: int) -> Iterator[bytes]:
    """Yield packets with each field wrong, and damaged ones.

    Args:
        scene: has the random numbers.
        known: the discriminator that the attacker assumes for the session.
    """
    rng = scene.rng
    for state in (BfdState.DOWN, BfdState.ADMIN_DOWN):
        yield encode(_FORGED._replace(state=state, is_poll=True))
        yield encode(_FORGED._replace(state=state, required_min_rx_us=0, is_demand=True))
    for state in BfdState:
        yield encode(_FORGED._replace(state=state, your_discriminator=known))
    good = encode(_FORGED)
    yield encode(_FORGED._replace(multiplier=0))
    yield encode(_FORGED._replace(my_discriminator=0))
    yield encode(_FORGED._replace(state=BfdState.UP))
    yield good[:1] + bytes((good[1] | 1,)) + good[2:]  # multipoint
    yield good[:1] + bytes((good[1] | 4,)) + good[2:]  # an authentication section that is not there
    yield good[:3] + b"\xff" + good[4:]
    yield good + bytes(1000)
    for position in range(HEADER_BYTES):
        yield good[:position] + rng.randbytes(1) + good[position + 1 :]
    for _ in range(300):
        yield mutated(good, [good], rng, 300)


def bfd_users(scene: Scene) -> None:
    """A user of A, and one of R, send packets from the peers' own addresses."""
    reasons = (
        "source_port", "your_discriminator", "my_discriminator", "multiplier", "multipoint",
        "length", "by_kernel",
    )  # fmt: skip
    with _unmoved(scene, "to-a", *reasons):
        forgeries = [each.hex() for each in _forgeries(scene, scene.rng.getrandbits(32))]
        for router in ("A", "R"):
            scene.run_user(
                STRANGER, _FORGE, str(scene.address("R-A")), ",".join(forgeries), router=router
            )


_FORGE = """
import socket, sys
target, messages = sys.argv[2], [bytes.fromhex(text) for text in sys.argv[3].split(",")]
for hop_limit in (255, 254):
    for port in (0, 49152, 3784):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop_limit)
            try:
                sender.bind(("", port))
            except OSError:
                continue
            for message in messages:
                for to in (3784, 4784):
                    try:
                        sender.sendto(message, (target, to))
                    except OSError:
                        pass
print("sent", flush=True)
"""


def bfd_floods(scene: Scene) -> None:
    """A user of A sends as fast as the machine permits, while the session needs packets."""
    with _unmoved(scene, "to-a", "source_port", "your_discriminator"):
        flood = [encode(_FORGED), encode(_FORGED._replace(your_discriminator=7)), b" " + bytes(23)]
        arguments = (str(scene.address("R-A")), ",".join(each.hex() for each in flood))
        before, counted = _session(scene, "to-a"), _drops(scene, "to-a")["source_port"]
        with scene.user(STRANGER, _FLOOD, *arguments, router="A"):
            wait_until(
                lambda: (
                    _drops(scene, "to-a")["source_port"] >= counted + FLOOD_PACKETS
                    and _session(scene, "to-a")["packets_received"]
                    >= before["packets_received"] + 10
                ),
                DEADLINE_S, "the flood is refused, and the peer's packets are accepted",
            )  # fmt: skip


_FLOOD = """
import select, socket, sys
messages = [bytes.fromhex(text) for text in sys.argv[3].split(",")]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
sender.connect((sys.argv[2], 3784))
print("flooding", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        for message in messages:
            try:
                sender.send(message)
            except OSError:
                pass
"""


def bfd_stations(scene: Scene) -> None:
    """A station on B's link receives, repeats and forges packets of a session with a key."""
    with _unmoved(
        scene, "to-b", "authentication", "sequence", "source", "your_discriminator", "by_kernel"
    ):
        recorded = _record(scene)
        known = struct.unpack_from("!I", recorded[-1], 8)[0]
        own, target = scene.address("B-R"), scene.address("R-B")
        with _link_socket(scene, "B") as sender:
            for payload, source, hop_limit in _of_station(scene, recorded, known):
                packet = _ipv4_udp(source or own, target, payload, hop_limit)
                for position in range(2):
                    # A truncated packet keeps its header, whose length is wrong then.
                    cut = len(packet) - position * scene.rng.randrange(len(packet) - 20)
                    sender.sendto(packet[:cut], _towards(scene, "R-B"))


def _of_station(
    scene: Scene, recorded: list[bytes], known: int
) -> Iterator[tuple[bytes, IPv4Address | None, int]]:
    """Yield the payload, another source if any, and the hop limit."""
    rng = scene.rng
    for packet in recorded * 20:
        yield packet, None, 255
        yield packet, None, 254
        yield packet, IPv4Address("192.0.2.77"), 255
        damaged = bytearray(packet)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        yield bytes(damaged), None, 255
    (sequence,) = struct.unpack_from("!I", recorded[-1], HEADER_BYTES + 4)
    for ahead in range(-3, 100):
        moved = bytearray(recorded[-1])
        struct.pack_into("!I", moved, HEADER_BYTES + 4, (sequence + ahead) & 0xFFFF_FFFF)
        yield bytes(moved), None, 255
    for forged in _forgeries(scene, known):
        yield forged, None, 255
        header = bytearray(forged[:HEADER_BYTES].ljust(HEADER_BYTES, b"\1"))
        header[1] |= 4
        yield bytes(header) + recorded[-1][HEADER_BYTES:], None, 255


def _record(scene: Scene) -> list[bytes]:
    """Record packets that B sends to R. Returns their payloads."""
    found: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_S
    with scene.lab.open_socket(
        "B", socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(3)
    ) as sniffer:
        sniffer.settimeout(DEADLINE_S)
        while len(found) < RECORDED:
            assert time.monotonic() < deadline, "B sends no packets"
            packet, address = sniffer.recvfrom(2048)
            is_sent = address[2] == socket.PACKET_OUTGOING
            if is_sent and packet[:1] == b"\x45" and packet[22:24] == PORTS[0].to_bytes(2, "big"):
                found.append(packet[28:])
    return found


def _link_socket(scene: Scene, router: str) -> socket.socket:
    return scene.lab.open_socket(router, socket.AF_PACKET, socket.SOCK_DGRAM)


def _towards(scene: Scene, port: str) -> tuple[str, int, int, int, bytes]:
    """Return the link-layer address of a port of R, for its neighbor."""
    return ("eth-R", 0x0800, 0, 0, scene.lab.topology.port_between(port).mac)


def _ipv4_udp(source: IPv4Address, target: IPv4Address, payload: bytes, hop_limit: int) -> bytes:
    udp = struct.pack("!HHHH", 50_123, PORTS[0], 8 + len(payload), 0) + payload
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0xC0, 20 + len(udp), 1, 0, hop_limit, socket.IPPROTO_UDP, 0,
        source.packed, target.packed,
    )  # fmt: skip
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + udp


def liveness_deaths(scene: Scene) -> None:
    """The liveness process is stopped for a while, then killed; no route moves meanwhile."""
    with scene.under_attack(ends_liveness=True):
        routes = scene.lab.kernel_routes("R")
        before = _session(scene, "to-a")["times_down"]
        scene.lab.kill("R", "liveness", signal.SIGSTOP)
        try:
            for _ in range(3):
                assert scene.ask("show", "bfd", "sessions")
            assert scene.lab.kernel_routes("R") == routes
        finally:
            scene.lab.kill("R", "liveness", signal.SIGCONT)
        assert _session(scene, "to-a")["times_down"] == before
        scene.lab.kill("R", "liveness", signal.SIGKILL)
        scene.wait_logged("liveness-started", "the next liveness process starts")
        scene.wait_sessions_up()
        assert scene.lab.kernel_routes("R") == routes
        assert not re.search("bfd-down", scene.log_since_attack())
