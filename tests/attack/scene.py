"""A small network under attack: A - R - B, and the checks after each attack on R.

The attacked daemon serves metrics on a Unix socket and a port, and its configuration gives access
to a reader (uid READER) and to root. Programs of local users run in R's namespaces as another uid,
with nothing but the standard library; their messages are encoded here.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import router_config
import topology
from inside import Inside
from pinger import PingStream
from testbed import Lab
from topology import Topology
from waiting import wait_until

__all__ = ["DEADLINE_S", "READER", "STRANGER", "Scene", "attacked_network"]

DEADLINE_S = 60.0
STRANGER, READER = 64_001, 64_002
"""Uids without an entry in any file or configuration, except that the second is a reader."""
METRICS_PORT = 9705
RESIDENT_MAX_BYTES = 160 << 20
"""The limit for each process of the daemon after any attack: three times its size at rest."""
DESCRIPTORS_MAX = 64

_AS_USER = """
import os, random, select, socket, struct, sys, encodings.idna, encodings.ascii
# All that programs import: another user may not be able to read this interpreter's library.
uid = int(sys.argv[1])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
exec(compile(bytes.fromhex(sys.stdin.readline()).decode(), "attack", "exec"))
"""


def attacked_network() -> Topology:
    """Three routers in a line; a daemon has nine seconds to return."""
    patience = {"eth*": {"hello": "300ms", "multiplier": 30}}
    return topology.load("line3").with_config(
        {
            "interfaces": patience,
            "fib": {"on_exit": "keep"},
            "metrics": {"listen": f"127.0.0.1:{METRICS_PORT}"},
            "learn": [{"protocol": "static"}],
            "dataplane": {"interfaces": ["eth-*", "hostile*"], "routes": 1024},
        }
    )


_BFD = """
keys: {bfd: [{id: 3, algorithm: meticulous-keyed-sha1, secret_file: bfd.key}]}
bfd:
  relearn: 60s
  sessions:
"""
_BFD_SESSION = "    {}: {{peer: {}, transmit: 300ms, receive: 300ms, multiplier: 29{}}}\n"
"""As patient as the neighbors of R are: nine seconds."""
_BFD_ROUTES = """
static:
  - {{prefix: 198.51.100.0/25, via: {0}, bfd: to-a}}
  - {{prefix: 198.51.100.128/25, via: {1}, bfd: to-b}}
"""
_KEYED = ", key: bfd"


class Scene:
    """The lab, the attacked router R, and the seed of all inputs."""

    def __init__(self, lab: Lab, seed: int) -> None:
        """Args:
        lab: of `attacked_network`; its daemons are not started yet.
        seed: of every input.
        """
        self.lab = lab
        self.rng = random.Random(seed)
        self._log_read = 0

    def start(self, daemon: Sequence[str] = ()) -> None:
        """Start the daemons, with a reader among R's clients.

        Args:
            daemon: the program of R, in the place of routed.
        """
        self._add_bfd()
        text = self.lab.read_config("R")
        assert "management:" in text
        self.config = text.replace("management:", f"management:\n  read: [{READER}]", 1)
        self.lab.write_config("R", self.config)
        if daemon:
            command = [*daemon, "-c", router_config.config_path("R")]
            done = self.lab.run("R", command)
            assert done.returncode == 0, done.stderr
        self.lab.start_daemons("AB" if daemon else "ARB")
        self.lab.wait_converged(DEADLINE_S)
        self.wait_sessions_up()

    def _add_bfd(self) -> None:
        """Configure two sessions of R, one with a key, each followed by a route."""
        via_a, via_b = self.address("A-R"), self.address("B-R")
        to_a, to_b = (
            _BFD_SESSION.format("to-a", via_a, ""),
            _BFD_SESSION.format("to-b", via_b, _KEYED),
        )
        texts = {
            "R": to_a + to_b + _BFD_ROUTES.format(via_a, via_b),
            "A": _BFD_SESSION.format("to-r", self.address("R-A"), ""),
            "B": _BFD_SESSION.format("to-r", self.address("R-B"), _KEYED),
        }
        for router, text in texts.items():
            self.lab.write_config_unless_there(router)
            self.lab.write_config(router, self.lab.read_config(router) + _BFD + text)
            secret = self.lab.file(router_config.config_path(router)).with_name("bfd.key")
            secret.write_bytes(b"twenty bytes, secret")
            secret.chmod(0o600)

    # the means of attacks

    def address(self, port: str) -> IPv4Address:
        """Return the IPv4 address of a port, such as `A-R`: that of A towards R."""
        interfaces = self.lab.topology.port_between(port).addresses
        return next(each.ip for each in interfaces if isinstance(each, IPv4Interface))

    @contextlib.contextmanager
    def user(
        self, uid: int, program: str, *arguments: str, router: str = "R"
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a program of a local user. It has printed a line, and ends with the block.

        Args:
            uid: the user's.
            program: Python; it prints a line when it is ready for the attack, and then waits
                for the end of its standard input.
            arguments: from `sys.argv[2]` on.
            router: where the user is.
        """
        command = [sys.executable, "-c", _AS_USER, str(uid), *arguments]
        pipe = subprocess.PIPE
        process = self.lab.popen(router, command, stdin=pipe, stdout=pipe, stderr=pipe)
        with process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(program.encode().hex() + "\n")
                process.stdin.flush()
                said = process.stdout.readline()
                if not said:
                    process.wait(DEADLINE_S)
                    assert process.stderr is not None
                    raise AssertionError(f"the attacker failed: {process.stderr.read()}")
                yield process
            finally:
                _end(process)

    def run_user(self, uid: int, program: str, *arguments: str, router: str = "R") -> str:
        """Run a program of a local user to its end. Returns its line."""
        with self.user(uid, program, *arguments, router=router) as process:
            said, problem = process.communicate("", timeout=DEADLINE_S)
            assert process.returncode == 0, problem
            return said

    def send_frames(self, uid: int, frames: Iterable[bytes]) -> None:
        """Send messages to R's management socket, each on a new connection or all on one."""
        lines = self.lab.file("/dev/shm/R/frames")
        lines.write_text("\n".join(frame.hex() for frame in frames), encoding="ascii")
        lines.chmod(0o644)
        self.run_user(uid, CLIENT, router_config.socket_path("R"), "/dev/shm/R/frames")

    def ask(self, *words: str) -> list[dict[str, Any]]:
        """Send a request of root to R's daemon."""
        return self.lab.routectl("R", *words)

    def counters(self) -> Mapping[str, int]:
        """R's counters."""
        return {row["name"]: row["value"] for row in self.ask("show", "counters")}

    def new_log(self) -> str:
        """Return the lines of R's log since the last call."""
        text = self.lab.log("R")
        new, self._log_read = text[self._log_read :], len(text)
        return new

    def wait_logged(self, pattern: str, what: str) -> None:
        """Wait until R has logged a text since the last call of `new_log`."""
        began = self._log_read
        wait_until(
            lambda: re.search(pattern, self.lab.log("R")[began:]) is not None, DEADLINE_S, what
        )

    def log_since_attack(self) -> str:
        """Return the lines of R's log since the last call of `new_log`."""
        return self.lab.log("R")[self._log_read :]

    def wait_sessions_up(self) -> None:
        """Wait until R's BFD sessions are up."""
        wait_until(
            lambda: (
                [row["session_state"] for row in self.ask("show", "bfd", "sessions")] == ["up"] * 2
            ),
            DEADLINE_S, "the sessions of R are up",
        )  # fmt: skip

    # the checks

    @contextlib.contextmanager
    def under_attack(
        self, *, ends_engine: bool = False, ends_liveness: bool = False
    ) -> Iterator[PingStream]:
        """Attack within the block. Afterwards the state must be as before, and no packet is lost.

        Args:
            ends_engine: whether the attack ends an engine itself.
            ends_liveness: whether it ends a liveness process, or all sessions by a configuration.
        """
        self.new_log()
        liveness = self.lab.liveness_pid("R")
        parent, engine = self.lab.daemon_pid("R"), self.lab.engine_pid("R")
        adjacencies = [self.lab.log(router).count("adjacency-down") for router in "AB"]
        routes = self.lab.kernel_routes("R")
        with self.lab.ping_stream("A", "B") as stream:
            yield stream
            self.ask("show", "status")
            self.lab.wait_converged(DEADLINE_S)
            self.wait_sessions_up()
        assert stream.sent
        assert stream.lost == 0, f"{stream.lost} of {stream.sent} packets were lost"
        assert self.lab.daemon_pid("R") == parent, "the daemon is another one"
        if not ends_engine:
            assert self.lab.engine_pid("R") == engine, "the engine was replaced"
            after = [self.lab.log(router).count("adjacency-down") for router in "AB"]
            assert after == adjacencies, "a neighbor lost its adjacency"
        assert ends_liveness or self.lab.liveness_pid("R") == liveness, (
            "the liveness process was replaced"
        )
        assert self.lab.kernel_routes("R") == routes
        log = self.new_log()
        for word in ("internal-error", "Traceback"):
            assert word not in log, log[-4000:]
        self._check_size(parent)

    def _check_size(self, parent: int) -> None:
        children = (self.lab.engine_pid("R"), self.lab.liveness_pid("R"))
        pids = [parent, *filter(None, children)]
        done = self.lab.run("R", [sys.executable, "-c", _USAGE, *map(str, pids)])
        for descriptors, resident_bytes in json.loads(done.stdout):
            assert descriptors <= DESCRIPTORS_MAX
            assert resident_bytes <= RESIDENT_MAX_BYTES


def _end(process: subprocess.Popen[str]) -> None:
    """Close the program's standard input and wait for its end: it may hold what only it can
    release.
    """
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


_USAGE = """
import json, os, sys
def usage(pid):
    pages = int(open(f"/proc/{pid}/statm").read().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGESIZE")
print(json.dumps([usage(int(pid)) for pid in sys.argv[1:]]))
"""

CLIENT = """
import socket, sys
path, lines = sys.argv[2:]
connection = None
for line in open(lines):
    message = bytes.fromhex(line)
    for attempt in range(2):
        try:
            if connection is None:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                connection.connect(path)
                connection.settimeout(0.02)
            connection.send(message)
            for _ in range(50):
                if not connection.recv(1 << 18):
                    raise ConnectionError
            break
        except TimeoutError:
            break
        except OSError:
            if connection is not None:
                connection.close()
            connection = None
print("sent", flush=True)
"""


def unavailable_reason(lab: Inside) -> str:
    """Return the reason why local users cannot be simulated here; empty when they can."""
    return "there is one uid in a user namespace of one's own" if lab.is_rootless else ""
