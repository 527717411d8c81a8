"""Reading a configuration from a file system that does not answer."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from routed.config.load import ConfigError, load_text
from routed.config.secrets import KeyFileError
from routed.parent import config_reader
from routed.parent.config_reader import READERS_MAX, ConfigReader

TEXT = "router_id: 10.255.0.1\nuser: root\n"
KEYS = "keys: {core: [{id: 1, algorithm: hmac-sha256, secret_file: core.key}]}\n"


class HungFiles:
    """A mount whose server is gone: system calls return when the test is over."""

    def __init__(self) -> None:
        self.returns = threading.Event()
        self.calls = 0

    def read(self, *_: object) -> str:
        self.calls += 1
        self.returns.wait()
        raise OSError(5, "gone")


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungFiles]:
    files = HungFiles()
    monkeypatch.setattr(config_reader, "read_text", files.read)
    monkeypatch.setattr(config_reader, "read_secrets", files.read)
    monkeypatch.setattr(config_reader, "READ_TIMEOUT_S", 0.01)
    yield files
    files.returns.set()


async def test_a_read_that_does_not_return_is_given_up(hung: HungFiles) -> None:
    """S25: reloads, the timer of a confirmation and SIGTERM waited for it."""
    reader = ConfigReader("/mnt/routes.yaml")
    with pytest.raises(ConfigError, match="the file system has not answered"):
        await reader.load()
    with pytest.raises(KeyFileError, match="the file system has not answered"):
        await reader.secrets(load_text(TEXT + KEYS))


@pytest.mark.parametrize("is_missing", [False, True])
async def test_an_error_is_freed_with_the_text_that_it_is_about(
    tmp_path: Path, *, is_missing: bool
) -> None:
    """The parent grew by the size of each mistaken file until the garbage collector ran."""
    path = tmp_path / "routes.yaml"
    if not is_missing:
        path.write_text("router_id: [")
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ConfigError):
            await ConfigReader(str(path)).load()
        kept = [found for found in gc.get_objects() if isinstance(found, ConfigError)]
    finally:
        gc.enable()
    assert kept == []


async def test_a_reload_refuses_files_that_are_one(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(f"{TEXT}pid_file: {tmp_path}/pid\nlog: {{file: {tmp_path}/log}}\n")
    (tmp_path / "log").symlink_to("pid")
    with pytest.raises(ConfigError, match=r"log\.file: .* is the same file as "):
        await ConfigReader(str(path)).load()


async def test_reads_that_do_not_return_are_bounded_in_number(hung: HungFiles) -> None:
    reader = ConfigReader("/mnt/routes.yaml")
    for _ in range(5 * READERS_MAX):
        with pytest.raises(ConfigError, match="the file system has not answered"):
            await reader.load()
    assert hung.calls <= READERS_MAX


async def test_the_end_of_the_daemon_waits_for_no_read(
    hung: HungFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_reader, "READ_TIMEOUT_S", 3600.0)
    reader = ConfigReader("/mnt/routes.yaml")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.load)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_fifo_is_refused_and_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(TEXT)
    reader = ConfigReader(str(path))
    assert await reader.load() == (load_text(TEXT), TEXT)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is a FIFO, not a plain file"):
        await reader.load()
