"""Starts and ends a holder."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from client import HolderClient, LabError

__all__ = ["Launcher", "end_holder"]

_HOLDER = Path(__file__).parent / "holder.py"
_READY_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 20.0


class Launcher:
    """The launcher process of a holder, and the lifeline that ends the holder."""

    def __init__(self, name: str, document: Mapping[str, Any], *, is_detached: bool) -> None:
        """Start the launcher, and return when the network is built.

        Args:
            name: name of the lab.
            document: the topology as plain data.
            is_detached: whether there is no lifeline, so that the lab stays when this process ends.

        Raises:
            LabError: it cannot be built here; the text gives the reason and what to do.
        """
        self._lifeline: int | None = None
        command = [sys.executable, str(_HOLDER), name]
        inherited = []
        if not is_detached:
            watched, self._lifeline = os.pipe()
            inherited.append(watched)
            command += ["--lifeline", str(watched)]
        # A file, not a pipe: the holder keeps it open, and it is not read after the start.
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C goes to this process, which ends the lab
            )
            for descriptor in inherited:
                os.close(descriptor)
            try:
                self._await_ready(document, complaints)
            except BaseException:
                self.end()
                raise

    def _await_ready(self, document: Mapping[str, Any], complaints: IO[bytes]) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with stdin, stdout:
            stdin.write(json.dumps(document).encode())
            stdin.close()
            is_readable = bool(select.select([stdout], [], [], _READY_TIMEOUT_S)[0])
            line = stdout.readline() if is_readable else b""
        answer: dict[str, Any] = json.loads(line) if line else {}
        if "ready" not in answer:
            complaints.seek(0)
            detail = complaints.read().decode(errors="replace").strip()
            raise LabError(str(answer.get("error") or detail or "the lab did not get ready"))

    def end(self) -> None:
        """Close the lifeline, and wait until the holder has ended."""
        if self._lifeline is None:
            self._process.kill()  # the holder dies with it
        else:
            os.close(self._lifeline)
            self._lifeline = None
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def end_holder(client: HolderClient) -> None:
    """Have a detached holder end, and wait until it has.

    PID 1 of a PID namespace ends after all other processes in it (pid_namespaces(7)).

    Raises:
        LabError: it has ended already.
    """
    try:
        holder = os.pidfd_open(client.holder_pid)
    except ProcessLookupError:
        raise LabError(f"the lab {client.name!r} has ended") from None
    try:
        client.stop()
        if not select.select([holder], [], [], _END_TIMEOUT_S)[0]:
            signal.pidfd_send_signal(holder, signal.SIGKILL)
    finally:
        os.close(holder)
