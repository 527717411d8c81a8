"""The processor time of a start: all processes of a daemon, until it reports ready.

The daemon has the smallest configuration, in a router of the lab that has no neighbor. The limit is
an interpreter that imports the three largest libraries that a daemon needs, and does nothing.
Programs are started with their bytecode cached, as installed ones are.
"""

from __future__ import annotations

import sys
import tempfile

import privilege
import router_config
import topology
from testbed import Lab
from tests.bench.harness import Bench, Measure

ROUTER = "R"
BARE = "import trio, yaml, msgpack"
RATIO = 2.2

_MEASURE = """
import os, resource, signal, subprocess, sys
kind, cache, *words = sys.argv[1:]
env = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
env.pop("PYTHONDONTWRITEBYTECODE", None)

def used_s(usage):
    return usage.ru_utime + usage.ru_stime

def used_by(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

subprocess.run(words, check=True, env=env)
total_s = used_s(resource.getrusage(resource.RUSAGE_CHILDREN))
if kind == "daemon":
    with open(os.environ["PID_FILE"]) as file:
        daemon = int(file.read())
    with open(f"/proc/{daemon}/task/{daemon}/children") as file:
        engines = file.read().split()
    total_s += sum(map(used_by, [daemon, *engines]))
    handle = os.pidfd_open(daemon)
    signal.pidfd_send_signal(handle, signal.SIGTERM)
    import select
    assert select.select([handle], [], [], 30)[0], "the daemon does not stop"
print(total_s)
"""


def run(bench: Bench) -> None:
    """Start a daemon and a bare interpreter in turns."""
    reason = privilege.probe().reason
    if reason:
        bench.leave_out("a lab", reason)
        return
    with tempfile.TemporaryDirectory() as cache, Lab(topology.load("line3")) as lab:
        lab.write_config(
            ROUTER,
            f"router_id: 10.255.0.2\nuser: root\npid_file: {_pid_file()}\n"
            f"management: {{socket: {router_config.socket_path(ROUTER)}}}\n",
        )
        daemon = ["-m", "routed", "-c", router_config.config_path(ROUTER)]
        ours = _measure(lab, "daemon", cache, daemon)
        bare = _measure(lab, "bare", cache, ["-c", BARE])
        ours(), bare()  # both have their bytecode from now on
        bench.compare(
            "a daemon's start, all processes", "s of CPU", ours, {"bare imports": bare},
            target=RATIO, limit="bare imports",
        )  # fmt: skip


def _pid_file() -> str:
    return router_config.config_path(ROUTER).replace("routes.yaml", "start.pid")


def _measure(lab: Lab, kind: str, cache: str, words: list[str]) -> Measure:
    def measure() -> float:
        command = [
            "env", f"PID_FILE={_pid_file()}",
            sys.executable, "-c", _MEASURE, kind, cache, sys.executable, *words,
        ]  # fmt: skip
        done = lab.run(ROUTER, command)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    return measure
