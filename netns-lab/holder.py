"""The process that owns a lab: PID 1 of its PID namespace, which holds all its namespaces.

    testbed (or `lab.py up`)
      | starts, with the topology on stdin; one line of JSON on stdout: ready, or the error
    launcher    outside; unshares, forks, waits; its exit status is the holder's
      | fork
    holder      PID 1 inside; builds the topology, then answers requests (protocol.py)
      .
      . every daemon whose parent exits becomes a child of PID 1, and is reaped by it

When PID 1 ends, for any reason, the kernel kills every process of the PID namespace. With the last
of them it removes the mount namespace (the tmpfs with sockets, pid files and logs), the network
namespaces and their links. No clean-up is needed.

The holder ends when
- a client requests it (`stop`), or on SIGTERM,
- its lifeline becomes readable: a pipe whose other end its user holds open, and the kernel closes
  when that process dies (labs of `lab.py up` have none and stay),
- the launcher dies (PR_SET_PDEATHSIG, and a pidfd against the race before that is set).
The lifeline is not PR_SET_PDEATHSIG, because that watches one thread of the user, not the process.

As root only mount, PID, network and UTS namespaces are new. Otherwise a user namespace is created
first, in which the caller's uid is root and no other uid exists.

Failure: errors of the build are reported on stdout as {"error": TEXT}, with what to do about them.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import selectors
import signal
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netns
import privilege
import protocol
import topology
from builder import build
from netns import RouterNamespaces
from topology import Topology

__all__ = ["Holder"]

_HOLD = netns.CLONE_NEWNS | netns.CLONE_NEWPID | netns.CLONE_NEWNET | netns.CLONE_NEWUTS

Reply = tuple[dict[str, Any], list[int]]


class Holder:
    """The state of PID 1, and its answers. One thread, one request at a time."""

    def __init__(
        self,
        network: Topology,
        namespaces: dict[str, RouterNamespaces],
        *,
        is_rootless: bool,
    ) -> None:
        self._network = network
        self._namespaces = namespaces
        self._is_rootless = is_rootless
        kinds = ["mnt", "pid"]
        if is_rootless:
            # First, because only the owner may enter the others.
            kinds.insert(0, "user")
        self._common = {kind: netns.open_namespace(kind) for kind in kinds}
        self._run_directory = os.open(protocol.RUN_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        self._sends: list[int] = []
        self._is_stopping = False

    def serve(self, listener: socket.socket, endings: list[int]) -> None:
        """Answer clients until a `stop` request, or until one of `endings` becomes readable."""
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        for descriptor in endings:
            selector.register(descriptor, selectors.EVENT_READ)
        while not self._is_stopping:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    self._welcome(listener, selector)
                elif isinstance(key.fileobj, socket.socket):
                    self._answer(key.fileobj, selector)
                else:
                    return

    def _welcome(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        connection, _ = listener.accept()
        _, uid = protocol.peer_of(connection)
        if uid == os.getuid():
            selector.register(connection, selectors.EVENT_READ)
        else:
            connection.close()

    def _answer(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            request, descriptors = protocol.receive(connection)
            for descriptor in descriptors:
                os.close(descriptor)
            reply, attached = self._reply(request)
            protocol.send(connection, reply, attached)
        except (EOFError, OSError, ValueError):  # the client has disconnected, or is not ours
            selector.unregister(connection)
            connection.close()
        finally:
            for descriptor in self._sends:
                os.close(descriptor)
            self._sends.clear()

    def _reply(self, request: dict[str, Any]) -> Reply:
        try:
            match request:
                case {"do": "describe"}:
                    document = dict(self._network.document)
                    return {"topology": document, "is_rootless": self._is_rootless}, []
                case {"do": "namespaces", "of": str(router)}:
                    return self._descriptors_of(router)
                case {"do": "run_directory"}:
                    return {}, [self._run_directory]
                case {"do": "socket", "of": str(router), **options}:
                    return {}, [self._open_socket(router, options)]
                case {"do": "children", "pid": int(pid)}:
                    children = _children(pid)
                    return {"pids": children, "roles": [_role(child) for child in children]}, []
                case {"do": "signal", "pid": int(pid), "signal": int(number)}:
                    return {"found": _signal(pid, number)}, []
                case {"do": "stop"}:
                    self._is_stopping = True
                    return {}, []
            return {"error": f"no such request: {request}"}, []
        except KeyError as error:
            return {"error": f"there is no router {error}"}, []
        except OSError as error:
            return {"error": str(error)}, []

    def _descriptors_of(self, router: str) -> Reply:
        own = self._namespaces[router]
        kinds = [*self._common, "net", "uts"]
        return {"kinds": kinds}, [*self._common.values(), own.net_fd, own.uts_fd]

    def _open_socket(self, router: str, options: dict[str, Any]) -> int:
        numbers = [int(options[name]) for name in ("family", "type", "protocol")]
        with self._namespaces[router].inside():
            descriptor = socket.socket(*numbers).detach()
        self._sends.append(descriptor)  # closed after it is sent
        return descriptor


def _children(pid: int) -> list[int]:
    """Return the PIDs of the children of a process, from the lab's own /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        after_name = status.rpartition(")")[2].split()
        if int(after_name[1]) == pid:
            found.append(int(entry.name))
    return sorted(found)


def _role(pid: int) -> str:
    """Return the option `--role` of a process; empty if it has none or has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[words.index(b"--role") + 1].decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return ""


def _signal(pid: int, number: int) -> bool:
    """Send a signal (0 only checks). Returns whether the process exists."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _hold(
    name: str, network: Topology, listener: socket.socket, endings: list[int], *, is_rootless: bool
) -> None:
    """Run as PID 1: mount, build, report ready, serve. Returns when the lab should end."""
    netns.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the user of the lab
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel then reaps orphans by itself
    os.chdir("/")
    netns.mount("none", "/", "", netns.MS_REC | netns.MS_PRIVATE)
    harmless = netns.MS_NOSUID | netns.MS_NODEV
    netns.mount("proc", "/proc", "proc", harmless | netns.MS_NOEXEC)
    netns.mount("tmpfs", protocol.RUN_DIRECTORY, "tmpfs", harmless, "mode=0755")
    if not is_rootless:
        _add_engine_user()
    socket.sethostname(f"lab-{name}"[:63])
    namespaces = build(network)
    for node in network.nodes:
        Path(protocol.RUN_DIRECTORY, node).mkdir()
    holder = Holder(network, namespaces, is_rootless=is_rootless)
    listener.listen()
    _say({"ready": True})
    holder.serve(listener, endings)


def _add_engine_user() -> None:
    """Add the engines' user, in this lab's mount namespace only."""
    known = Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
    kept = [line for line in known if not line.startswith(f"{protocol.ENGINE_USER}:")]
    uid = protocol.ENGINE_UID
    kept.append(f"{protocol.ENGINE_USER}:x:{uid}:{uid}:routed's engine:/:/usr/sbin/nologin")
    passwd = Path(protocol.RUN_DIRECTORY, ".passwd")
    passwd.write_text("\n".join(kept) + "\n", encoding="utf-8")
    netns.mount(str(passwd), "/etc/passwd", "", netns.MS_BIND)


def _stop(_signal: int, _frame: types.FrameType | None) -> None:
    raise SystemExit(0)


def _say(message: dict[str, Any]) -> None:
    """Send one message to the process that started the lab, and close the pipe."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
    _close_output()


def _close_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _reporting(work: Callable[[], None]) -> int:
    """Run one half of the program; errors of this machine are reported on stdout. Returns the
    status."""
    try:
        work()
    except (OSError, topology.TopologyError, privilege.NotPermittedError) as error:
        _say({"error": str(error)})
        return 1
    except SystemExit:
        return 0
    return 0


def _listen_socket(name: str) -> socket.socket:
    """Bind the lab's name, before leaving the network namespace of its clients."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        listener.bind(protocol.address_of(name))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"a lab named {name!r} is up already") from error
        raise
    return listener


def _launch(name: str, document: object, endings: list[int]) -> int:
    """Unshare, fork the holder and wait for it. Returns its exit status."""
    network = topology.compute(document)
    listener = _listen_socket(name)
    is_rootless = privilege.enter(_HOLD)
    endings = [os.pidfd_open(os.getpid()), *endings]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _reporting(
                lambda: _hold(name, network, listener, endings, is_rootless=is_rootless)
            )
        finally:
            os._exit(status)  # the code below belongs to the launcher
    # Only the child answers from now on: copies here would keep its pipe and its name open.
    listener.close()
    _close_output()
    _, wait_status = os.waitpid(child, 0)
    return abs(os.waitstatus_to_exitcode(wait_status))


def main() -> int:
    """Run the launcher. Returns the exit status."""
    parser = argparse.ArgumentParser(description="hold a lab; started by testbed.py, not by hand")
    parser.add_argument("name")
    parser.add_argument("--lifeline", type=int, help="end when this descriptor becomes readable")
    options = parser.parse_args()
    endings = [] if options.lifeline is None else [options.lifeline]
    statuses: list[int] = []
    status = _reporting(
        lambda: statuses.append(_launch(options.name, json.load(sys.stdin), endings))
    )
    return statuses[0] if statuses else status


if __name__ == "__main__":
    sys.exit(main())
