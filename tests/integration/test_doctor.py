"""`routectl doctor` in namespaces: it finds what a test breaks there, and what it shows repairs
it."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest

from testbed import Lab
from tests.integration.conftest import LabBuilder

pytestmark = pytest.mark.root

DEADLINE_S = 60.0

_SET = """
import sys
from pathlib import Path
for assignment in sys.argv[1:]:
    name, value = assignment.split("=")
    path = name if "/" in name else name.replace(".", "/")
    Path("/proc/sys", path).write_text(value)
"""
"""What `sysctl -w` does; a bare machine may not have it."""


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    return build_lab("line3")


def sysctl(lab: Lab, *assignments: str) -> None:
    done = lab.run("R", [sys.executable, "-c", _SET, *assignments])
    assert done.returncode == 0, done.stderr


def examine(lab: Lab) -> tuple[int, list[dict[str, Any]]]:
    done = lab.run("R", lab.routectl_command("R", "doctor", "all", "--json"))
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["data"]


def wrong(lab: Lab, check: str) -> dict[str, tuple[str, str]]:
    """State and command by object, of what a check found."""
    _, rows = examine(lab)
    return {
        row["object"]: (row["state"], row["command"])
        for row in rows
        if row["check"] == check and row["command"]
    }


BROKEN = [
    ("forwarding", "net.ipv4.ip_forward", "net.ipv4.ip_forward=0", "problem"),
    ("forwarding", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.forwarding=0", "problem"),
    ("forwarding", "eth-A", "net.ipv4.conf.eth-A.forwarding=0", "warning"),
    ("rp-filter", "eth-B", "net.ipv4.conf.eth-B.rp_filter=1", "warning"),
    (
        "multipath",
        "net.ipv4.fib_multipath_hash_policy",
        "net.ipv4.fib_multipath_hash_policy=0",
        "note",
    ),
]


def test_the_command_of_a_finding_repairs_it(lab: Lab) -> None:
    sysctl(lab, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for check, what, broken, state in BROKEN:
        sysctl(lab, broken)
        found = wrong(lab, check)
        assert found[what][0] == state, found
        assert examine(lab)[0] == 2 if state == "problem" else True
        program, option, *assignments = shlex.split(found[what][1])
        assert (program, option) == ("sysctl", "-w")
        sysctl(lab, *assignments)
        assert what not in wrong(lab, check), check


def test_a_router_is_examined_together_with_its_daemon(lab: Lab) -> None:
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    _, rows = examine(lab)
    states = {(row["check"], row["object"]): row["state"] for row in rows}
    assert states["daemon", "routed"] == "ok"
    assert states["mtu", "interfaces"] == "ok"
    assert states["nexthops", "net.ipv4.nexthop_compat_mode"] == "ok"  # the daemon has set it
    assert states["checksums", "eth-A"] in ("ok", "note")


def test_an_mtu_that_a_neighbor_does_not_have_is_found(lab: Lab) -> None:
    kernel_mtu = [sys.executable, "-c", _SET_MTU, "eth-R", "1400"]
    done = lab.run("A", kernel_mtu)
    assert done.returncode == 0, done.stderr
    lab.start_daemons(["A", "R"])
    lab.routectl("R", "wait", "neighbors", "1", "within", f"{DEADLINE_S:.0f}s")
    assert wrong(lab, "mtu")["eth-A"] == ("problem", "ip link set dev eth-A mtu 1400")


_SET_MTU = """
import fcntl, socket, struct, sys
request = struct.pack("16si12x", sys.argv[1].encode(), int(sys.argv[2]))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
    fcntl.ioctl(query, 0x8922, request)  # SIOCSIFMTU
"""


_TWICE = """
import os, sys
from routectl.cli import main
main(sys.argv[1:])  # as root; loads every module, which another user may not be allowed to read
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main(sys.argv[1:]))
"""


def test_nothing_is_changed_and_no_privilege_is_needed(lab: Lab) -> None:
    values = "import pathlib; print([pathlib.Path('/proc/sys/net/ipv4', name).read_text() "
    values += "for name in ('ip_forward', 'conf/all/rp_filter', 'fib_multipath_hash_policy')])"
    before = lab.run("R", [sys.executable, "-c", values]).stdout
    command = lab.routectl_command("R", "doctor", "all", "--json")
    done = lab.run("R", [sys.executable, "-c", _TWICE, *command[command.index("-s") :]])
    assert (done.returncode in (0, 1, 2), done.stderr) == (True, "")
    as_root, without = done.stdout.split('{"version"')[1:]
    rows = [json.loads('{"version"' + text)["data"] for text in (as_root, without)]
    examined = [[(row["check"], row["object"]) for row in each] for each in rows]
    assert examined[0] == examined[1]
    assert len(examined[0]) > 15
    assert lab.run("R", [sys.executable, "-c", values]).stdout == before
