"""An adversary of the dataplane: malformed frames, while interfaces are made and removed.

Where the kernel has no tcx the programs are not attached, and the daemon must hold all the same.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

from tests.attack.scene import DEADLINE_S, Scene
from tests.fakes.frames import CASES, ETHER
from tests.fuzz.mutate import mutated
from waiting import wait_until

__all__ = ["hostile_frames"]

SCTP = 132
"""The protocol of the known traffic: nothing else on these links has it."""
KNOWN_PACKETS, KNOWN_PAYLOAD = 300, 60
HOSTILE_FRAMES = 3000
ROUNDS = 15

_RTM_DELLINK = 17
_LINK = struct.Struct("=BxHiII")


def hostile_frames(scene: Scene) -> None:
    """A station on A's link sends malformed frames; known packets are counted once each."""
    with scene.under_attack():
        before = [_sctp(scene, name) for name in ("eth-A", "eth-B")]
        hooks = _hooks(scene)
        frames = _frames(scene)
        with (
            scene.lab.open_socket("A", socket.AF_PACKET, socket.SOCK_RAW) as station,
            scene.lab.open_socket("A", socket.AF_INET, socket.SOCK_RAW, SCTP) as known,
        ):
            station.bind(("eth-R", 0))
            target = (str(scene.lab.node("B").loopbacks[0].ip), 0)
            for number in range(ROUNDS):
                _make_bridge(scene, f"hostile{number % 3}")
                for _ in range(HOSTILE_FRAMES // ROUNDS):
                    with contextlib.suppress(OSError):  # longer than the link takes
                        station.send(next(frames))
                for _ in range(KNOWN_PACKETS // ROUNDS):
                    known.sendto(bytes(KNOWN_PAYLOAD), target)
                _remove_bridge(scene, f"hostile{number % 3}")
        wait_until(lambda: _hooks(scene) == hooks, DEADLINE_S, "what was attached is attached")
        if set(hooks.values()) != {"tcx"}:
            return  # this kernel has no tcx: nothing is counted
        size = 14 + 20 + KNOWN_PAYLOAD
        sent = (KNOWN_PACKETS, KNOWN_PACKETS * size)
        wait_until(
            lambda: (
                _difference(_sctp(scene, "eth-A")[:2], before[0][:2]) == sent
                and _difference(_sctp(scene, "eth-B")[2:], before[1][2:]) == sent
            ),
            DEADLINE_S, "each known packet is counted once on its way in and out",
        )  # fmt: skip


def _frames(scene: Scene) -> Iterator[bytes]:
    """Yield frames of all kinds to R, truncated, damaged and stacked; none has the protocol of the
    known traffic.
    """
    rng = scene.rng
    samples = [content for content, _, _ in CASES.values()]
    mac = scene.lab.topology.port_between("R-A").mac
    tags = (0x8100, 0x88A8, 0x9100)
    while True:
        content = rng.choice(samples)
        match rng.randrange(4):
            case 0:
                content = content[: rng.randrange(14, len(content) + 1)]
            case 1:
                content = mutated(content, samples, rng, 1500)
            case 2:
                stack = (
                    struct.pack("!HH", rng.choice(tags), rng.getrandbits(16)) for _ in range(200)
                )
                depth = rng.randrange(1, 200)
                content = content[:12] + b"".join(list(stack)[:depth]) + content[12:]
            case _:
                content += rng.randbytes(rng.randrange(1000))
        content = rng.choice((mac, ETHER[:6], b"\xff" * 6)) + content[6:]
        if len(content) >= 14 and bytes((SCTP,)) not in content[12:]:
            yield content


def _sctp(scene: Scene, ifname: str) -> tuple[int, int, int, int]:
    """Return packets and bytes received, and sent, of the known protocol."""
    for row in _traffic(scene, ifname):
        if (row["family"], row["protocol"]) == ("ipv4", "sctp"):
            return (
                row["received_packets"], row["received_bytes"], row["sent_packets"],
                row["sent_bytes"],
            )  # fmt: skip
    return 0, 0, 0, 0


def _traffic(scene: Scene, ifname: str) -> list[dict[str, Any]]:
    if _hooks(scene).get(ifname) != "tcx":
        return []
    return scene.ask("show", "traffic", "protocols", "interface", ifname)


def _hooks(scene: Scene) -> dict[str, str]:
    return {row["interface"]: row["hook"] for row in scene.ask("show", "dataplane", "interfaces")}


def _difference(after: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(later - earlier for later, earlier in zip(after, before, strict=True))


def _make_bridge(scene: Scene, ifname: str) -> None:
    netlink = scene.lab.netlink("R")
    netlink.add_bridge(ifname)
    netlink.set_up(ifname, is_up=True)


def _remove_bridge(scene: Scene, ifname: str) -> None:
    netlink = scene.lab.netlink("R")
    (ifindex,) = [index for index, name in netlink.link_names().items() if name == ifname]
    netlink.request(_RTM_DELLINK, 0, _LINK.pack(0, 0, ifindex, 0, 0), f"remove {ifname}")
