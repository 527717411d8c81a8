"""Secrets appear in no log, dump, view, metric, recording, environment or core."""

from __future__ import annotations

import base64
import signal
import sys
from typing import Any

import pytest
import yaml

import router_config
import topology
from protocol import ENGINE_UID
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
METRICS = "/dev/shm/R/metrics.sock"
FIRST, SECOND = "Kestrel-over-9-hills", "Quince!and#Medlar"


def forms(secret: str) -> list[bytes]:
    """The ways to write a secret: as it is, in hex, in base 64, and each of its halves."""
    raw = secret.encode()
    half = len(raw) // 2
    plain = [raw, raw[:half], raw[half:]]
    return [*plain, raw.hex().encode(), base64.b64encode(raw)]


def use_key(lab: Lab, router: str, secret: str) -> None:
    lab.write_config_unless_there(router)
    key_file = lab.file(router_config.config_path(router)).with_name("core.key")
    key_file.write_text(secret + "\n", encoding="ascii")
    key_file.chmod(0o600)
    config: dict[str, Any] = yaml.safe_load(lab.read_config(router))
    config["keys"] = {"core": [{"id": 1, "secret_file": "core.key"}]}
    config["interfaces"]["eth*"]["key"] = "core"
    config["log"] |= {"level": "debug", "format": "json"}
    if router == "R":
        config["metrics"] = {"listen": f"unix:{METRICS}"}
    lab.write_config(router, yaml.safe_dump(config))


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab(topology.load("line3"))
    for router in lab.topology.nodes:
        use_key(lab, router, FIRST)
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    return lab


VIEWS = (
    "status", "neighbors", "interfaces", "routes", "fib", "protocol", "rules", "config", "memory",
    "counters", "log",
)  # fmt: skip
SCRAPE = """
import socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.connect(sys.argv[1])
client.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: routed\\r\\n\\r\\n")
print(b"".join(iter(lambda: client.recv(65536), b"")).decode())
"""


def all_output(lab: Lab, router: str) -> str:
    """All output of a router, present and past."""
    said = [lab.log(router)]
    for view in VIEWS:
        for words in (("show", view), ("--json", "show", view)):
            done = lab.run(router, lab.routectl_command(router, *words))
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    for command in (["reload"], ["diff"], ["check", router_config.config_path(router)]):
        done = lab.run(router, lab.routectl_command(router, *command))
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
    if router == "R":
        said.append(lab.run("R", [sys.executable, "-c", SCRAPE, METRICS]).stdout)
        assert "routed_info" in said[-1]
    return "\n".join(said)


def assert_secret(said: str, secret: str) -> None:
    for form in forms(secret):
        assert form.decode() not in said, "a secret was written down"


def test_secrets_are_written_nowhere(lab: Lab) -> None:
    for router in lab.topology.nodes:  # a rollover of keys, the old one wrong meanwhile
        use_key(lab, router, SECOND)
        lab.sighup(router)
    lab.wait_converged(DEADLINE_S)
    for router in lab.topology.nodes:
        lab.kill(router, "daemon", signal.SIGUSR1)
        wait_until(
            lambda router=router: '"what": "counters"' in lab.log(router),  # type: ignore[misc]
            DEADLINE_S,
            "the dump is written",
        )
    old = lab.engine_pid("R")
    lab.kill("R", "engine", signal.SIGABRT)  # the same as a crash in C
    wait_until(lambda: lab.engine_pid("R") not in (None, old), DEADLINE_S, "the next engine")
    lab.wait_converged(DEADLINE_S)
    for router in lab.topology.nodes:
        said = all_output(lab, router)
        assert "core" in said, "the key set has a name"
        assert_secret(said, FIRST)
        assert_secret(said, SECOND)


PEEK = """
import os, sys
if sys.argv[2] == "as the engine's user":
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
for name in ("environ", "mem", "maps", "fd", "cwd"):
    path = f"/proc/{sys.argv[1]}/{name}"
    try:
        os.listdir(path) if name == "fd" else os.readlink(path) if name == "cwd" else open(path)
        print(name, "is readable")
    except PermissionError:
        print(name, "is not")
"""


def test_no_process_can_be_dumped_or_traced(lab: Lab) -> None:
    engine = lab.engine_pid("R")
    assert engine is not None
    for pid in (engine, lab.daemon_pid("R")):
        limits = lab.run("R", ["cat", f"/proc/{pid}/limits"]).stdout
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]
        environment = lab.run("R", ["cat", f"/proc/{pid}/environ"]).stdout
        assert_secret(environment, FIRST)
        if pid == engine:
            names = {entry.partition("=")[0] for entry in environment.split("\0") if entry}
            assert names <= {
                "PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE",
            }  # fmt: skip
    if not lab.is_rootless:  # there is one user only
        peek = [sys.executable, "-c", PEEK, str(engine), "as the engine's user", str(ENGINE_UID)]
        done = lab.run("R", peek)
        assert done.stdout.split("\n")[:-1] == [
            f"{name} is not" for name in ("environ", "mem", "maps", "fd", "cwd")
        ], done.stdout + done.stderr
