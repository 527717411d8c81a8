"""Signals are held from the first instruction, served when a handler exists, and ignored by
engines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from routed.parent.engine_process.spawn import start_engine
from routed.parent.signals import END, HANDLED

HELD = """
import os, signal, sys
from routed.parent import signals
signals.block(*signals.HANDLED)
for number in signals.HANDLED:
    os.kill(os.getpid(), number)
print("alive", flush=True)
served = []
for number in signals.HANDLED:
    signal.signal(number, lambda number, _frame: served.append(number))
signals.unblock()
print(*sorted(served))
"""


def test_signals_before_the_handler_exists_are_served_by_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD], capture_output=True, text=True, timeout=60, check=True
    )
    alive, served = done.stdout.splitlines()
    assert alive == "alive"
    assert served == " ".join(str(int(number)) for number in sorted(HANDLED))


START = """
import os, signal, sys
import routed.config.load as load
from routed.cli import main

def read_text(path, **_):
    for number in map(int, sys.argv[2:]):
        os.kill(os.getpid(), number)
    print("reading", flush=True)
    raise load.ConfigError([load.Problem(path, 1, 1, "(file)", "read enough")])

load.read_text = read_text
sys.exit(main(["-f", "-c", sys.argv[1]]))
"""


def start(tmp_path: Path, *numbers: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Start `routed -f`, which gets signals while it reads its configuration, before
    anything else.
    """
    words = [str(int(number)) for number in numbers]
    return subprocess.run(
        [sys.executable, "-c", START, str(tmp_path / "routes.yaml"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_signal_to_a_command_that_has_just_started_does_not_end_it(tmp_path: Path) -> None:
    """Otherwise the default action of SIGHUP and SIGUSR1 would end the daemon for a second of its
    start.
    """
    done = start(tmp_path, *(HANDLED - END))
    assert (done.returncode, done.stdout) == (2, "reading\n"), done.stderr
    assert "read enough" in done.stderr


@pytest.mark.parametrize("number", sorted(END))
def test_a_command_that_has_no_resources_yet_may_be_interrupted(
    tmp_path: Path, number: signal.Signals
) -> None:
    assert start(tmp_path, number).returncode != 2


WAITING = """
import os, signal, sys
from routed.parent import signals
from routed.parent.daemonize import daemonize
signals.block(*signals.HANDLED)
with open(sys.argv[1], "w") as facts:
    facts.write(str(os.getpid()))
ready = daemonize()
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
with open(sys.argv[2], "w") as pipe:
    pipe.write(" ".join(str(int(number)) for number in sorted(blocked)))
with open(sys.argv[2]) as pipe:
    pipe.read()
ready.report(0)
"""


def test_a_command_that_waits_for_the_daemon_may_be_interrupted_and_the_daemon_may_not(
    tmp_path: Path,
) -> None:
    facts, pipe = tmp_path / "facts", tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([sys.executable, "-c", WAITING, str(facts), str(pipe)]) as command:
        blocked = pipe.read_text()
        assert blocked == " ".join(str(int(number)) for number in sorted(HANDLED))
        command.send_signal(signal.SIGINT)
        assert command.wait(30) != 0
        pipe.write_text("")  # the daemon continues without it, and ends


ENGINE = """
import os, signal
from routed.parent import signals
signals.ignore()
for number in signals.HANDLED:
    os.kill(os.getpid(), number)
with open("/proc/self/status") as status:
    facts = dict(line.split(":", 1) for line in status)
print(facts["SigBlk"].strip(), facts["SigIgn"].strip(), facts["SigPnd"].strip(), flush=True)
"""


def test_an_engine_holds_no_signal_and_leaves_the_five_to_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is started with all of them held, so that they cannot arrive before its first
    instruction.
    """
    from routed.parent.engine_process import spawn as privsep

    monkeypatch.setattr(privsep, "ENGINE_COMMAND", (sys.executable, "-c", ENGINE))
    engine = start_engine(os.getuid(), os.getgid(), "off", 65_536)
    with open(engine.output_fd, encoding="ascii") as output:
        said = output.read()
    _, status = os.waitpid(engine.pid, 0)
    os.close(engine.pidfd)
    engine.channel.close()
    assert status == 0, said
    blocked, ignored, pending = (int(field, 16) for field in said.split())
    assert (blocked, pending) == (0, 0)
    ours = sum(1 << (number - 1) for number in HANDLED)
    assert ignored & ours == ours


def test_children_are_reaped_although_the_starting_process_ignores_sigchld() -> None:
    """An ignored SIGCHLD survives exec(2): the kernel then reaps the engine by itself."""
    program = (
        "import os, signal; from routed.parent import signals; signals.restore_child_signal()\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    command = [sys.executable, "-c", program]

    def ignore_children() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, preexec_fn=ignore_children
    )
    assert done.stdout == "7\n"


EARLY = """
import os, signal, sys

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == "routed.cli":
            for number in map(int, sys.argv.pop().split(",")):
                os.kill(os.getpid(), number)
            sys.meta_path.remove(self)
        return None

sys.meta_path.insert(0, AtImport())
from routed.__main__ import main
sys.argv = ["routed", *sys.argv[1:]]
sys.exit(main())
"""


def test_a_signal_while_the_command_imports_its_modules_ends_nothing(tmp_path: Path) -> None:
    numbers = ",".join(str(int(number)) for number in HANDLED - END)
    absent = str(tmp_path / "absent.yaml")
    done = subprocess.run(
        [sys.executable, "-c", EARLY, "-c", absent, numbers],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "absent.yaml" in done.stderr
