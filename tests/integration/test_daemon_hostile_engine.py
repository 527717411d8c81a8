"""An attacker inside the engine of a real daemon reaches nothing outside, and packets are forwarded
meanwhile.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import router_config
import topology
from routed.sandbox.kernel import here
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
DAEMON = Path(__file__).parents[1] / "fakes" / "hostile_daemon.py"

HEAD = """
import array, ctypes, json, mmap, os, signal, socket, struct, sys
import trio
from routed.imsg import authority
from ipc import codec
from routed.imsg import messages as internal
from ipc.framing import Frame, INTERNAL_FRAME_MAX_BYTES, pack_frame
from routed.imsg.columns import pack_indices, pack_keys
from routed.model.prefix import Address, Prefix
from routed.model.route import NextHop, RouteType

def frame(message, number=None, request_id=0):
    number = authority.MESSAGE_CLASSES[type(message)] if number is None else number
    return pack_frame(Frame(number, request_id, codec.encode(message)), INTERNAL_FRAME_MAX_BYTES)
"""


@pytest.fixture
def start_attack(build_lab: LabBuilder, tmp_path: Path) -> Any:
    """Return a function that starts the lab line3 with an attacker in R's engine, and returns when
    the daemon is ready.
    """

    def start(script: str) -> Lab:
        patience = {"interfaces": {"eth*": {"hello": "300ms", "multiplier": 30}}}
        lab = build_lab(topology.load("line3").with_config(patience))
        attack = lab.file("/dev/shm/R/attack.py")
        attack.write_text(HEAD + script, encoding="utf-8")
        lab.start_daemons(["A", "B"])
        lab.write_config_unless_there("R")
        path = router_config.config_path("R")
        done = lab.run("R", [sys.executable, str(DAEMON), "/dev/shm/R/attack.py", "-c", path])
        assert done.returncode == 0, done.stderr
        return lab

    return start


def counters(lab: Lab) -> dict[str, int]:
    return {row["name"]: row["value"] for row in lab.routectl("R", "show", "counters")}


def attempts_of(lab: Lab) -> dict[str, str]:
    """Read the attacker's output from the daemon's log."""
    marker = "attempts: "
    wait_until(lambda: marker in lab.log("R"), DEADLINE_S, "the attacker has tried everything")
    line = next(line for line in lab.log("R").splitlines() if marker in line)
    text: str = json.loads(line.partition("engine-output line=")[2])
    found: dict[str, str] = json.loads(text.partition(marker)[2])
    return found


ATTEMPTS = """
ATTEMPTS = {
    "open": lambda: open("/etc/passwd"),
    "own config": lambda: open("/dev/shm/R/routes.yaml"),
    "list": lambda: os.listdir("/"),
    "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "kill the parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "pidfd": lambda: os.pidfd_open(os.getppid()),
    "root": lambda: os.setuid(0),
    "code": lambda: mmap.mmap(-1, 4096, prot=7),
    "end the listener": lambda: LISTENER.shutdown(socket.SHUT_RDWR),
    "import": lambda: __import__("xml.dom.minidom"),
}
async def attack(engine, send_raw):
    global LISTENER
    LISTENER = engine.components._servers._management._listener
    found = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
            found[name] = "done"
        except Exception as error:
            found[name] = type(error).__name__
    print("attempts: " + json.dumps(found), flush=True)
"""


def test_the_system_cannot_be_reached(start_attack: Any) -> None:
    lab = start_attack(ATTEMPTS)
    found = attempts_of(lab)
    imported = found.pop("import")
    assert imported in ("ModuleNotFoundError", "PermissionError")
    if here() is not None:
        assert set(found.values()) == {"PermissionError"}, found
    lab.wait_converged(DEADLINE_S)
    (status,) = lab.routectl("R", "show", "status")
    assert status["engine_restarts"] == 0, "it was refused, and lives on"
    if here() is not None:
        wait_until(
            lambda: counters(lab).get("sandbox_refused_setuid") == 1, DEADLINE_S, "it is counted"
        )
        refused = counters(lab)
        assert refused["sandbox_refused_kill"] == refused["sandbox_refused_pidfd_open"] == 1
        assert refused["sandbox_refused_socket"] == 2
        assert refused["sandbox_refused_openat"] >= 3
        (status,) = lab.routectl("R", "show", "status")
        assert status["sandbox_refusals"] >= 8
        assert "system calls refused" in lab.show("R", "status")
        assert "sandbox-refused pid=" in lab.log("R")


FORBIDDEN_ROUTES = """
async def attack(engine, send_raw):
    eth = next(i for i, link in engine.components.router.links.items() if not link.is_loopback)
    here, there = Prefix.parse("192.0.2.0/24"), Prefix.parse("2001:db8:bad::/48")
    hop = NextHop(None, eth, 1)
    wanted = [
        (255, here, RouteType.UNICAST, (hop,)),                    # the local table
        (77, here, RouteType.BLACKHOLE, ()),                       # nobody's table
        (254, here, RouteType.UNICAST, ()),                        # a route to nowhere
        (254, here, RouteType.UNICAST, (NextHop(None, 0, 1),)),    # on no link
        (254, here, RouteType.UNICAST, (NextHop(None, eth, 9999),)),
        (254, there, RouteType.UNICAST, (NextHop(Address.parse("10.0.0.1"), eth, 1),)),
    ]
    for serial, (table, prefix, kind, hops) in enumerate(wanted, 1_000_000):
        keys = pack_keys(prefix.family, [prefix.as_int])
        rows = internal.FibColumns(table, prefix.family, keys, pack_indices([0]))
        value = internal.FibValue(kind, hops)
        await send_raw(frame(internal.FibUpdate(serial, (value,), (rows,), ())))
    connected = Prefix.parse("10.0.1.0/24")
    keys = pack_keys(connected.family, [connected.as_int])
    rows = internal.FibColumns(254, connected.family, keys, b"")
    await send_raw(frame(internal.FibUpdate(2_000_000, (), (), (rows,))))
"""


def test_forbidden_requests_are_refused_one_by_one_and_counted(start_attack: Any) -> None:
    lab = start_attack(FORBIDDEN_ROUTES)
    foreign = [route for route in lab.kernel_routes("R", None) if route.protocol != 205]
    wait_until(lambda: counters(lab)["fib_refused"] == 6, DEADLINE_S, "all six are refused")
    lab.wait_converged(DEADLINE_S)
    assert not [
        route for route in lab.kernel_routes("R", None) if route.prefix.startswith("192.0.2")
    ]
    after = [route for route in lab.kernel_routes("R", None) if route.protocol != 205]
    assert after == foreign, "the kernel's own route was not ours to remove"
    assert lab.log("R").count("fib-route-refused") == 6


FORGED = """
async def attack(engine, send_raw):
    while engine.components.reports.last_reload is None:
        await trio.sleep(0.02)
    for _ in range(3000):  # a flood first: refused later or taken, it must not stall the parent
        await send_raw(frame(internal.LogEvent("sandboxed", {"by": "x" * 900})))
    await send_raw(frame(internal.Stop(False)))
"""


def test_a_forged_message_ends_the_engine_and_packets_are_forwarded_meanwhile(
    start_attack: Any,
) -> None:
    lab = start_attack(FORGED)
    lab.wait_converged(DEADLINE_S)
    before = lab.kernel_routes("R", None)
    with lab.ping_stream("A", "B") as stream:
        lab.sighup("R")  # the attacker waits for this file
        wait_until(
            lambda: counters_or_nothing(lab).get("engine_violations_channel") == 1,
            DEADLINE_S,
            "the next engine knows of it",
        )
        lab.wait_converged(DEADLINE_S)
    assert stream.sent > 0
    assert stream.lost == 0
    assert lab.kernel_routes("R", None) == before
    assert 'engine-misbehaved problem="STOP is not for the engine to send"' in lab.log("R")
    assert counters(lab)["engine_restarts"] == 1


def counters_or_nothing(lab: Lab) -> dict[str, int]:
    """The counters, or none while the next engine starts and does not answer yet."""
    done = lab.run("R", lab.routectl_command("R", "--json", "show", "counters"))
    if done.returncode:
        return {}
    return {row["name"]: row["value"] for row in json.loads(done.stdout)["data"]}


EXEC = """
async def attack(engine, send_raw):
    os.execv("/bin/sh", ["sh", "-c", "echo owned > /dev/shm/R/owned"])
"""


def test_an_exec_ends_the_engine_by_sigsys_and_is_counted(start_attack: Any) -> None:
    if here() is None:
        pytest.skip("this kernel lacks a system call table of ours")
    lab = start_attack(EXEC)
    wait_until(
        lambda: counters_or_nothing(lab).get("engine_violations_syscall") == 1,
        DEADLINE_S,
        "the next engine knows of it",
    )
    lab.wait_converged(DEADLINE_S)
    assert "sandbox-violated" in lab.log("R")
    assert "killed by SIGSYS" in lab.log("R")
    assert not lab.file("/dev/shm/R/owned").exists()


DEFECT = """
async def attack(engine, send_raw):
    engine.no_such_thing
"""


def test_an_error_in_the_sandbox_leaves_its_traceback_in_the_log(start_attack: Any) -> None:
    lab = start_attack(DEFECT)
    wait_until(
        lambda: "has no attribute 'no_such_thing'" in lab.log("R"), DEADLINE_S, "the traceback"
    )
    assert "Traceback (most recent call last)" in lab.log("R")
    lab.wait_converged(DEADLINE_S)


HEIRLOOMS = """
async def attack(engine, send_raw):
    for journal in engine.components._journal_files:
        os.ftruncate(journal, 300 << 20)
    raise SystemExit(3)
"""


def test_files_and_locks_of_a_dead_attacker_do_not_affect_the_next_engine(
    start_attack: Any,
) -> None:
    lab = start_attack(HEIRLOOMS)
    wait_until(
        lambda: lab.log("R").count("journal-given-up") == 2, DEADLINE_S, "both files are given up"
    )
    lab.wait_converged(DEADLINE_S)
    assert counters(lab)["engine_restarts"] == 1
    inject = ("route", "add", "198.51.100.0/24", "type", "blackhole")
    done = lab.run("R", lab.routectl_command("R", *inject))
    assert done.returncode == 0, done.stderr
    lab.kill("R", "engine")
    wait_until(
        lambda: counters_or_nothing(lab).get("engine_restarts") == 2, DEADLINE_S, "the third engine"
    )
    wait_until(
        lambda: "injected-restored" in lab.log("R"), DEADLINE_S, "it has what the second left"
    )


NUMBERS = """
async def attack(engine, send_raw):
    key = [Prefix.parse("192.0.2.0/24").as_int]
    wanted = [
        (NextHop(None, 1 << 40, 1),),
        (NextHop(None, 1 << 31, 1),),
    ]
    for serial, hops in enumerate(wanted, 1_000_000):
        rows = internal.FibColumns(254, key_family, pack_keys(key_family, key), pack_indices([0]))
        value = internal.FibValue(RouteType.UNICAST, hops)
        await send_raw(frame(internal.FibUpdate(serial, (value,), (rows,), ())))
    while engine.components.reports.last_reload is None:
        await trio.sleep(0.02)
    action = internal.ReloadAction.RELOAD
    message = frame(internal.ReloadRequested(0, 1, action, 30.0), request_id=77)
    # The codec of an intact engine encodes no such number.
    not_a_number = message.replace(struct.pack(">d", 30.0), struct.pack(">d", float("nan")))
    await send_raw(not_a_number)

key_family = Prefix.parse("192.0.2.0/24").family
"""


def test_invalid_numbers_do_not_end_the_parent(start_attack: Any) -> None:
    """The numbers fit no field of a netlink message, or are a time to wait that is not a number."""
    lab = start_attack(NUMBERS)
    wait_until(lambda: counters(lab)["fib_refused"] == 2, DEADLINE_S, "both are refused")
    lab.sighup("R")  # the attacker waits for this file
    wait_until(
        lambda: counters_or_nothing(lab).get("engine_violations_channel") == 1,
        DEADLINE_S,
        "the next engine knows of it",
    )
    lab.wait_converged(DEADLINE_S)
    assert "not a number" in lab.log("R")
    assert "where=parent" not in lab.log("R")


DIES_ON_CONF_DONE = """
async def attack(engine, send_raw):
    follow = engine._handle_config

    def die(message, nursery):
        if isinstance(message, internal.ConfDone):
            os._exit(7)
        follow(message, nursery)

    engine._handle_config = die
"""


def black_holes(lab: Lab) -> set[str]:
    return {route.prefix for route in lab.kernel_routes("R") if route.prefix.startswith("10.9.")}


@pytest.mark.parametrize("confirm", [(), ("confirm", "1h")], ids=["at-once", "with-confirm"])
def test_a_configuration_that_kills_the_engine_never_comes_into_force(
    start_attack: Any, confirm: tuple[str, ...]
) -> None:
    """Otherwise the client would get a success, and the next engine would run the configuration
    that killed the first.
    """
    lab = start_attack(DIES_ON_CONF_DONE)
    lab.wait_converged(DEADLINE_S)
    old = lab.read_config("R")
    before = lab.kernel_routes("R", None)
    lab.write_config("R", old + "static: [{prefix: 10.9.1.0/24, type: blackhole}]\n")
    done = lab.run("R", ["routectl", "reload", *confirm])
    assert done.returncode != 0, done.stdout
    assert "has closed the connection" in done.stderr, done
    wait_until(
        lambda: counters_or_nothing(lab).get("engine_restarts") == 1, DEADLINE_S, "the next engine"
    )
    lab.wait_converged(DEADLINE_S)
    assert 'reload-failed problem="the engine did not accept the configuration"' in lab.log("R")
    (status,) = lab.routectl("R", "show", "status")
    assert (status["config_state"], status["confirm_token"]) == ("confirmed", None)
    assert lab.kernel_routes("R", None) == before
    assert not [row for row in lab.routectl("R", "show", "routes") if row["source"] == "static"]
    done = lab.run("R", ["routectl", "reload"])  # by an engine that works
    assert done.returncode == 0, done.stderr
    assert "static 10.9.1.0/24 added" in done.stdout, "the old one was what it is compared with"
    wait_until(lambda: black_holes(lab) == {"10.9.1.0/24"}, DEADLINE_S, "the new route is in")
    lab.write_config("R", old)
    assert lab.run("R", ["routectl", "reload"]).returncode == 0
    wait_until(lambda: lab.kernel_routes("R", None) == before, DEADLINE_S, "and goes again")
