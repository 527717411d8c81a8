"""The double fork and its pipe, with real processes: the exit status for the shell is right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from routed.parent.daemonize import daemonize
ready = daemonize()
facts = [os.getpid(), os.getsid(0), os.getppid(), os.getcwd(), os.readlink("/proc/self/fd/0"),
         os.readlink("/proc/self/fd/2")]
open(sys.argv[1], "w").write("\\n".join(map(str, facts)))
mode = sys.argv[2]
if mode == "ready":
    ready.report(0)
    ready.report(7, "a second word is not said")
elif mode == "fail":
    ready.report(3, "routed: no")
elif mode == "die":
    os._exit(9)
elif mode == "raise":
    raise RuntimeError("boom")
"""


def run(tmp_path: Path, mode: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "facts"), mode],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_ready_is_status_0_and_the_daemon_is_detached(tmp_path: Path) -> None:
    done = run(tmp_path, "ready")
    assert (done.returncode, done.stderr) == (0, "")
    pid, session, _parent, directory, stdin, stderr = (tmp_path / "facts").read_text().split("\n")
    assert session not in (pid, str(os.getsid(0))), "a session of its own that it does not lead"
    assert (directory, stdin, stderr) == ("/", "/dev/null", "/dev/null")


def test_a_failure_is_its_status_and_its_message(tmp_path: Path) -> None:
    done = run(tmp_path, "fail")
    assert (done.returncode, done.stderr) == (3, "routed: no\n")


@pytest.mark.parametrize("mode", ["die", "raise"])
def test_a_daemon_that_dies_without_a_message_is_an_error(tmp_path: Path, mode: str) -> None:
    done = run(tmp_path, mode)
    assert done.returncode == 1
    assert "died before it was ready" in done.stderr


LOCK_SCRIPT = """
import sys, signal
from routed.parent.pidfile import PidFile
lock = PidFile(sys.argv[1])
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_the_pid_file_ends_with_its_holder(tmp_path: Path) -> None:
    from routed.parent.pidfile import AlreadyRunning, PidFile

    path = tmp_path / "deep" / "routed.pid"
    with subprocess.Popen(
        [sys.executable, "-c", LOCK_SCRIPT, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(AlreadyRunning, match=f"already running as pid {holder.pid} "):
            PidFile(str(path))
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    mine = PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    mine.remove()
    assert not path.exists()


def test_a_pid_file_is_never_a_symbolic_link(tmp_path: Path) -> None:
    from routed.parent.pidfile import PidFile

    (tmp_path / "target").write_text("precious")
    (tmp_path / "routed.pid").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        PidFile(str(tmp_path / "routed.pid"))
    assert (tmp_path / "target").read_text() == "precious"
