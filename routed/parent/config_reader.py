"""Reading of routes.yaml and key files while the daemon runs, without waiting for a file system.

A file may be on a mount whose server does not answer. A system call on it does not return then, and
cannot be cancelled. Hence each read runs in a thread that is abandoned if it takes longer than
READ_TIMEOUT_S or if the daemon ends, and that keeps none of the daemon's files open
(`routed.parent.file_threads`). The state files are written in the same way. The time that decoding
takes depends only on the length of the text; it runs in a thread as well, so that the event loop
continues.

Bounds: READERS_MAX threads that hang in reads, and one that hangs in a write; while there are that
many, another read or write fails after its time limit without starting.
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
from routed.parent.file_threads import call_isolated, run_in_thread

__all__ = ["READERS_MAX", "READ_TIMEOUT_S", "WRITE_TIMEOUT_S", "ConfigReader"]

READ_TIMEOUT_S = 10.0
"""The time limit of a read; longer than a working file system takes for 256 MB on a slow disk."""

WRITE_TIMEOUT_S = 5.0
"""The time limit of writing a few small files, each with fsync(2), while a client waits."""

READERS_MAX = 4
"""The most threads that read at the same time."""

_T = TypeVar("_T")


class ConfigReader:
    """The owner of the threads that read and write configurations."""

    def __init__(self, path: str) -> None:
        """Prepare; no thread is started.

        Args:
            path: path of routes.yaml, absolute.
        """
        self.path = path
        self._readers = trio.CapacityLimiter(READERS_MAX)
        self._writer = trio.CapacityLimiter(1)
        self._decoders = trio.CapacityLimiter(2)

    async def load(self) -> tuple[Config, str]:
        """Read, decode and check routes.yaml. Returns the configuration and its text.

        Raises:
            ConfigError: the file is unreadable, not read in time, or invalid.
        """
        text = await self.text()
        config = await self.decode(text, self.path)
        await self._read_file(lambda: check_files(config, self.path))
        return config, text

    async def text(self) -> str:
        """Read the text of routes.yaml, without decoding it.

        Raises:
            ConfigError: the file is unreadable, or not read in time.
        """
        return await self._read_file(lambda: read_text(self.path))

    async def _read_file(self, read: Callable[[], _T]) -> _T:
        """Call a function that reads the configuration file, in a thread.

        Raises:
            ConfigError: it did not end in time, or raised this error itself.
        """
        try:
            return await self._read(read)
        except trio.TooSlowError:
            raise ConfigError([Problem(self.path, 1, 1, "(file)", _too_slow())]) from None

    async def decode(self, text: str, name: str) -> Config:
        """Decode and check a text.

        Args:
            text: the YAML.
            name: the name of the file in the reported problems.

        Raises:
            ConfigError: the text is invalid.
        """
        return await run_in_thread(lambda: load_text(text, name), self._decoders)

    async def compute(self, call: Callable[[], _T]) -> _T:
        """Compute a value from configurations, which may have hundreds of thousands of routes.

        Args:
            call: a pure function in Python, so that other threads can run meanwhile.
        """
        return await run_in_thread(call, self._decoders)

    async def secrets(self, config: Config) -> tuple[SharedSecret, ...]:
        """Read the key files of a configuration.

        Raises:
            KeyFileError: a key file is unreadable, not read in time, or invalid.
        """
        if not config.keys:
            return ()
        try:
            return await self._read(lambda: read_secrets(config, self.path))
        except trio.TooSlowError:
            raise KeyFileError([f"{self.path}: key files: {_too_slow()}"]) from None

    async def write(self, write: Callable[[], object]) -> None:
        """Call a function that writes files, one call at a time.

        Raises:
            trio.TooSlowError: it did not end in time, or an earlier call has not ended yet.
            OSError: raised by the function.
        """
        with trio.fail_after(WRITE_TIMEOUT_S):
            await run_in_thread(lambda: call_isolated(write), self._writer)

    async def _read(self, read: Callable[[], _T]) -> _T:
        with trio.fail_after(READ_TIMEOUT_S):
            return await run_in_thread(lambda: call_isolated(read), self._readers)


def _too_slow() -> str:
    return f"the file system has not answered within {READ_TIMEOUT_S:g} s"
