"""The management socket and hostile clients: each a real process with its own uid.

The kernel's credentials distinguish them, so nothing here can be simulated inside one process. The
programs write raw bytes, give up root by themselves (the interpreter may lie where other users
cannot read), and print what they received.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgpack
import pytest

from ipc.blocking import ControlClient
from ipc.codec import encode
from ipc.control import (
    PROTOCOL_VERSION,
    ClientHello,
    ControlType,
    Lease,
    Reload,
    RouteAttributes,
    RouteOperation,
    ShowRoutes,
    ShowStatus,
)
from ipc.framing import CONTROL_FRAME_MAX_BYTES, Frame, pack_frame
from ipc.routes import one_route
from routed.control.policy import AccessList
from routed.control.server import EVENT_REFUSED, MAX_SESSIONS, RESERVED_FOR_ADMIN
from tests.fakes.fake_daemon import FakeDaemon, ServerThread, serving
from tests.fakes.fake_views import many_routes

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: programs become other users"),
]

READER, OTHER_READER, STRANGER = 1001, 1002, 65534
ACCESS = AccessList(read_uids=frozenset({READER, OTHER_READER}), admin_uids=frozenset({0}))
TIMEOUT_S = 60.0


def frame(frame_type: ControlType, message: object, request_id: int = 2) -> str:
    return pack_frame(Frame(frame_type, request_id, encode(message)), 1 << 16).hex()


HELLO = frame(ControlType.HELLO, ClientHello(PROTOCOL_VERSION), 1)
RELOAD = frame(ControlType.RELOAD, Reload())
STATUS = frame(ControlType.SHOW_STATUS, ShowStatus())

PRELUDE = """
import array, json, os, signal, socket, struct, sys, time
path, words = sys.argv[1], [bytes.fromhex(word) for word in sys.argv[2:]]
def become(uid):
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
signal.alarm(50)  # nothing here takes that long
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(path)
    return s
def read_all(s):
    seen = []
    try:
        while True:
            message = s.recv(1 << 17)
            if not message: break
            seen.append(struct.unpack_from("!H", message)[0])
    except OSError as error:
        seen.append(type(error).__name__)
    return seen
def tell(value): print(json.dumps(value), flush=True)
"""


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with closing(FakeDaemon()) as fake:
        yield fake


@pytest.fixture
def path() -> Iterator[Path]:
    """A path in a directory that every user can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name) / "routed.sock"


@pytest.fixture
def server(path: Path, daemon: FakeDaemon) -> Iterator[ServerThread]:
    with serving(path, daemon, ACCESS) as server:
        yield server


def start(path: Path, program: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PRELUDE + program, str(path), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(path: Path, program: str, *words: str) -> object:
    """Run a program to its end. Returns its last line."""
    with start(path, program, *words) as process:
        out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def refusals(server: ServerThread) -> list[str]:
    return [fields["reason"] for event, fields in server.events if event == EVENT_REFUSED]


def is_serving(path: Path) -> bool:
    """Whether the daemon still answers root."""
    with ControlClient(str(path), timeout_s=TIMEOUT_S) as client:
        return bool(list(client.ask(ShowStatus()).rows()))


# --- the identity of clients

FORGE = """
become({uid})
s = connect(); s.send(words[0]); s.recv(1 << 16)
forged = struct.pack("iII", {pid}, {as_uid}, {as_uid})
try:
    s.sendmsg([words[1]], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, forged)])
except OSError as error:
    tell(type(error).__name__)
else:
    s.shutdown(socket.SHUT_WR); tell(read_all(s))
"""


def test_another_uid_cannot_be_claimed(path: Path, server: ServerThread) -> None:
    """The kernel accepts credentials only from processes that may have them (unix(7))."""
    program = FORGE.format(uid=READER, pid="os.getpid()", as_uid=0)
    assert run(path, program, HELLO, RELOAD) == "PermissionError"
    assert is_serving(path)


def test_another_pid_cannot_be_claimed(path: Path, server: ServerThread) -> None:
    program = FORGE.format(uid=READER, pid="os.getppid()", as_uid=READER)
    assert run(path, program, HELLO, STATUS) == "PermissionError"


def test_a_pid_that_root_forges_appears_in_no_log(
    path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    """Root may forge a pid: the log names the process that connected, not the one claimed."""
    program = "tell(os.getpid())\n" + FORGE.format(uid=0, pid="os.getppid()", as_uid=0)
    with start(path, program, HELLO, RELOAD) as process:
        out, _ = process.communicate(timeout=TIMEOUT_S)
    pid, answer = map(json.loads, out.splitlines())
    assert answer == [ControlType.RESULT]
    assert daemon.reloads == [(0, pid)]
    assert [fields["pid"] for _, fields in server.events] == [str(pid)]


def test_privileges_that_were_dropped_after_connecting_do_not_return(
    path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    program = f"""
s = connect(); s.send(words[0]); s.recv(1 << 16)
become({READER}); s.send(words[1]); tell(read_all(s))
"""
    assert run(path, program, HELLO, RELOAD) == []
    assert refusals(server) == [f"uid {READER} wrote on a connection of uid 0"]
    assert daemon.reloads == []


def test_an_inherited_connection_gives_no_privilege(
    path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    program = f"""
s = connect(); s.send(words[0]); s.recv(1 << 16)
child = os.fork()
if not child:
    become({STRANGER}); s.send(words[1]); os._exit(0)
os.waitpid(child, 0); tell(read_all(s))
"""
    assert run(path, program, HELLO, RELOAD) == []
    assert refusals(server) == [f"uid {STRANGER} wrote on a connection of uid 0"]
    assert daemon.reloads == []


def test_a_root_program_cannot_be_used_as_a_confused_deputy(
    path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    """A reader's connection is the standard output of a program of root, which copies its input, as
    a set-uid program may: root wrote the bytes, and the request is refused.
    """
    program = f"""
ours, theirs = socket.socketpair()
attacker = os.fork()
if not attacker:
    become({READER})
    s = connect(); s.send(words[0]); s.recv(1 << 16)
    theirs.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
    tell(read_all(s)); os._exit(0)
_, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
out = array.array("i", ancillary[0][2])[0]
deputy = os.fork()
if not deputy:
    os.dup2(out, 1); os.write(1, words[1]); os._exit(0)
os.close(out); os.waitpid(deputy, 0); os.waitpid(attacker, 0)
"""
    assert run(path, program, HELLO, RELOAD) == []
    assert refusals(server) == [f"uid 0 wrote on a connection of uid {READER}"]
    assert daemon.reloads == []


def test_each_user_has_the_role_of_the_configuration(
    path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    program = """
become({uid}); s = connect()
for word in words: s.send(word)
s.shutdown(socket.SHUT_WR); tell(read_all(s))
"""
    answers = [ControlType.HELLO, ControlType.LAST_ROWS, ControlType.RESULT]
    assert run(path, program.format(uid=READER), HELLO, STATUS, RELOAD) == answers
    assert daemon.reloads == []
    assert run(path, program.format(uid=0), HELLO, STATUS, RELOAD) == answers
    assert len(daemon.reloads) == 1


# --- the content of messages

PAIRS = msgpack.packb("a") + msgpack.packb(1)

NONSENSE = {
    "garbage": b"\xff" * 64,
    "nothing much": b"x",
    "oversize": bytes(CONTROL_FRAME_MAX_BYTES + 1),
    "a key given twice": bytes.fromhex(STATUS)[:8] + b"\x91\x82" + PAIRS + PAIRS,
    "deep nesting": bytes.fromhex(STATUS)[:8] + b"\x91" * 60_000 + b"\xc0",
    "an extension": bytes.fromhex(STATUS)[:8] + b"\x91\xd4\x01\x00",
    "more fields than there are": bytes.fromhex(STATUS)[:8] + msgpack.packb([1, 2, 3]),
    "bytes behind the message": bytes.fromhex(STATUS) + b"\xc0",
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_ends_its_own_session_and_no_other(
    path: Path, server: ServerThread, what: str
) -> None:
    program = f"""
become({READER}); s = connect(); s.send(words[0]); s.recv(1 << 16)
s.send(bytes.fromhex(sys.stdin.read()))
tell(read_all(s))
"""
    with ControlClient(str(path)) as bystander:
        bystander.connect()
        with start(path, program, HELLO) as process:
            out, _ = process.communicate(NONSENSE[what].hex(), timeout=TIMEOUT_S)
        is_request = NONSENSE[what].startswith(bytes.fromhex(STATUS)[:8])
        assert json.loads(out) == ([ControlType.RESULT] if is_request else []), "told why"
        assert list(bystander.ask(ShowStatus()).rows())
    assert len(refusals(server)) == 1


# --- the behaviour of clients


def test_a_thousand_idle_clients_keep_no_other_client_out(path: Path, server: ServerThread) -> None:
    """A user that has all sessions loses one for each other user that connects."""
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
become({READER}); held = []
for _ in range(1000):
    s = connect(); held.append(s)
    try: s.send(words[0])
    except OSError: pass
tell(len(held)); sys.stdin.read()
"""
    with start(path, program, HELLO) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == 1000
        assert is_serving(path)
        other = f"""
become({OTHER_READER}); answers, held = [], []
for _ in range(20):
    s = connect(); s.send(words[0]); s.send(words[1]); answers.append(s.recv(1 << 16)[1])
    held.append(s)
tell(answers)
"""
        assert run(path, other, HELLO, STATUS) == [ControlType.HELLO] * 20
        process.communicate(timeout=TIMEOUT_S)
    told = set(refusals(server))
    room = MAX_SESSIONS - RESERVED_FOR_ADMIN
    assert f"routed has {room} sessions open, which is all there may be" in told
    assert "it was idle, and another client needs it" in told


def test_a_session_that_holds_a_lease_is_not_idle(path: Path, server: ServerThread) -> None:
    leased = one_route(
        RouteOperation.ADD, bytes([10, 0, 0, 0]), 8, RouteAttributes("blackhole"),
        lease=Lease(is_session=True),
    )  # fmt: skip
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
s = connect()
for word in words: s.send(word)
held = [s]
for _ in range(400):
    held.append(connect())
s.setblocking(False)
kinds = [s.recv(1 << 16)[1], s.recv(1 << 16)[1]]
try: s.recv(1)
except BlockingIOError: kinds.append("open")
tell(kinds)
"""
    words = (HELLO, frame(ControlType.ROUTE_CHANGE, leased))
    assert run(path, program, *words) == [ControlType.HELLO, ControlType.RESULT, "open"]


def test_a_client_that_neither_reads_nor_sends_delays_no_other(
    path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    """One is a slow reader of a large table, the other connects and sends nothing."""
    daemon.route_views = many_routes(50_000)
    program = f"""
become({READER}); silent = connect(); s = connect()
for word in words: s.send(word)
tell("asked"); sys.stdin.read()
"""
    with start(path, program, HELLO, frame(ControlType.SHOW_ROUTES, ShowRoutes())) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == "asked"
        for _ in range(20):
            assert is_serving(path)
        assert daemon.chunks_given < 500, "what is not read is not made"
        process.communicate(timeout=TIMEOUT_S)


def test_a_client_that_is_killed_in_a_dump_leaves_nothing(
    path: Path, server: ServerThread, daemon: FakeDaemon
) -> None:
    daemon.route_views = many_routes(50_000)
    program = f"""
become({READER}); s = connect()
for word in words: s.send(word)
s.recv(1 << 16); s.recv(1 << 16); os.kill(os.getpid(), signal.SIGKILL)
"""
    with start(path, program, HELLO, frame(ControlType.SHOW_ROUTES, ShowRoutes())) as process:
        process.communicate(timeout=TIMEOUT_S)
    server.wait_until(lambda: not server.sessions)
    assert daemon.chunks_given < 500
    assert is_serving(path)
    assert refusals(server) == []


def test_the_denial_names_the_users_that_have_the_role(path: Path, server: ServerThread) -> None:
    """`routectl` prints it to an unprivileged client, from the text of the daemon."""
    program = f"become({STRANGER}); s = connect(); tell(s.recv(1 << 16).hex())"
    told = run(path, program)
    assert isinstance(told, str)
    assert b"needs the role read, which root, uid 1001, uid 1002 has" in bytes.fromhex(told)
