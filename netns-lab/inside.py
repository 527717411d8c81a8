"""Programs and files inside a lab, used from outside.

This process never leaves its own namespaces, so it may have several threads: programs are run
through enter.py, files are accessed through a descriptor of the lab's tmpfs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import protocol
import router_config
from client import HolderClient, LabError

__all__ = ["Inside"]

_ENTER = Path(__file__).parent / "enter.py"
_COMMAND_TIMEOUT_S = 60.0


def _own(command: Sequence[str]) -> list[str]:
    if command[0] in ("routed", "routectl"):
        return [sys.executable, "-m", *command]
    return list(command)


class Inside:
    """A connected lab: run programs, read and write files."""

    def __init__(self, client: HolderClient) -> None:
        """Use a client; `detach` closes it."""
        self._client = client
        _, self.is_rootless = client.describe()
        """Whether the lab is in a user namespace, in which root is the only uid."""
        self._run_directory = client.run_directory()

    def detach(self) -> None:
        """Close the client; the lab is not changed."""
        self._client.close()
        os.close(self._run_directory)

    # programs

    def popen(self, router: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program inside a router.

        Args:
            router: its name.
            command: the program and its arguments; `routed` and `routectl` are those of this
                checkout, whether or not they are installed as commands.
            options: for subprocess.Popen (not env, pass_fds, text).

        Raises:
            LabError: there is no such router.
        """
        descriptors = self._client.namespaces(router)
        words = [f"{kind}={descriptor}" for kind, descriptor in descriptors.items()]
        enter = [sys.executable, "-s", "-S", str(_ENTER), *words, "--", *_own(command)]
        try:
            return subprocess.Popen(
                enter,
                env=self.environment(router),
                pass_fds=tuple(descriptors.values()),
                text=True,
                **options,
            )
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    def environment(self, router: str) -> dict[str, str]:
        """Return the environment of programs inside: ours, with routectl connected to this
        router."""
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        socket_path = router_config.socket_path(router)
        return {**os.environ, "PATH": search, "ROUTECTL_SOCKET": socket_path}

    def run(
        self, router: str, command: Sequence[str], *, timeout_s: float = _COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside a router to its end; its output is captured as text.

        Raises:
            LabError: there is no such router, or the program took too long (it is killed).
        """
        process = self.popen(
            router,
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                text = f"{router}: {' '.join(command)} did not end within {timeout_s:g} s"
                raise LabError(text) from None
        return subprocess.CompletedProcess(list(command), process.returncode, out, err)

    # files

    def file(self, path_inside: str) -> Path:
        """Return a path of the lab's tmpfs as a path for this process.

        Args:
            path_inside: path inside the lab, such as `router_config.log_path(router)`.
        """
        relative = Path(path_inside).relative_to(protocol.RUN_DIRECTORY)
        return Path(f"/proc/self/fd/{self._run_directory}") / relative

    def read_config(self, router: str) -> str:
        """Return a router's routes.yaml.

        Raises:
            FileNotFoundError: none was written yet.
        """
        return self.file(router_config.config_path(router)).read_text(encoding="utf-8")

    def write_config(self, router: str, text: str) -> None:
        """Replace a router's routes.yaml; `sighup` has the daemon read it."""
        self.file(router_config.config_path(router)).write_text(text, encoding="utf-8")

    def log(self, router: str) -> str:
        """Return the log of the router's daemon; empty if it never ran."""
        path = self.file(router_config.log_path(router))
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
