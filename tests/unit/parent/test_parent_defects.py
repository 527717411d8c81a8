"""A parent that cannot even open what it needs says so where somebody waits for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from routed.config.load import load_text
from routed.parent import main
from routed.parent.daemonize import ReadyPipe
from routed.parent.main import EXIT_FAILED, StartedBy, run_parent


def test_an_error_before_the_log_exists_reaches_the_waiting_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A10: "the daemon died before it was ready; see its log", and there was no log."""

    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/self/uid_map")

    monkeypatch.setattr(main, "open_daemon", fails)
    text = "router_id: 10.255.0.1\nuser: root\n"
    start = StartedBy(load_text(text), text, str(tmp_path / "routes.yaml"))
    read_end, write_end = os.pipe()
    assert run_parent(start, ReadyPipe(write_end), is_foreground=False) == EXIT_FAILED
    word = os.read(read_end, 65_536)
    os.close(read_end)
    assert word[0] == EXIT_FAILED
    said = word[1:].decode()
    assert said.startswith("routed: internal error: [Errno 2]")
    assert "uid_map" in said
    assert "in fails" in said
