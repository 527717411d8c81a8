"""The confinement of the two processes of a running daemon, read from the kernel and from `show
status`.
"""

from __future__ import annotations

import sys

import pytest

import topology
from protocol import ENGINE_UID
from routed.sandbox.kernel import here
from routed.sandbox.landlock import available_abi
from testbed import Lab, LabError
from tests.integration.conftest import LabBuilder

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


def process_status(lab: Lab, router: str, pid: int) -> dict[str, str]:
    text = lab.run(router, ["cat", f"/proc/{pid}/status"]).stdout
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))
    }


def test_both_processes_are_confined_and_show_status_reports_it(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    engine_pid = lab.engine_pid("R")
    assert engine_pid is not None
    engine = process_status(lab, "R", engine_pid)
    daemon = process_status(lab, "R", lab.daemon_pid("R"))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(engine[name], 16) == 0, name
    assert (engine["NoNewPrivs"], daemon["NoNewPrivs"]) == ("1", "1")
    uid = 0 if lab.is_rootless else ENGINE_UID
    assert engine["Uid"].split() == [str(uid)] * 4
    assert int(daemon["CapBnd"], 16) == (0 if lab.is_rootless else 0x1C0)
    # CAP_NET_ADMIN, CAP_NET_RAW for echo probes, and as root those to start and end an engine
    assert int(daemon["CapEff"], 16) == (0x3000 if lab.is_rootless else 0x31E0)

    words = []
    if here() is not None:
        words.append("seccomp")
        assert engine["Seccomp"] == "2"
    if available_abi():
        words.append(f"landlock abi {available_abi()}")
    (status,) = lab.routectl("R", "show", "status")
    assert status["sandbox"] == ", ".join([*words, f"uid {uid}"])
    assert f"sandbox          {status['sandbox']}" in lab.show("R", "status")
    assert status["sandbox_refusals"] == 0, "an engine in order asks for nothing it may not"
    assert "sandbox-refused" not in lab.log("R")


def test_off_is_reported_and_the_other_restrictions_hold(build_lab: LabBuilder) -> None:
    lab = build_lab(topology.load("line3").with_config({"sandbox": "off"}))
    lab.start_daemons(["R"])
    (status,) = lab.routectl("R", "show", "status")
    assert status["sandbox"] == f"uid {0 if lab.is_rootless else ENGINE_UID}"
    assert status["sandbox_refusals"] is None, "nobody counts: not the same as none"
    assert "sandbox-degraded" in lab.log("R")
    engine_pid = lab.engine_pid("R")
    assert engine_pid is not None
    assert int(process_status(lab, "R", engine_pid)["CapEff"], 16) == 0


def test_required_refuses_to_start_where_something_is_missing(build_lab: LabBuilder) -> None:
    """The machine's name selects the table of system calls; an unknown machine has no filter."""
    lab = build_lab(topology.load("line3").with_config({"sandbox": "required"}))
    lab.start_daemons(["A"])  # nothing is missing, so it starts
    foreign = {"sandbox": "required"}
    lab = build_lab(topology.load("line3").with_config(foreign))
    lab.write_config_unless_there("R")
    done = lab.run(
        "R", [sys.executable, "-c", ON_A_FOREIGN_MACHINE, "-c", "/dev/shm/R/routes.yaml"]
    )
    assert done.returncode == 1
    assert "`sandbox: required`, and this kernel lacks seccomp" in done.stderr
    with pytest.raises(LabError, match="no daemon is running"):
        lab.daemon_pid("R")


ON_A_FOREIGN_MACHINE = """
import sys
import routed.parent.engine_process.spawn
engine = "import platform, sys; platform.machine = lambda: 'riscv64'; " \\
    "from routed.cli import main; sys.exit(main(sys.argv[1:]))"
routed.parent.engine_process.spawn.ENGINE_COMMAND = (
    sys.executable, "-c", engine, "--role", "engine"
)
from routed.cli import main
sys.exit(main(sys.argv[1:]))
"""
