"""A start that the kernel refuses: the reason is said to whoever waits, and in the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from routed.config.load import load_text
from routed.log.events import Level
from routed.log.logger import Logger
from routed.netlink.socket import NetlinkError
from routed.parent import main as parent
from routed.parent import signals
from routed.parent.daemonize import ReadyPipe
from routed.parent.kernel import KernelSockets
from tests.fakes.fake_engines import FakeInstance, FakeListeners, Sink


class Ready(ReadyPipe):
    """Somebody waits for the word."""

    def __init__(self) -> None:
        super().__init__(None)
        self.said: list[tuple[int, str]] = []

    @property
    def is_open(self) -> bool:
        return True

    def report(self, status: int, message: str = "") -> None:
        self.said.append((status, message))


@pytest.fixture
def released() -> Iterator[None]:
    """The daemon ends with its signals held; the tests go on."""
    yield
    signals.unblock()


@pytest.mark.parametrize("reason", ["dump refused: EPERM", "the answer is cut off"])
def test_a_refusal_of_the_kernel_at_the_start_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, released: None, reason: str
) -> None:
    """S10: `the daemon died before it was ready; see its log`, where the log had no reason."""

    @contextmanager
    def refuse(*refused: object) -> Iterator[None]:
        if refused:
            raise NetlinkError(reason)
        yield

    sink = Sink()
    opened = SimpleNamespace(
        secrets=(),
        log=SimpleNamespace(
            logger=Logger(sink, "parent", Level.DEBUG),
            close=lambda: None,
            run=trio.sleep_forever,
        ),
        listeners=FakeListeners(),
        instance=FakeInstance(),
        close=lambda: None,
    )
    monkeypatch.setattr(parent, "open_daemon", lambda *_, **__: opened)
    monkeypatch.setattr(KernelSockets, "open", refuse)
    text = f"router_id: 10.255.0.1\nuser: root\npid_file: {tmp_path}/routed.pid\n"
    start = parent.StartedBy(load_text(text), text, str(tmp_path / "routes.yaml"))
    ready = Ready()
    assert parent.run_parent(start, ready, is_foreground=False) == parent.EXIT_FAILED
    assert ready.said == [(parent.EXIT_FAILED, f"routed: {reason}")]
    failed = [dict(record.fields) for record in sink.records if record.event == "daemon-failed"]
    assert failed == [{"reason": reason}]
