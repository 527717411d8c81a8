"""The daemons of a lab: starts `routed -c`, sends signals, runs routectl."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import router_config
from asker import Asker
from client import HolderClient, LabError
from inside import Inside
from topology import Node, Topology

__all__ = ["Daemons"]

DAEMON = [sys.executable, "-m", "routed"]
ROUTECTL = [sys.executable, "-m", "routectl"]
_READY_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 60.0


class Daemons(Inside):
    """One routed per router."""

    def __init__(self, client: HolderClient, topology: Topology) -> None:
        """Use a client; no daemon is started."""
        super().__init__(client)
        self.topology = topology
        self._askers: dict[str, Asker] = {}
        self._ended_with_the_lab = contextlib.ExitStack()

    def detach(self) -> None:
        """Close the client; the lab is not changed."""
        self._askers.clear()
        self._ended_with_the_lab.close()
        super().detach()

    def node(self, router: str) -> Node:
        """Return a router of the topology.

        Raises:
            LabError: there is no router of that name.
        """
        try:
            return self.topology.nodes[router]
        except KeyError:
            known = ", ".join(self.topology.nodes)
            raise LabError(f"there is no router {router!r}; there are {known}") from None

    def start_daemons(self, routers: Iterable[str] | None = None) -> None:
        """Start `routed -c` in all or the given routers at once, and wait until all are ready.

        An existing routes.yaml is kept, so that a restarted daemon finds its own.

        Raises:
            LabError: some did not start; the text has their output.
        """
        names = list(self.topology.nodes if routers is None else routers)
        started = {name: self._start_daemon(name) for name in names}
        problems = []
        for name, process in started.items():
            try:
                _, said = process.communicate(timeout=_READY_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
                problems.append(f"{name}: routed was not ready after {_READY_TIMEOUT_S:g} s")
            if process.returncode != 0:
                problems.append(f"{name}: routed ended with {process.returncode}: {said.strip()}")
        if problems:
            raise LabError("\n".join(problems))

    def _start_daemon(self, router: str) -> subprocess.Popen[str]:
        self.write_config_unless_there(router)
        return self.popen(
            router,
            [*DAEMON, "-c", router_config.config_path(router)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def write_config_unless_there(self, router: str) -> None:
        """Write the generated routes.yaml of a router that has none."""
        if not self.file(router_config.config_path(router)).exists():
            text = router_config.config_of(self.node(router), is_rootless=self.is_rootless)
            self.write_config(router, text)

    # processes

    def daemon_pid(self, router: str) -> int:
        """Return the PID of the privileged process, from its pid file.

        Raises:
            LabError: there is no daemon.
        """
        try:
            text = self.file(router_config.pid_path(router)).read_text(encoding="ascii")
        except FileNotFoundError:
            raise LabError(f"{router}: no daemon is running") from None
        return int(text)

    def engine_pid(self, router: str) -> int | None:
        """Return the engine's PID; None if there is no engine."""
        return next(iter(self._children(router, is_liveness=False)), None)

    def liveness_pid(self, router: str) -> int | None:
        """Return the PID of the liveness process; None if there is none."""
        return next(iter(self._children(router, is_liveness=True)), None)

    def _children(self, router: str, *, is_liveness: bool) -> list[int]:
        children = self._client.children_by_role(self.daemon_pid(router))
        return [pid for pid, role in children.items() if (role == "liveness") is is_liveness]

    def is_running(self, pid: int) -> bool:
        """Return whether the lab has a process with this PID."""
        return self._client.signal(pid, 0)

    def kill(self, router: str, who: str, number: int = signal.SIGKILL) -> list[int]:
        """Send a signal to a router's `engine`, `liveness` process, `daemon` (the privileged
        process) or to `both` the daemon and its children.

        Returns:
            The PIDs that received it.

        Raises:
            LabError: there is no such process.
        """
        match who:
            case "daemon":
                pids = [self.daemon_pid(router)]
            case "engine":
                pids = self._children(router, is_liveness=False)
            case "liveness":
                pids = self._children(router, is_liveness=True)
            case "both":
                daemon = self.daemon_pid(router)
                pids = [daemon, *self._client.children(daemon)]
            case _:
                raise LabError(f"expected engine, liveness, daemon or both, not {who!r}")
        signalled = [pid for pid in pids if self._client.signal(pid, number)]
        if not signalled:
            raise LabError(f"{router}: no {who} is running")
        return signalled

    def sighup(self, router: str) -> None:
        """Have the daemon read its configuration again."""
        self.kill(router, "daemon", signal.SIGHUP)

    # routectl

    def routectl_command(self, router: str, *words: str) -> list[str]:
        """Return the command line of routectl for a router, to be run inside."""
        return [*ROUTECTL, "-s", router_config.socket_path(router), *words]

    def show(self, router: str, *words: str) -> str:
        """Return the text of `routectl show WORDS`.

        Raises:
            LabError: it failed; the text has its output.
        """
        return self._ask(router, "show", *words).rstrip("\n")

    def routectl(self, router: str, *words: str) -> list[dict[str, Any]]:
        """Run `routectl --json WORDS`, and return its rows.

        Raises:
            LabError: it failed; the text has its output.
        """
        rows: list[dict[str, Any]] = json.loads(self._ask(router, "--json", *words))["data"]
        return rows

    def _ask(self, router: str, *words: str) -> str:
        if router not in self._askers:
            asker = self._ended_with_the_lab.enter_context(Asker(self, router))
            self._askers[router] = asker
        socket_path = router_config.socket_path(router)
        try:
            done = self._askers[router].ask(["-s", socket_path, *words], _ANSWER_TIMEOUT_S)
        except LabError:
            del self._askers[router]  # the next command starts a new program
            raise
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            text = f"{router}: routectl {' '.join(words)} ended with {done.returncode}: {said}"
            raise LabError(text)
        return done.stdout
