"""Inside the engine's sandbox, in another process: attempts and their outcomes."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from routed.sandbox.kernel import here
from routed.sandbox.landlock import available_abi

pytestmark = pytest.mark.root

needs_table = pytest.mark.skipif(here() is None, reason="no system call table for this machine")

USER = 65534 - int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Each process of a test run has its own user, because RLIMIT_NPROC counts all threads of a user.
"""

CONFINE = f"""
USER = {USER}
"""
CONFINE += """
import array, ctypes, json, mmap, os, resource, select, signal, socket, sys, threading, traceback
import trio
from routed.sandbox.confine import confine_engine
from routed.sandbox.preload import load_what_tracebacks_need
listener = socket.create_server(("127.0.0.1", 0))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 0))
unix = socket.socketpair()
load_what_tracebacks_need()
confinement = confine_engine(USER, USER, has_sandbox=sys.argv[1] == "sandboxed")
libc = ctypes.CDLL(None, use_errno=True)
is_x86 = os.uname().machine == "x86_64"
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
"""

TRY = """
def attempt():
    {}
try:
    attempt()
    print("done")
except OSError as error:
    print(type(error).__name__)
"""


def inside(script: str, how: str = "sandboxed") -> subprocess.CompletedProcess[str]:
    return inside_of(CONFINE + script, how)


def inside_of(script: str, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def outcome(action: str, how: str = "sandboxed") -> str:
    done = inside(TRY.format(action), how)
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


REFUSED = {
    "open a file": "open('/etc/passwd').close()",
    "create a file": "os.open('/tmp/routed-attack', os.O_CREAT | os.O_WRONLY)",
    "list a directory": "os.listdir('/')",
    "stat a path": "os.stat('/etc/passwd')",
    "stat a path as if it were empty": (
        "call('syscall', 262 if is_x86 else 79, -100, b'/etc/passwd', bytes(256), 0x1000)"
    ),
    "a pair of another family": "socket.socketpair(socket.AF_INET6, socket.SOCK_STREAM)",
    "a pair that could send to paths": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "cork a socket that others use": "datagrams.setsockopt(socket.IPPROTO_UDP, 1, 1)",
    "unlink": "os.unlink('/tmp/nothing')",
    "open a TCP socket": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "open a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "open a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    "connect what is there": "datagrams.connect(('127.0.0.1', 9))",
    "rebind": "datagrams.bind(('127.0.0.1', 0))",
    "turn an option on": "datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)",
    "signal the parent": "os.kill(os.getppid(), 0)",
    "signal everybody": "os.kill(-1, signal.SIGTERM)",
    "look into the parent": "os.pidfd_open(os.getppid())",
    "executable memory": "mmap.mmap(-1, 4096, prot=7)",
    "become root": "os.setuid(0)",
    "set a limit": "call('setrlimit', 4, (ctypes.c_ulong * 2)(0, 0))",
    "change the host's name": "socket.sethostname('owned')",
    "dumpable again": "call('prctl', 4, 1, 0, 0, 0)",
    "end a listener that the next engine needs": "listener.shutdown(socket.SHUT_RDWR)",
    "end it for reading": "listener.shutdown(socket.SHUT_RD)",
    "own a descriptor's signals": "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
}

KILLED = {
    "exec": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork() or os._exit(0)",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "ptrace": "call('ptrace', 16, os.getppid(), None, None)",
    "read another's memory": "call('process_vm_readv', os.getppid(), None, 0, None, 0, 0)",
    "a user namespace": "call('unshare', 0x10000000)",
    "mount": "call('mount', b'none', b'/mnt', b'tmpfs', 0, None)",
    "a kernel module": "call('syscall', 175 if is_x86 else 105, None, 0, None)",
    "bpf": "call('syscall', 321 if is_x86 else 280, 0, None, 0)",
    "io_uring": "call('syscall', 425, 1, None)",
}

WORKS = {
    "say that it has said all": "unix[0].shutdown(socket.SHUT_WR)",
    "datagrams": "datagrams.sendto(b'x', datagrams.getsockname()); datagrams.recvfrom(9)",
    "a descriptor to somebody": (
        "socket.send_fds(unix[0], [b'x'], [0]); socket.recv_fds(unix[1], 9, 1)"
    ),
    "memory of its own": "mmap.mmap(-1, 8192)[0]",
    "a thread": "t = threading.Thread(target=int); t.start(); t.join()",
    "chance": "os.urandom(8)",
    "its own usage": "resource.getrusage(resource.RUSAGE_SELF)",
}


@needs_table
@pytest.mark.parametrize("what", REFUSED)
def test_calls_that_a_defect_may_make_are_refused_with_an_exception(what: str) -> None:
    assert outcome(REFUSED[what]) == "PermissionError"


@needs_table
@pytest.mark.parametrize("what", KILLED)
def test_calls_that_only_an_intruder_makes_end_the_process(what: str) -> None:
    assert outcome(KILLED[what]) == "SIGSYS"


@pytest.mark.parametrize("what", WORKS)
def test_calls_that_the_engine_needs_work(what: str) -> None:
    assert outcome(WORKS[what]) == "done"


@needs_table
def test_calls_are_refused_also_where_refusals_cannot_be_reported() -> None:
    """A container's own filter may have taken the only listener that there can be; so does one
    without a rule here, and an old kernel has no listeners.
    """
    taken = (
        "from routed.sandbox import seccomp\n"
        "from routed.sandbox.kernel import prctl\n"
        "prctl(38, 1)\n"
        "anything = [seccomp.Instruction(seccomp.RETURN, 0, 0, seccomp.ALLOW)]\n"
        "theirs = seccomp._load(seccomp.here(), anything, seccomp._FLAG_NEW_LISTENER)\n"
    )
    confine = "confinement = confine_engine(65534, 65534, reports_refusals=True)\n"
    before, _, after = CONFINE.partition("confinement =")
    script = before + taken + confine + after.partition("\n")[2] + TRY.format("open('/etc/passwd')")
    done = subprocess.run(
        [sys.executable, "-c", script + "print(confinement.has_seccomp, confinement.listener)"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["PermissionError", "True", "None"], "")


def inside_trio(body: str) -> subprocess.CompletedProcess[str]:
    """Enter the sandbox within an event loop, as the engine does."""
    before, confine, after = CONFINE.partition("confinement = ")
    line, _, rest = after.partition("\n")
    return inside_of(
        f"{before}async def main():\n    {confine}{line}\n{body}{rest}trio.run(main)\n", "sandboxed"
    )


def test_the_functions_of_trio_that_the_engine_uses_work() -> None:
    done = inside_trio("    await trio.sleep(0)\n    await trio.to_thread.run_sync(int)\n")
    assert (done.returncode, done.stderr) == (0, "")


@needs_table
def test_an_exception_still_has_a_traceback() -> None:
    done = inside_trio(
        "    async def task():\n        1 / 0\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(task)\n"
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "in task" in done.stderr
    assert "ExceptionGroup" in done.stderr


@needs_table
def test_a_late_import_raises_an_exception_with_a_reason() -> None:
    done = inside("import xml.dom.minidom\n")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr


def test_landlock_alone_forbids_files_signals_and_tcp() -> None:
    """These restrictions hold on a machine without our system call table, or if the filter has a
    hole.
    """
    abi = available_abi()
    if abi < 6:
        pytest.skip(f"this kernel lacks landlock abi 6 (it has {abi})")
    script = """
import routed.sandbox.landlock as landlock
from routed.sandbox.kernel import prctl
prctl(38, 1)
landlock.forbid_everything()
found = {}
for name, action in {
    "open": lambda: open("/etc/passwd").close(),
    "create": lambda: os.open("/tmp/routed-attack", os.O_CREAT | os.O_WRONLY),
    "list": lambda: os.listdir("/"),
    "tcp": lambda: socket.create_connection(listener.getsockname(), 1),
    "signal": lambda: os.kill(os.getppid(), 0),
}.items():
    try:
        action()
        found[name] = "done"
    except OSError as error:
        found[name] = type(error).__name__
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", CONFINE.partition("load_what_tracebacks_need()\nconf")[0] + script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout).values()) == {"PermissionError"}, done.stdout


def test_without_the_sandbox_the_same_attempts_succeed() -> None:
    """Otherwise the tests above would prove nothing."""
    assert outcome(REFUSED["open a file"], "free") == "done"
    assert outcome(REFUSED["open a TCP socket"], "free") == "done"
    assert outcome(KILLED["fork"], "free") == "done"


def test_memory_that_survives_the_engine_is_bounded() -> None:
    script = (
        "from routed.sandbox.confine import FILE_BYTES_MAX\n"
        "fd = os.memfd_create('x')\n"
        "os.ftruncate(fd, FILE_BYTES_MAX)\n"
        "found = []\n"
        "for attempt in (lambda: os.ftruncate(fd, FILE_BYTES_MAX + 1),\n"
        "                lambda: os.lseek(fd, 0, os.SEEK_END) and os.write(fd, b'x')):\n"
        "    try:\n        attempt()\n        found.append('done')\n"
        "    except OSError as error:\n        found.append(error.strerror)\n"
        "print(found)\n"
    )
    done = inside(script, "free")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "['File too large', 'File too large']"


def test_threads_are_bounded() -> None:
    script = (
        "from routed.sandbox.confine import THREADS_MAX\n"
        "stay = threading.Event()\n"
        "started = 0\n"
        "try:\n"
        "    for started in range(THREADS_MAX + 1):\n"
        "        threading.Thread(target=stay.wait, daemon=True).start()\n"
        "except RuntimeError as error:\n    print(error)\n"
    )
    assert inside(script).stdout.strip() == "can't start new thread"


def test_the_parent_keeps_exactly_the_capabilities_that_it_needs() -> None:
    found = _confined_parent(65534)
    kept = sum(1 << number for number in (5, 6, 7, 8, 12, 13))
    for_the_engine = sum(1 << number for number in (6, 7, 8))
    assert {name: int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {
        "CapPrm": kept, "CapEff": kept, "CapBnd": for_the_engine,
    }  # fmt: skip
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert found["NoNewPrivs"] == "1"


def test_a_parent_that_is_the_engines_user_keeps_the_two_of_the_network() -> None:
    found = _confined_parent(os.getuid())
    assert int(found["CapEff"], 16) == 1 << 12 | 1 << 13
    assert int(found["CapBnd"], 16) == 0


@functools.cache
def _confined_parent(engine_uid: int) -> dict[str, Any]:
    script = (
        "import json, sys\n"
        "status = open('/proc/self/status')\n"
        "from routed.sandbox.confine import confine_parent\n"
        "confine_parent(int(sys.argv[1]))\n"
        "print(json.dumps(dict(line.split(':\\t', 1) for line in status.read().splitlines())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(engine_uid)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: value.strip() for name, value in json.loads(done.stdout).items()}
