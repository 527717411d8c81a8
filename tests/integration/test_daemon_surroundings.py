"""The daemon beside other things on the machine: another daemon, and directories of other users."""

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


def test_a_second_daemon_for_the_same_routes_names_the_first(build_lab: LabBuilder) -> None:
    """Otherwise both would start with their own files, and remove each other's routes for ever."""
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
    # Another table is not enough: policy rules and nexthop objects have none.
    lab.file(other).write_text(renamed + "fib: {table: 77}\n")
    assert "another routed has protocol 205" in lab.run("R", ["routed", "-c", other]).stderr
    assert [route.prefix for route in lab.kernel_routes("R", table=254)] == ["10.9.0.0/16"]


def test_daemons_with_different_protocols_do_not_affect_each_other(build_lab: LabBuilder) -> None:
    """With one protocol and two tables they would remove each other's rules hundreds of times a
    second, and each other's nexthop objects with the routes of these.
    """
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


def test_a_second_daemon_names_the_first_one_by_its_pid_in_this_namespace(
    build_lab: LabBuilder,
) -> None:
    """The pid file of the first one has "1", and ending pid 1 would be wrong advice."""
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
    """Find the descendant of a process that is pid 1 in its own PID namespace. Returns its pid in
    this namespace and in the lab's, which is between the two.
    """
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
"""The commands that prepare the case, in a mount namespace of its own."""


@pytest.mark.parametrize("mounts", BARE.values(), ids=BARE)
def test_a_daemon_starts_where_the_system_lacks_files(build_lab: LabBuilder, mounts: str) -> None:
    """Otherwise it would print a traceback, or nothing at all in the background."""
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


def test_routes_of_an_earlier_daemon_in_another_table_or_protocol_are_removed(
    build_lab: LabBuilder,
) -> None:
    """Otherwise they would stay for ever, and a policy rule for that table would use them."""
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


def test_a_former_table_that_another_daemon_manages_is_left_alone(build_lab: LabBuilder) -> None:
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


def test_a_foreground_daemon_resolves_relative_paths_and_imports_nothing_from_there(
    build_lab: LabBuilder,
) -> None:
    """Otherwise the engine would import ./routed/__main__.py before it gives up root."""
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
