"""The command `routed` where its output cannot be written: its exit status is right
nevertheless.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipc.standard_streams import write_message
from routed.parent.config_history import ConfigHistory
from routed.parent.daemonize import OPEN_FILES_MIN

GOOD = "router_id: 10.255.0.1\nuser: root\npid_file: {directory}/routed.pid\n"
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
"""The limit for a program that would wait for ever."""

CHOOSE_START = """
import sys
from routed.cli import _choose_start
from routed.config.load import load_text, read_text
text = read_text(sys.argv[1])
start = _choose_start(load_text(text), text, sys.argv[1])
print(start.is_instead)
"""


def run(words: str, redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" {words} {redirections}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *arguments],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(GOOD.format(directory=tmp_path))
    return path


@pytest.mark.parametrize("redirections", ["", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1"])
@pytest.mark.parametrize(("text", "status"), [("", 0), ("statik: []\n", 2)])
def test_a_check_has_its_status_wherever_its_output_goes(
    config: Path, text: str, status: int, redirections: str
) -> None:
    config.write_text(config.read_text() + text)
    done = run('-m routed --check -c "$1"', redirections, str(config))
    assert done.returncode == status
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--version", "--print-schema", "--help", "--import-kernel"])
def test_an_answer_that_cannot_be_written_has_its_own_status(option: str) -> None:
    done = run(f"-m routed {option}", ">/dev/full")
    assert (done.returncode, done.stderr) == (
        5, "routed: standard output cannot be written: No space left on device\n",
    )  # fmt: skip
    assert run(f"-m routed {option}", ">/dev/full 2>&1").returncode == 5
    assert run(f"-m routed {option}", "| head -c 1").stderr == ""


def test_a_wrong_command_line_has_its_status_wherever_its_output_goes() -> None:
    assert "unrecognized arguments: --nonsense" in run("-m routed --nonsense", "").stderr
    assert run("-m routed --nonsense", "2>/dev/full").returncode == 2


def test_a_message_is_lost_where_it_cannot_be_written() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    write_message("x", full)
    read_end, write_end = os.pipe()
    write_message("x" * 100_000, write_end)  # more than the pipe holds, and it has no reader
    assert os.read(read_end, 100_000).startswith(b"xxxx")
    os.close(read_end)
    write_message("x", write_end)
    for descriptor in (full, write_end):
        os.close(descriptor)


def test_a_check_refuses_a_log_that_is_the_pid_file_by_a_link(config: Path) -> None:
    (config.parent / "log").symlink_to("routed.pid")
    config.write_text(f"{config.read_text()}log: {{file: {config.parent}/log}}\n")
    done = run('-m routed --check -c "$1"', "", str(config))
    assert done.returncode == 2
    assert "log.file: " in done.stderr
    assert "is the same file as" in done.stderr


def test_a_start_with_a_message_waits_for_no_reader(config: Path) -> None:
    last_good = ConfigHistory(str(config.parent / "routed.pid"), pytest.fail)
    last_good.put_in_force(config.read_text())
    config.write_text(config.read_text() + "static: [{prefix: 10.9.0.0/16, type: blackhole}]\n")
    last_good.keep()
    last_good.refuse(config.read_text())
    last_good.keep()
    program = [sys.executable, "-c", CHOOSE_START, str(config)]
    read_end, write_end = os.pipe()
    write_message("x" * 100_000, write_end)  # the pipe is full
    for stderr in (write_end, os.open("/dev/full", os.O_WRONLY)):
        done = subprocess.run(
            program, stdout=subprocess.PIPE, stderr=stderr, timeout=TIMEOUT_S, check=False
        )
        assert (done.returncode, done.stdout) == (0, b"True\n")
        os.close(stderr)
    os.close(read_end)


@pytest.mark.parametrize("message", ["", "routed: 1 of 2 routes in the kernel"])
def test_a_start_in_the_background_has_its_status_where_its_output_cannot_be_written(
    message: str,
) -> None:
    program = f"from routed.parent.daemonize import daemonize; daemonize().report(0, {message!r})"
    assert run('-c "$1"', "2>/dev/full", program).returncode == 0


def test_a_start_with_a_refused_configuration_for_want_of_another_is_reported(config: Path) -> None:
    last_good = ConfigHistory(str(config.parent / "routed.pid"), pytest.fail)
    last_good.put_in_force("what was confirmed")
    last_good.refuse(config.read_text())
    last_good.keep()
    Path(last_good.running_path).unlink()
    done = run('-c "$1" "$2"', "", CHOOSE_START, str(config))
    assert (done.stdout, done.stderr) == (
        "False\n",
        f"routed: {config} was reverted or never confirmed, and there is no "
        f"{last_good.running_path} to use instead: starting with it\n",
    )


def test_a_path_that_cannot_be_displayed_is_refused_by_a_check_and_by_a_start(config: Path) -> None:
    """Otherwise the check would print `ok`, and the start would end with a traceback."""
    odd = os.fsencode(config.parent) + b"/n\xff.yaml"
    os.rename(config, odd)
    for option in ("--check", "-f"):
        done = run(f'-m routed {option} -c "$1"', "", os.fsdecode(odd))
        assert done.returncode == 2
        assert done.stderr.endswith("n\\udcff.yaml': the path is not valid UTF-8\n")


def test_a_removed_working_directory_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = 'cd "$1" && rmdir "$1" && exec "$0" -m routed --check -c routes.yaml'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(gone)],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        "routed: routes.yaml: the working directory was removed; name the file by its full path\n",
    )


@pytest.mark.parametrize("limit", [20, 40, OPEN_FILES_MIN - 1])
def test_too_few_open_files_are_named(config: Path, limit: int) -> None:
    command = f'ulimit -n {limit}; exec "$0" -m routed -c "$1"'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(config)],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        f"routed: at most {limit} files may be open here (ulimit -n), and a start needs "
        f"{OPEN_FILES_MIN}\n",
    )


def test_a_low_soft_limit_of_open_files_is_raised() -> None:
    script = (
        "import resource as r\n"
        "from routed.parent.daemonize import provide_open_files\n"
        "hard = r.getrlimit(r.RLIMIT_NOFILE)[1]\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (20, hard))\n"
        "provide_open_files()\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE) == (64, hard))\n"
    )
    assert run('-c "$1"', "", script).stdout == "True\n"


@pytest.mark.root
@pytest.mark.parametrize("option", ["--check", "-f", ""])
def test_a_key_file_that_is_missing_is_a_wrong_configuration(config: Path, option: str) -> None:
    keys = "keys: {core: [{id: 1, algorithm: hmac-sha256, secret_file: core.key}]}\n"
    config.write_text(config.read_text() + keys)
    done = run(f'-m routed {option} -c "$1"', "", str(config))
    assert done.returncode == 2
    assert "core.key" in done.stderr
