"""Dropping privileges, in another process: what remains, and that nothing can be regained."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from routed.parent.engine_process import spawn as privsep
from routed.parent.engine_process.spawn import is_uid_mapped
from routed.sandbox import capabilities
from routed.sandbox.capabilities import Capability

pytestmark = pytest.mark.root

SCRIPT = """
import json, os, resource, socket, sys
from routed.sandbox.confine import confine_engine
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
confine_engine(int(sys.argv[1]), int(sys.argv[2]), has_sandbox=False)
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
def refused(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return ""
def raw_socket():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()
def netlink_write():
    import struct
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        payload = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 205, 0, 6, 0)
        s.send(struct.pack("=IHHII", 28, 24, 0x605, 1, 0) + payload)
        answer = s.recv(4096)
        number = -struct.unpack_from("=i", answer, 16)[0]
        if number:
            raise OSError(number, "")
print(json.dumps({
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
    "caps": {k: status[k].strip() for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "no_new_privs": status["NoNewPrivs"].strip(),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "setuid": refused(lambda: os.setuid(0)), "raw": refused(raw_socket),
    "route": refused(netlink_write),
}))
"""


def drop(uid: int, gid: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(uid), str(gid)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_no_privilege_remains_and_none_can_be_regained() -> None:
    found = drop(65534, 65534)
    assert found["uid"] == [65534] * 3
    assert found["gid"] == [65534] * 3
    assert found["groups"] == []
    assert {name: int(value, 16) for name, value in found["caps"].items()} == {
        "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0,
    }  # fmt: skip
    assert found["no_new_privs"] == "1"
    assert found["files"] == [512, 512]
    assert found["core"] == [0, 0]
    assert (found["setuid"], found["raw"], found["route"]) == ("PermissionError",) * 3


def test_a_root_that_stays_root_loses_its_capabilities_nevertheless() -> None:
    found = drop(os.getuid(), os.getgid())
    assert int(found["caps"]["CapEff"], 16) == 0
    assert (found["raw"], found["route"]) == ("PermissionError",) * 2


def test_the_available_capabilities_are_read_from_the_kernel() -> None:
    assert capabilities.has(Capability.NET_ADMIN)
    assert is_uid_mapped(0)
    assert not is_uid_mapped(2**32 - 1)


def test_an_engine_that_cannot_be_supervised_is_ended_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last descriptor may be missing when the process exists already."""
    started: list[int] = []

    def none_left(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Too many open files"):
        privsep.start_engine(os.getuid(), os.getgid(), "auto", 1 << 16)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)


STARTER = """
import os, socket
from routed.parent.engine_process import spawn as privsep
engine = privsep.start_engine(os.getuid(), os.getgid(), "off", 1 << 16)
engine.channel.close()
os.waitpid(engine.pid, 0)
while said := os.read(engine.output_fd, 4096):
    print(said.decode(), end="")
"""
INTRUDER = "open({path!r}, 'w').write('imported by uid %d' % __import__('os').getuid())\n"


def test_an_engine_imports_nothing_from_the_directory_that_it_is_started_in(
    tmp_path: Path,
) -> None:
    """Otherwise `routed -f` in another user's directory would run its ./routed/__main__.py
    as root.
    """
    place, starter = tmp_path / "place", tmp_path / "starter" / "start.py"
    starter.parent.mkdir()
    starter.write_text(STARTER)
    trace = tmp_path / "trace"
    for package in ("routed", "ipc", "trio", "encodings"):
        (place / package).mkdir(parents=True)
        for module in ("__init__.py", "__main__.py"):
            (place / package / module).write_text(INTRUDER.format(path=str(trace)))
    done = subprocess.run(
        [sys.executable, str(starter)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert not trace.exists()


def test_module_paths_are_absolute_and_the_working_directory_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = str(Path(privsep.__file__).parents[3])
    assert privsep.module_path("", "/usr/bin", False) == ""
    assert privsep.module_path(":a:/b::a", "/usr/bin", False) == f"{tmp_path}/a:/b"
    assert privsep.module_path("/b", package, False) == f"/b:{package}"
    assert privsep.module_path("/b", package, True) == "/b"
