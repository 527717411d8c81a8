"""The adversaries: each attacks once, with inputs drawn from the scene's seed.

There is one function for each kind of input of docs/security.md: local users without a role,
readers, stations on a link, mistakes of administrators, other programs that change the kernel,
signals. `hostile_engines` are scripts for an engine under an attacker's control; they need their
own daemon.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import kernel
import router_config
from ipc import codec
from ipc.control import PROTOCOL_VERSION, REQUEST_CLASSES, ClientHello, Monitor
from ipc.control import ControlType as Request
from ipc.framing import (
    CONTROL_FRAME_MAX_BYTES,
    FRAME_HEADER_BYTES,
    INTERNAL_FRAME_MAX_BYTES,
    Frame,
    pack_frame,
)
from routed.imsg.authority import AUTHORITY
from routed.imsg.authority import ChannelEnd as End
from routed.imsg.messages import FibCommanded, LogLevelRequested
from routed.model.nup_addresses import GROUP_IPV6, NUP_PORT
from testbed import Lab
from tests.attack.bfd_adversaries import bfd_floods, bfd_stations, bfd_users, liveness_deaths
from tests.attack.dataplane_adversaries import hostile_frames
from tests.attack.scene import DEADLINE_S, METRICS_PORT, READER, STRANGER, Scene, attacked_network
from tests.fakes.wired_samples import sample
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, with_right_sums
from waiting import wait_until

__all__ = ["ADVERSARIES", "Adversary"]

Adversary = Callable[[Scene], None]


def garbage_clients(scene: Scene) -> None:
    """A user without a role sends bytes that are no message, and messages that it is not permitted
    to send.
    """
    rng = scene.rng
    frames = [rng.randbytes(rng.choice((0, 1, 8, 500, 60_000))) for _ in range(60)]
    with scene.under_attack():
        scene.send_frames(STRANGER, [b"\xff" * 65_535, *frames])


def readers(scene: Scene) -> None:
    """A reader sends every request with invalid values, among them long texts."""
    rng = scene.rng
    hello = _frame(Request.HELLO, ClientHello(PROTOCOL_VERSION))
    frames = [hello]
    for number, request_class in REQUEST_CLASSES.items():
        if number in (Request.MONITOR, Request.SNAPSHOT_OPEN):
            continue
        for _ in range(3):
            good = _frame(number, sample(request_class, rng))
            frames += [
                hello,
                good,
                hello,
                good[:FRAME_HEADER_BYTES] + _longest(rng.choice("a\x01\u2028\U0001f980")),
            ]
            frames += [hello, mutated(good, [hello], rng, 60_000)]
    with scene.under_attack():
        scene.send_frames(READER, frames)
        assert "client-refused" in scene.lab.log("R")


def _frame(number: int, message: object) -> bytes:
    return pack_frame(Frame(number, 1, codec.encode(message)), CONTROL_FRAME_MAX_BYTES)


def _longest(character: str) -> bytes:
    """Return a body with one text in place of every field, near the longest that a frame
    can have.
    """
    return codec.encode_plain([character * (50_000 // len(character.encode()))])


def monitors(scene: Scene) -> None:
    """A reader opens more monitors than permitted and reads none of them, while routes change."""
    with (
        scene.under_attack(),
        scene.user(READER, _MONITORS, router_config.socket_path("R"), _hex_monitor()),
    ):
        for number in range(20):
            prefix = f"203.0.113.{number * 8}/29"
            scene.lab.run(
                "R", scene.lab.routectl_command("R", "route", "add", prefix, "type", "blackhole")
            )
            scene.lab.run("R", scene.lab.routectl_command("R", "route", "delete", prefix))


def _hex_monitor() -> str:
    frames = [_frame(Request.HELLO, ClientHello(PROTOCOL_VERSION))]
    frames.append(_frame(Request.MONITOR, Monitor()))
    return ",".join(frame.hex() for frame in frames)


_MONITORS = """
import socket, sys
path, frames = sys.argv[2:]
connections = []
for _ in range(230):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
        for frame in frames.split(","):
            connection.send(bytes.fromhex(frame))
    except OSError:
        continue
    connections.append(connection)
print("watching", flush=True)
sys.stdin.read()
"""


def lingering_descriptors(scene: Scene) -> None:
    """A user sends descriptors whose last close takes as long as that user chooses."""
    with (
        scene.under_attack(),
        scene.user(STRANGER, _LINGER, router_config.socket_path("R")) as attacker,
    ):
        scene.ask("show", "status")
        assert attacker.poll() is None, "the daemon answered only after the attacker had ended"


_LINGER = """
import socket, struct, sys
kept, peers = [], []
for _ in range(8):
    listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(1)
    tcp = socket.socket(); tcp.connect(listener.getsockname())
    kept.append(tcp)
    peers.append(listener.accept()[0])
    tcp.setblocking(False)
    try:
        while True:
            tcp.send(b"x" * 65536)
    except BlockingIOError:
        pass
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20_000))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept.append(connection)
    try:
        connection.connect(sys.argv[2])
        socket.send_fds(connection, [b"hello"], [tcp.fileno()])
    except OSError:
        pass
print("sent", flush=True)
sys.stdin.read()
for peer in peers:  # what has not been read resets the connection: nothing lingers
    peer.close()
"""


def scrapers(scene: Scene) -> None:
    """A user scrapes metrics, with valid and invalid requests, more often than the sandbox permits
    refused calls.
    """
    with scene.under_attack():
        scene.run_user(STRANGER, _SCRAPE, str(METRICS_PORT), str(scene.rng.randrange(1 << 30)))
        (status,) = scene.ask("show", "status")
        assert not status["sandbox_refusals"], "ordinary service is no offence"


_SCRAPE = """
import random, socket, sys
port, rng = int(sys.argv[2]), random.Random(int(sys.argv[3]))
requests = [b"GET /metrics HTTP/1.1\\r\\n\\r\\n", b"HEAD /metrics HTTP/1.1\\r\\n\\r\\n",
            b"GET / HTTP/1.0\\r\\n\\r\\n", b"POST / HTTP/1.1\\r\\n\\r\\n", b"\\r\\n\\r\\n",
            b"\\0" * 9000, b""]
for number in range(1300):
    with socket.socket() as connection:
        connection.settimeout(20)
        try:
            connection.connect(("127.0.0.1", port))
            connection.send(requests[number % len(requests)] or rng.randbytes(40))
            if number % 50 == 0:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
        except OSError:
            pass
print("scraped", flush=True)
"""


def local_routers(scene: Scene) -> None:
    """A user sends NUP messages from R's own address, from ports other than the protocol's."""
    vectors = ",".join(_station_messages(scene, 200))
    with scene.under_attack():
        links = [f"eth-{name}" for name in "AB"]
        scene.run_user(
            STRANGER, _SPOOF, str(GROUP_IPV6), str(NUP_PORT), ",".join(links), vectors[:100_000]
        )


_SPOOF = """
import socket, sys
group, port, links, messages = sys.argv[2:]
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
    for link in links.split(","):
        ifindex = socket.if_nametoindex(link)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, ifindex)
        for message in messages.split(","):
            try:
                sender.sendto(bytes.fromhex(message), (group, int(port), 0, ifindex))
            except (OSError, ValueError):
                pass
print("sent", flush=True)
"""


def _station_messages(scene: Scene, count: int) -> Iterator[str]:
    """Return messages of routers that do not exist, damaged or not, with right checksums."""
    vectors = list(TARGETS["nup_message"].seeds())
    for _ in range(count):
        message = scene.rng.choice(vectors)
        if scene.rng.random() < 0.7:
            message = mutated(message, vectors, scene.rng, 1200)
        identity = bytes((172, 16, scene.rng.randrange(256), scene.rng.randrange(1, 255)))
        for number in range(1, 9):
            message = message.replace(bytes((10, 255, 0, number)), identity)
        yield with_right_sums(message).hex()


def stations(scene: Scene) -> None:
    """A station on R's link sends any packets, well formed and malformed, from the link and from
    beyond it.
    """
    messages = [bytes.fromhex(text) for text in _station_messages(scene, 1500)]
    with scene.under_attack():
        with scene.lab.open_socket("A", socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
            names = {name: ifindex for ifindex, name in scene.lab.netlink("A").link_names().items()}
            address = ("eth-R", 0x86DD, 0, 0, b"\x33\x33\0\x70\0\x70"[:6])
            assert "eth-R" in names
            for message in messages:
                hop_limit = scene.rng.choice((255, 255, 255, 64))
                port = scene.rng.choice((NUP_PORT, NUP_PORT, 5353))
                sender.sendto(
                    _ipv6_udp(message, hop_limit, port, scene.rng.randrange(1, 60)), address
                )
        wait_until(
            lambda: any(
                value for name, value in scene.counters().items() if name.startswith("nup_dropped")
            ),
            DEADLINE_S,
            "what is refused is counted",
        )


def _ipv6_udp(payload: bytes, hop_limit: int, source_port: int, station: int) -> bytes:
    """Return an IPv6 packet to the group from a link-local address that no interface has."""
    source = bytes.fromhex("fe80") + bytes(12) + struct.pack("!H", 0xBAD0 + station % 16)
    group = GROUP_IPV6.packed
    udp = struct.pack("!HHHH", source_port, NUP_PORT, 8 + len(payload), 0) + payload
    pseudo = source + group + struct.pack("!II", len(udp), socket.IPPROTO_UDP)
    padded = pseudo + udp + bytes(len(udp) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    udp = udp[:6] + struct.pack("!H", ~total & 0xFFFF or 0xFFFF) + udp[8:]
    header = struct.pack("!IHBB", 0x6000_0000, len(udp), socket.IPPROTO_UDP, hop_limit)
    return header + source + group + udp


def mistaken_configurations(scene: Scene) -> None:
    """An administrator writes files with many kinds of mistakes, and files that are no
    configuration at all.
    """
    rng, good = scene.rng, scene.config.encode()
    wrong = [
        "static:\n" + "".join(f"- {{prefix: 10.{n}.{n}.1/8, vai: x{n}}}\n" for n in range(256)),
        f"router_id: {'9' * rng.randrange(100_000, 200_000)}\n",
        "static: " + "[" * rng.randrange(50_000, 300_000),
        "{" * rng.randrange(50_000, 300_000),
        "\n".join(" " * depth + "a:" for depth in range(rng.randrange(2000, 5000))),
        "a: &a [x,x,x,x]\n"
        + "".join(
            f"{name}: &{name} [*{before},*{before},*{before},*{before}]\n"
            for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "router_id: \x07\n",
        "",
        rng.randbytes(4000).decode("latin-1"),
        mutated(good, [good], rng, 8000).decode("utf-8", "replace"),
    ]  # fmt: skip
    with scene.under_attack():
        for text in wrong:
            scene.lab.write_config("R", text)
            failed = scene.lab.log("R").count("reload-")
            scene.lab.sighup("R")
            wait_until(
                lambda failed=failed: scene.lab.log("R").count("reload-") > failed,  # type: ignore[misc]
                DEADLINE_S, f"an answer to {text[:60]!r}",
            )  # fmt: skip
            scene.lab.run(
                "R", scene.lab.routectl_command("R", "check", router_config.config_path("R"))
            )
        scene.lab.write_config("R", scene.config)
        done = scene.lab.run("R", scene.lab.routectl_command("R", "reload"))
        assert done.returncode == 0, done.stderr


def signals(scene: Scene) -> None:
    """Hundreds of signals arrive; afterwards the last configuration that was written is in
    force.
    """
    with scene.under_attack():
        for _ in range(200):
            number = scene.rng.choice((signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))
            scene.lab.kill("R", "daemon", number)
        cost = scene.rng.randrange(11, 99)
        scene.lab.write_config(
            "R", scene.config.replace("multiplier: 30", f"multiplier: 30\n    cost: {cost}")
        )
        scene.lab.sighup("R")
        wait_until(
            lambda: all(row["cost"] == cost for row in scene.ask("show", "neighbors")),
            DEADLINE_S, "the last SIGHUP is carried out",
        )  # fmt: skip
        scene.lab.write_config("R", scene.config)
        done = scene.lab.run("R", scene.lab.routectl_command("R", "reload"))
        assert done.returncode == 0, done.stderr
        # SIGUSR2 has changed the log level an unknown number of times.
        scene.lab.run("R", scene.lab.routectl_command("R", "log", "level", "info"))


def kernel_changes(scene: Scene) -> None:
    """Other programs change R's kernel: thousands of addresses and routes, also while the daemon
    writes.
    """
    netlink = scene.lab.netlink("R")
    addresses = [IPv4Interface(f"100.{64 + n // 250}.{n % 250}.1/32") for n in range(1500)]
    prefixes = [f"100.{80 + n // 250}.{n % 250}.0/24" for n in range(1500)]
    with scene.under_attack():
        for address in addresses:
            netlink.add_address("lo", address)
        for prefix in prefixes:
            kernel.add_route(netlink, prefix, via=None, dev="eth-A")
        command = scene.lab.routectl_command("R", "show", "route", "100.85.7.7")
        wait_until(
            lambda: not scene.lab.run("R", command).returncode,
            DEADLINE_S,
            "the daemon has read them",
        )
        for route in scene.lab.kernel_routes("R", None):
            if route.prefix in prefixes:
                kernel.delete_route(netlink, route)
        for address in addresses:
            netlink.delete_address("lo", address)


def port_squatters(scene: Scene) -> None:
    """A user waits for the engine's death to bind the protocol's port."""
    with (
        scene.under_attack(ends_engine=True),
        scene.user(STRANGER, _SQUAT, str(NUP_PORT)) as process,
    ):
        scene.lab.kill("R", "engine")
        scene.wait_logged("engine-started", "the next engine starts")
        scene.lab.wait_converged(DEADLINE_S)
        assert process.stdin is not None
        said, problem = process.communicate("", timeout=DEADLINE_S)
        assert said.strip() == "never", said + problem


_SQUAT = """
import select, socket, sys
print("waiting", flush=True)
answer = "never"
while not select.select([sys.stdin], [], [], 0)[0]:
    for device in ("", "eth-A", "eth-B"):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
            try:
                if device:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
                taken.bind(("::", int(sys.argv[2])))
                answer = f"taken on {device or 'all links'}"
            except OSError:
                pass
print(answer, flush=True)
"""


def hostile_engines(scene: Scene) -> None:
    """An engine under an attacker's control sends everything that it may send, valid and damaged.

    It has its own lab, because the attacker must be in the engine from the start; it waits for a
    SIGHUP. The next engine is an unmodified one.
    """
    with Lab(attacked_network()) as lab:
        inner = Scene(lab, scene.rng.randrange(1 << 30))
        script = lab.file("/dev/shm/R/attack.py")
        script.write_text(_ENGINE.replace("FRAMES", repr(_engine_frames(inner))), encoding="utf-8")
        inner.start(daemon=(sys.executable, str(HOSTILE_DAEMON), "/dev/shm/R/attack.py"))
        with inner.under_attack(ends_engine=True):
            lab.sighup("R")
            inner.wait_logged("said everything|engine-died", "the attacker has said everything")


HOSTILE_DAEMON = Path(__file__).parents[1] / "fakes" / "hostile_daemon.py"

_ENGINE = """
async def attack(engine, send_raw):
    import trio
    while engine.components.reports.last_reload is None:
        await trio.sleep(0.02)
    try:
        for text in FRAMES:
            await send_raw(bytes.fromhex(text))
    finally:
        print("said everything", flush=True)
"""


CLIENTS_COMMANDS = (FibCommanded, LogLevelRequested)
"""A subscription that an engine requests for a client lasts until the client ends it."""


def _engine_frames(scene: Scene) -> list[str]:
    """Return messages of every class that an engine may send; those that end an engine
    come last.
    """
    rng, frames = scene.rng, []
    classes = [
        (int(number), each.message)
        for number, each in AUTHORITY.items()
        if each.sender is End.ENGINE
        and not each.carries_descriptor
        and each.message not in CLIENTS_COMMANDS
    ]
    for _ in range(30):
        number, message_class = rng.choice(classes)
        body = codec.encode(sample(message_class, rng))
        if rng.random() < 0.3:
            body = mutated(body, [body], rng, 100_000)
        frames.append(pack_frame(Frame(number, rng.randrange(3), body), INTERNAL_FRAME_MAX_BYTES))
    return [frame.hex() for frame in frames]


ADVERSARIES: dict[str, Adversary] = {
    each.__name__: each
    for each in (
        garbage_clients, readers, monitors, lingering_descriptors, scrapers, local_routers,
        stations, mistaken_configurations, signals, kernel_changes, port_squatters,
        hostile_engines, bfd_users, bfd_stations, bfd_floods, liveness_deaths, hostile_frames,
    )
}  # fmt: skip
"""The adversaries by name, in the order of a round."""
