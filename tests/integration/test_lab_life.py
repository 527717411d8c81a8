"""The beginning and the end of a lab: whichever process dies, nothing of the lab stays."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import protocol
from client import HolderClient
from testbed import Lab, LabError, attach
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

_DEADLINE_S = 60.0
_LAB_DIRECTORY = Path(protocol.__file__).parent
_LAB_PROGRAM = str(_LAB_DIRECTORY / "lab.py")

_DAEMON_OF_ITS_OWN = """
import os, sys, threading
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.closerange(0, 3)
    threading.Event().wait()
"""
"""A program that ends at once and leaves a process that waits for ever, as a daemon does."""

_BUILD_AND_WAIT = """
import sys
from testbed import Lab
lab = Lab("line3", name=sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def _start_daemon(lab: Lab, router: str) -> int:
    """Leave a daemon in a router. Returns its PID in the lab."""
    done = lab.run(router, [sys.executable, "-S", "-c", _DAEMON_OF_ITS_OWN])
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def _namespaces_of(client: HolderClient, routers: list[str]) -> set[str]:
    """All namespaces of a lab, by their names in /proc: net:[4026531840]."""
    found = set()
    for router in routers:
        for kind, descriptor in client.namespaces(router).items():
            if kind != "user":  # only the launcher entered it, and its name is no more than a label
                found.add(f"{kind}:[{os.fstat(descriptor).st_ino}]")
            os.close(descriptor)
    return found


def _namespaces_in_use() -> set[str]:
    """Every namespace that a process of this machine is in, or has a descriptor of."""
    return set(_links_of_processes("ns")) | set(_links_of_processes("fd"))


def _links_of_processes(directory: str) -> Iterator[str]:
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for entry in (process / directory).iterdir():
                yield str(entry.readlink())
        except OSError:  # it ended meanwhile, or belongs to another user
            continue


def _is_gone(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def _assert_nothing_is_left(namespaces: set[str], name: str) -> None:
    wait_until(
        lambda: not namespaces & _namespaces_in_use(),
        _DEADLINE_S,
        "no process is in the lab's namespaces",
        explain=lambda: str(namespaces & _namespaces_in_use()),
    )
    assert name not in protocol.names_of_labs()


def test_killing_the_holder_ends_daemons_namespaces_and_files() -> None:
    files_before = sorted(os.listdir(protocol.RUN_DIRECTORY))
    lab = Lab("line3")
    _start_daemon(lab, "A")
    _start_daemon(lab, "B")
    lab.file(f"{protocol.RUN_DIRECTORY}/A/routed.log").write_text("a line\n", encoding="ascii")
    client = HolderClient(lab.name)
    namespaces = _namespaces_of(client, list(lab.topology.nodes))
    assert namespaces <= _namespaces_in_use()

    os.kill(client.holder_pid, signal.SIGKILL)
    client.close()
    lab.stop()

    _assert_nothing_is_left(namespaces, lab.name)
    assert sorted(os.listdir(protocol.RUN_DIRECTORY)) == files_before


def test_leaving_the_block_ends_the_lab() -> None:
    with Lab("triangle") as lab:
        _start_daemon(lab, "A")
        client = HolderClient(lab.name)
        namespaces = _namespaces_of(client, list(lab.topology.nodes))
        client.close()
    _assert_nothing_is_left(namespaces, lab.name)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_lab_ends_with_the_process_that_built_it(number: signal.Signals) -> None:
    name = f"orphan-{os.getpid()}-{number.name}"
    with subprocess.Popen(
        [sys.executable, "-c", _BUILD_AND_WAIT, name],
        cwd=_LAB_DIRECTORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
        client = HolderClient(name)
        namespaces = _namespaces_of(client, ["A", "R", "B"])
        client.close()
        builder.send_signal(number)
    _assert_nothing_is_left(namespaces, name)


def test_killing_the_launcher_ends_the_lab(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    client = HolderClient(lab.name)
    holder = os.pidfd_open(client.holder_pid)
    status = Path(f"/proc/{client.holder_pid}/stat").read_text(encoding="ascii")
    os.kill(int(status.rpartition(")")[2].split()[1]), signal.SIGKILL)
    wait_until(lambda: _is_gone(holder), _DEADLINE_S, "the holder has ended")
    os.close(holder)
    client.close()


def test_orphans_are_reaped(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    pid = _start_daemon(lab, "A")
    client = HolderClient(lab.name)
    assert client.children(1) == [pid]
    assert client.signal(pid, signal.SIGKILL)
    wait_until(lambda: client.children(1) == [], _DEADLINE_S, "no child and no zombie of PID 1")
    assert not lab.is_running(pid)
    client.close()


def test_programs_run_inside_the_router_as_its_root(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    done = lab.run("R", ["sh", "-c", "hostname; id -u; ls /sys/class/net >/dev/null; exit 7"])
    assert done.returncode == 7
    assert done.stdout.split() == ["R", "0"]
    assert lab.run("R", ["sh", "-c", "kill -TERM $$"]).returncode == -signal.SIGTERM
    assert lab.run("R", ["no-such-program"]).returncode == 127


def test_a_program_that_takes_too_long_is_killed(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    waits_for_ever = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    with pytest.raises(LabError, match=r"did not end within 0\.1 s"):
        lab.run("R", waits_for_ever, timeout_s=0.1)


def test_configurations_are_written_and_read_back(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("A")
    generated = lab.read_config("A")
    assert "router_id: 10.255.0.1" in generated
    assert f"user: {'root' if lab.is_rootless else 'routed'}" in generated

    lab.write_config("A", "router_id: 10.255.0.99\n")
    lab.write_config_unless_there("A")
    assert lab.read_config("A") == "router_id: 10.255.0.99\n"


def test_operations_that_need_a_daemon_report_its_absence(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    with pytest.raises(LabError, match="R: no daemon is running"):
        lab.kill("R", "daemon")
    with pytest.raises(LabError, match="R: routectl --json show status ended with"):
        lab.routectl("R", "show", "status")
    assert "======== B" in lab.dump()


def test_a_name_can_be_used_only_once(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    with pytest.raises(LabError, match=f"a lab named '{lab.name}' is up already"):
        Lab("line3", name=lab.name)
    with pytest.raises(LabError, match="no router 'Z'"):
        lab.run("Z", ["true"])


def test_an_attached_lab_has_the_same_functions_and_stays(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    attached = attach(lab.name)
    attached.cut("R-B")
    attached.detach()
    assert lab.cut_ports() == {("R", "eth-B")}


def _lab_program(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, _LAB_PROGRAM, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_program_brings_a_lab_up_and_takes_it_down() -> None:
    name = f"program-{os.getpid()}"
    up = _lab_program("up", "triangle", "--no-daemons", "--name", name)
    assert up.returncode == 0, up.stderr
    try:
        assert f"{name}\tA B C\t" in _lab_program("list").stdout
        assert _lab_program("exec", "--name", name, "B", "hostname").stdout == "B\n"
        assert _lab_program("exec", "--name", name, "B", "sh", "-c", "exit 3").returncode == 3
        assert _lab_program("cut", "--name", name, "A-B").returncode == 0
        wrong = _lab_program("cut", "--name", name, "A-Z")
        assert wrong.returncode == 1
        assert wrong.stderr == "lab.py: there is no link A-Z; the links are A-B, B-C, C-A\n"
    finally:
        down = _lab_program("down", "--name", name)
    assert down.returncode == 0, down.stderr
    assert name not in protocol.names_of_labs()
    assert _lab_program("down", "--name", name).returncode == 1


def test_a_list_whose_reader_has_gone_ends_quietly(build_lab: LabBuilder) -> None:
    """`lab.py list | head -1` is such a reader."""
    build_lab("line3")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as output:
        done = subprocess.run(
            [sys.executable, _LAB_PROGRAM, "list"],
            stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
