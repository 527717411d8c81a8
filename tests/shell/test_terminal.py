"""The shell in a real terminal: tmux sends the keys and returns the screen.

Screens are kept as golden files; `pytest --update-golden` writes them again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("tmux") and shutil.which("less")),
        reason="tmux or less is not installed (Debian packages of these names)",
    ),
    pytest.mark.skipif(os.getuid() != 0, reason="the fake daemon's admin is root"),
]

PROMPT = "10.255.0.1 failed 1>"


class Screen:
    """A terminal of 100 columns and 30 lines, on a tmux server of its own."""

    def __init__(self, directory: Path, socket_path: Path) -> None:
        self._socket = directory / "tmux"
        environment = {
            "ROUTECTL_SOCKET": str(socket_path),
            "XDG_STATE_HOME": str(directory / "state"),
            "ROUTECTL_PAGER": "less",
            "NO_COLOR": "1",
            "PYTHONPATH": str(ROOT),
        }
        words = [f"{name}={value}" for name, value in environment.items()]
        self._tmux(
            "new-session", "-d", "-x", "100", "-y", "30",
            "env", "-u", "LESS", *words, sys.executable, "-m", "routectl",
        )  # fmt: skip

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],
            capture_output=True, text=True, check=True, timeout=DEADLINE_S,
        )  # fmt: skip
        return done.stdout

    def keys(self, *keys: str) -> Screen:
        """Press keys by tmux's names (`C-c`, `Enter`); other text is typed as it is."""
        self._tmux("send-keys", *keys)
        return self

    def text(self) -> str:
        """The text on the screen, without trailing blanks and the empty lines below."""
        lines = self._tmux("capture-pane", "-p").splitlines()
        return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"

    def wait(self, is_so: Callable[[str], bool]) -> str:
        """Wait for a screen that satisfies a condition, and return it."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_so(text := self.text()):
            assert time.monotonic() < deadline, text
        return text

    def wait_for_prompt(self, before: str = "") -> str:
        """Wait until the last line is an empty prompt below some text."""
        return self.wait(lambda text: text.endswith(f"{PROMPT}\n") and before in text)

    def close(self) -> None:
        """End the tmux server and the programs in it."""
        self._tmux("kill-server")


class Daemon:
    """The fake daemon in its own process, which can be restarted."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, routes: int = 0) -> None:
        """Start the process, and wait for the socket."""
        words = [sys.executable, "-m", "tests.fakes.fake_daemon", str(self._socket_path)]
        self._process = subprocess.Popen(
            [*words, *([str(routes)] if routes else [])], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + DEADLINE_S
        while not self._socket_path.exists():
            assert time.monotonic() < deadline
            assert self._process.poll() is None

    def stop(self) -> None:
        """Stop the process as Ctrl-C would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(DEADLINE_S)
            self._process = None


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "routed.sock"


@pytest.fixture
def daemon(socket_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(socket_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def screen(tmp_path: Path, socket_path: Path, daemon: Daemon) -> Iterator[Screen]:
    """A shell at its first prompt."""
    daemon.start()
    screen = Screen(tmp_path, socket_path)
    try:
        screen.wait_for_prompt()
        yield screen
    finally:
        screen.close()


def compare(name: str, text: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / name
    if request.config.getoption("--update-golden", default=False):
        path.write_text(text)
    assert text == path.read_text()


def test_a_long_session_at_the_shell(screen: Screen, request: pytest.FixtureRequest) -> None:
    """Commands, completion, help at a key, a mistake, the history."""
    screen.keys("sh nei", "Enter").wait_for_prompt("192.0.2.9")
    screen.keys("show mem", "Tab").wait(lambda text: text.endswith("> show memory\n"))
    screen.keys("Enter").wait_for_prompt("LC-trie")
    screen.keys("show ro", "?").wait(lambda text: text.endswith("> show ro\n") and "RIB" in text)
    screen.keys("C-c").wait_for_prompt()
    screen.keys("sho neighbros", "Enter").wait_for_prompt("did you mean neighbors?")
    screen.keys("Up").wait(lambda text: text.endswith("> sho neighbros\n"))
    screen.keys("C-u").wait_for_prompt()
    compare("terminal-session.txt", screen.text(), request)


def test_long_output_is_paged(
    screen: Screen, daemon: Daemon, request: pytest.FixtureRequest
) -> None:
    daemon.stop()
    daemon.start(routes=2000)
    screen.keys("show routes", "Enter").wait(lambda text: text.endswith("\n:\n"))
    compare("terminal-pager.txt", screen.text(), request)
    screen.keys("q").wait_for_prompt()
    screen.keys("show memory", "Enter").wait_for_prompt("LC-trie")


def test_ctrl_c_ends_a_dump_and_not_the_session(screen: Screen, daemon: Daemon) -> None:
    daemon.stop()
    daemon.start(routes=200_000)
    screen.keys("show routes --json", "Enter").wait(lambda text: text.endswith("\n:\n"))
    screen.keys("C-c")

    def is_back(text: str) -> bool:
        if text.endswith("\n:\n"):  # the pager drops keys that arrive while it is interrupted
            screen.keys("q")
        return "cancelled" in text and text.rstrip("q \n").endswith(PROMPT)

    screen.wait(is_back)
    screen.keys("C-u").wait_for_prompt()  # one q may have been too many
    screen.keys("show memory", "Enter").wait_for_prompt("LC-trie")


def test_a_restarted_daemon_is_connected_again(screen: Screen, daemon: Daemon) -> None:
    daemon.stop()
    screen.keys("show memory", "Enter").wait(
        lambda text: "routed is not running" in text and text.endswith("routed (unreachable)>\n")
    )
    daemon.start()
    screen.keys("show memory", "Enter").wait_for_prompt("LC-trie")
