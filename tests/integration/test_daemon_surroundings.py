"""What else is on the machine: another daemon, and a directory that is somebody else's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import router_config
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
KEYS = """
keys:
  core: [{id: 1, algorithm: hmac-sha256, secret_file: core.key}]
"""
INTRUDER = "open({path!r}, 'w').write('imported')\n"


def config_of(lab: Lab) -> str:
    lab.write_config_unless_there("R")
    return lab.read_config("R")


def test_a_second_daemon_for_the_same_routes_says_who_is_there(build_lab: LabBuilder) -> None:
    """S19: with files of their own both started, and removed each other's routes for ever."""
    lab = build_lab("line3")
    text = config_of(lab) + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    lab.write_config("R", text)
    first = router_config.config_path("R")
    assert lab.run("R", ["routed", "-c", first]).returncode == 0
    other = f"{os.path.dirname(first)}/other.yaml"
    renamed = text.replace("routed.pid", "other.pid").replace("routed.sock", "other.sock")
    lab.file(other).write_text(renamed)
    second = lab.run("R", ["routed", "-c", other])
    assert second.returncode == 1
    assert second.stderr == (
        "routed: another routed has protocol 205 in this network namespace "
        f"(pid {lab.daemon_pid('R')}, configuration {first}): end it, or give one of them another "
        "fib.protocol\n"
    )
    assert not lab.file(f"{os.path.dirname(first)}/other.pid").exists()
    # A table of its own is not enough: policy rules and nexthop objects have none.
    lab.file(other).write_text(renamed + "fib: {table: 77}\n")
    assert "another routed has protocol 205" in lab.run("R", ["routed", "-c", other]).stderr
    assert [route.prefix for route in lab.kernel_routes("R", table=254)] == ["10.9.0.0/16"]


def test_daemons_with_protocols_of_their_own_leave_each_other_alone(build_lab: LabBuilder) -> None:
    """With one protocol and two tables they removed each other's rules hundreds of times a
    second, and each other's nexthop objects, with which the routes went."""
    lab = build_lab("line3")
    base = yaml.safe_load(config_of(lab)) | {"interfaces": {}, "redistribute": []}
    directory = os.path.dirname(router_config.config_path("R"))
    protocols = {205: "10.0.1.1", 206: "10.0.2.2"}
    for protocol, gateway in protocols.items():
        own = {
            "pid_file": f"{directory}/{protocol}.pid",
            "log": {"file": f"{directory}/{protocol}.log"},
            "management": {"socket": f"{directory}/{protocol}.sock"},
            "fib": {"protocol": protocol},
            "static": [{"prefix": f"10.{protocol}.0.0/16", "via": gateway}],
            "rules": [{"priority": protocol, "from": f"10.{protocol}.0.0/16", "table": "main"}],
        }
        lab.file(f"{directory}/{protocol}.yaml").write_text(yaml.safe_dump(base | own))
        started = lab.run("R", ["routed", "-c", f"{directory}/{protocol}.yaml"])
        assert (started.returncode, started.stderr) == (0, "")

    def log_of(protocol: int) -> str:
        return lab.file(f"{directory}/{protocol}.log").read_text()

    wait_until(
        lambda: all("fib-in-sync" in log_of(protocol) for protocol in protocols),
        DEADLINE_S,
        "both are in sync",
    )
    for protocol in (*protocols, *protocols):
        socket_path = f"{directory}/{protocol}.sock"
        assert lab.run("R", ["routectl", "-s", socket_path, "fib", "resync"]).returncode == 0
    for protocol in protocols:
        assert prefixes(lab, 254, protocol) == {f"10.{protocol}.0.0/16"}
        assert "drift" not in log_of(protocol)
        assert "rule-removed" not in log_of(protocol)


def test_a_second_daemon_names_the_first_one_by_the_pid_that_it_has_here(
    build_lab: LabBuilder,
) -> None:
    """A13: the first one's own word was "pid 1", and the message "end it"."""
    lab = build_lab("line3")
    text = config_of(lab) + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    lab.write_config("R", text)
    path = router_config.config_path("R")
    other = f"{os.path.dirname(path)}/other.yaml"
    lab.file(other).write_text(text.replace("routed.pid", "b.pid").replace("routed.sock", "b.sock"))
    apart = ["unshare", "-p", "-f", "--mount-proc", sys.executable, "-m", "routed", "-f", "-c"]
    first = lab.popen("R", [*apart, path])
    inside = 0
    try:
        wait_until(lambda: bool(lab.kernel_routes("R")), DEADLINE_S, "it is there")
        assert lab.file(f"{os.path.dirname(path)}/routed.pid").read_text() == "1\n"
        inside, here = first_of_namespace(first.pid)
        same, elsewhere = (lab.run("R", ["routed", "-c", file]).stderr for file in (path, other))
        assert f"already running as pid {here} " in same
        assert f"(pid {here}, configuration {path}): end it" in elsewhere
        hidden = lab.run("R", [*apart, other]).stderr
        assert f"(a process that is not visible here, configuration {path})" in hidden
    finally:
        if inside:
            os.kill(inside, signal.SIGTERM)
            first.wait(DEADLINE_S)
        first.kill()
        first.wait()


def first_of_namespace(ancestor: int) -> tuple[int, int]:
    """The descendant of a process that is pid 1 in a PID namespace of its own: its pid in this
    one, and in the lab's, which surrounds that."""
    pid = ancestor
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        (numbers,) = re.findall(r"(?m)^NSpid:(.*)$", status)
        *outside, own = map(int, numbers.split())
        if outside and own == 1:
            return pid, outside[-1]
        (pid,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


BARE = {
    "no /proc": "mount -t tmpfs none /proc",
    "no users": "mount -t tmpfs none /etc",
    # The lab's files stay where they are.
    "no devices": "mount -t tmpfs none /mnt && mkdir /mnt/shm && mount --bind /dev/shm /mnt/shm"
    " && mount --rbind /mnt /dev && ! test -e /dev/null",
}
"""What makes it so, in a mount namespace of its own."""


@pytest.mark.parametrize("mounts", BARE.values(), ids=BARE)
def test_a_daemon_starts_where_the_system_has_little(build_lab: LabBuilder, mounts: str) -> None:
    """A10, A11, A12: a traceback, or in the background not a word."""
    lab = build_lab("line3")
    text = config_of(lab) + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    if "/etc" in mounts:
        text = re.sub(r"(?m)^user: .*$", "user: 64123", text)
        text = re.sub(r"(?m)^management: .*$", "", text)
    lab.write_config("R", text)
    path = router_config.config_path("R")
    start = f"{mounts} && exec {sys.executable} -m routed -c {path} <&- >&- 2>{path}.said"
    done = lab.run("R", ["unshare", "-m", "sh", "-c", start])
    assert (done.returncode, lab.file(f"{path}.said").read_text()) == (0, "")
    assert [route.prefix for route in lab.kernel_routes("R", table=254)] == ["10.9.0.0/16"]


def prefixes(lab: Lab, table: int, protocol: int = 205) -> set[str]:
    return {route.prefix for route in lab.kernel_routes("R", protocol, table)}


def rules(lab: Lab, protocol: int) -> int:
    shown = lab.run("R", ["ip", "-4", "-N", "rule"]).stdout.splitlines()
    return sum(line.endswith(f"proto {protocol}") for line in shown)


def crash(lab: Lab) -> None:
    (pid,) = lab.kill("R", "daemon", signal.SIGKILL)
    wait_until(lambda: not lab.is_running(pid), DEADLINE_S, "the daemon has gone")


def test_what_an_earlier_life_left_in_another_table_or_protocol_is_removed(
    build_lab: LabBuilder,
) -> None:
    """A19: it stayed for ever, and a policy rule that looks there forwarded by it."""
    lab = build_lab("line3")
    text = config_of(lab) + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    text += "rules: [{priority: 7, from: 10.7.0.0/16, table: main}]\n"
    lab.write_config("R", text)
    lab.start_daemons(["R"])
    crash(lab)
    lab.write_config("R", text + "fib: {table: 100}\n")
    lab.start_daemons(["R"])
    assert prefixes(lab, 100) == {"10.9.0.0/16"}
    wait_until(lambda: not prefixes(lab, 254), DEADLINE_S, "the former table is left clean")
    # A configuration that was never confirmed leaves nothing, either.
    lab.write_config("R", text + "fib: {table: 101, protocol: 205}\n")
    done = lab.run("R", ["routectl", "reload", "--confirm", "1h"])
    assert done.returncode == 0, done.stdout
    wait_until(lambda: prefixes(lab, 101) == {"10.9.0.0/16"}, DEADLINE_S, "it is in force")
    crash(lab)
    lab.start_daemons(["R"])
    assert prefixes(lab, 100) == {"10.9.0.0/16"}
    wait_until(lambda: not prefixes(lab, 101), DEADLINE_S, "the unconfirmed table is left clean")
    crash(lab)
    lab.write_config("R", text + "fib: {table: 100, protocol: 206}\n")
    lab.start_daemons(["R"])
    wait_until(lambda: not prefixes(lab, 100), DEADLINE_S, "the former protocol is left clean")
    wait_until(lambda: prefixes(lab, 100, 206) == {"10.9.0.0/16"}, DEADLINE_S, "its place is taken")
    assert "former-table-swept" in lab.log("R")
    wait_until(lambda: not rules(lab, 205), DEADLINE_S, "and so are its rules")
    assert rules(lab, 206) == 1


def test_a_former_table_that_another_daemon_keeps_is_its_own(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    text = config_of(lab) + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
    lab.write_config("R", text)
    lab.start_daemons(["R"])
    crash(lab)
    other = f"{os.path.dirname(router_config.config_path('R'))}/other.yaml"
    lab.file(other).write_text(text.replace("routed.pid", "b.pid").replace("routed.sock", "b.sock"))
    assert lab.run("R", ["routed", "-c", other]).returncode == 0
    lab.write_config("R", text + "fib: {table: 100, protocol: 206}\n")
    lab.start_daemons(["R"])
    wait_until(lambda: "former-table-left" in lab.log("R"), DEADLINE_S, "it is said")
    assert "another routed has protocol 205" in lab.log("R")
    assert prefixes(lab, 254) == prefixes(lab, 100, 206) == {"10.9.0.0/16"}


def test_a_foreground_daemon_goes_by_its_relative_paths_and_imports_nothing_from_there(
    build_lab: LabBuilder,
) -> None:
    """S5: the engine imported ./routed/__main__.py before it gave up root."""
    lab = build_lab("line3")
    directory = os.path.dirname(router_config.config_path("R"))
    lab.write_config("R", config_of(lab) + KEYS)
    lab.file(f"{directory}/core.key").write_text("0123456789abcdef0123")
    lab.file(f"{directory}/core.key").chmod(0o600)
    for package in ("routed", "ipc", "trio"):
        lab.file(f"{directory}/{package}").mkdir()
        for module in ("__init__.py", "__main__.py"):
            path = lab.file(f"{directory}/{package}/{module}")
            path.write_text(INTRUDER.format(path=f"{directory}/trace"))
    there = f'cd {directory} && exec "$0" -P -m routed -f -c routes.yaml'
    daemon = lab.popen(
        "R", ["sh", "-c", there, lab.routectl_command("R")[0]], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: "ready" in lab.log("R"), DEADLINE_S, "a ready daemon")
        assert not lab.file(f"{directory}/trace").exists()
        lab.write_config(
            "R", lab.read_config("R") + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n"
        )
        lab.sighup("R")
        wait_until(lambda: len(lab.kernel_routes("R")) == 1, DEADLINE_S, "the route")
        for pid in (lab.daemon_pid("R"), lab.engine_pid("R")):
            looked = lab.run("R", ["readlink", f"/proc/{pid}/cwd"])
            assert looked.stdout in ("/\n", ""), "the engine's cannot be looked at"
    finally:
        lab.kill("R", "daemon", signal.SIGTERM)
        assert daemon.wait(DEADLINE_S) == 0
