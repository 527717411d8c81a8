"""Reading routes.yaml and key files while the daemon runs: nothing waits for a file system.

A file may lie on a mount whose server is gone; a system call on it does not return then, and no
cancellation reaches it. So each read happens in a thread that is abandoned when it takes longer
than READ_TIMEOUT_S, or when the daemon ends, and that holds no file of ours open meanwhile
(`routed.parent.file_threads`). The state files beside the pid file are written in the same way.
Decoding is a matter of the text's length alone; it happens in a thread, too, so that the event loop
turns meanwhile.

Bounds: READERS_MAX threads that hang in a file system, and one that writes; while there are as
many, a further read fails without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from routed.config.files import check_files
from routed.config.load import ConfigError, Problem, load_text, read_text
from routed.config.schema import Config
from routed.config.secrets import KeyFileError, read_secrets
from routed.model.secret import SharedSecret
from routed.parent.file_threads import call_apart, run_in_thread

__all__ = ["READERS_MAX", "READ_TIMEOUT_S", "WRITE_TIMEOUT_S", "ConfigReader"]

READ_TIMEOUT_S = 10.0
"""Longer than a file system takes that works; 256 MB from a slow disk included."""

WRITE_TIMEOUT_S = 5.0
"""For a few small files that are synced one by one; a client waits meanwhile."""

READERS_MAX = 4

_T = TypeVar("_T")


class ConfigReader:
    """Owns the threads that read the configuration."""

    def __init__(self, path: str) -> None:
        """Args: path of routes.yaml, absolute."""
        self.path = path
        self._readers = trio.CapacityLimiter(READERS_MAX)
        self._writer = trio.CapacityLimiter(1)
        self._decoders = trio.CapacityLimiter(2)

    async def load(self) -> tuple[Config, str]:
        """The configuration that the file names, and its text.

        Raises:
            ConfigError: unreadable, not in time, or wrong.
        """
        text = await self.text()
        config = await self.decode(text, self.path)
        await self._read_file(lambda: check_files(config, self.path))
        return config, text

    async def text(self) -> str:
        """What the file says, right or wrong.

        Raises:
            ConfigError: unreadable, or not in time.
        """
        return await self._read_file(lambda: read_text(self.path))

    async def _read_file(self, read: Callable[[], _T]) -> _T:
        """Raises:
        ConfigError: not in time.
        """
        try:
            return await self._read(read)
        except trio.TooSlowError:
            raise ConfigError([Problem(self.path, 1, 1, "(file)", _too_slow())]) from None

    async def decode(self, text: str, name: str) -> Config:
        """A configuration of a text.

        Args:
            text: the YAML.
            name: to report problems under.

        Raises:
            ConfigError: it is wrong.
        """
        return await run_in_thread(lambda: load_text(text, name), self._decoders)

    async def compute(self, call: Callable[[], _T]) -> _T:
        """Answer a question about configurations, which may have hundreds of thousands of routes.

        Args:
            call: pure, in Python: other threads have turns meanwhile.
        """
        return await run_in_thread(call, self._decoders)

    async def secrets(self, config: Config) -> tuple[SharedSecret, ...]:
        """What the key files of a configuration hold.

        Raises:
            KeyFileError: unreadable, not in time, or wrong.
        """
        if not config.keys:
            return ()
        try:
            return await self._read(lambda: read_secrets(config, self.path))
        except trio.TooSlowError:
            raise KeyFileError([f"{self.path}: key files: {_too_slow()}"]) from None

    async def write(self, write: Callable[[], object]) -> None:
        """Write files, one call at a time.

        Raises:
            trio.TooSlowError: not in time, as while an earlier call does not end.
        """
        with trio.fail_after(WRITE_TIMEOUT_S):
            await run_in_thread(lambda: call_apart(write), self._writer)

    async def _read(self, read: Callable[[], _T]) -> _T:
        with trio.fail_after(READ_TIMEOUT_S):
            return await run_in_thread(lambda: call_apart(read), self._readers)


def _too_slow() -> str:
    return f"the file system has not answered within {READ_TIMEOUT_S:g} s"
