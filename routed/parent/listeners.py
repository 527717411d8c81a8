"""The listening sockets for management and metrics, which the parent opens for the engine.

The file mode is 0666 on purpose: connect(2) needs write permission on the socket, and access is
decided by the credentials from the kernel (`routed.control.policy`). A stricter mode would replace
a helpful answer ("denied: reading needs the role read, which ... has") by "permission denied", and
it would be a second access list, which is easily forgotten.

A socket file outlives the process that created it. So does the socket itself, if a compromised
engine has passed a copy to another process. Hence connect(2) is not used to find out whether a
socket is in use. A lock in the same directory (`PATH.lock`, held by the parent alone) decides that,
and each start binds a fresh socket to `PATH.new` and renames it to the path. Clients then reach
this daemon, even if another process holds the old socket. The kernel keeps the name to which the
socket was bound: `ss -xl` shows `PATH.new`. When an engine dies the next one gets fresh sockets as
well: otherwise a process with a copy from the dead engine could answer clients in the daemon's
place.

Invariants:
    SO_PASSCRED is set before a client can connect: accepted sockets inherit it, and a message that
    was sent before it was set would carry no credentials (unix(7)).
    SO_PASSRIGHTS is off before a client can connect, where the kernel has it (Linux 6.16): accepted
    sockets inherit that as well, and no client can make the daemon close a descriptor
    (`ipc.fdpass`).
    Only sockets are removed or replaced.

Failure: `ListenerError` with one sentence for the user who starts the daemon.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable

from ipc.closing import Closer
from ipc.fdpass import refuse_descriptors
from routed.config.scalars import ListenAddress
from routed.parent.lockfile import LockFile, LockHeldError, LockRefusedError

__all__ = [
    "MANAGEMENT_SOCKET_MODE",
    "Listener",
    "ListenerError",
    "Listeners",
    "close_listener",
    "open_management_listener",
    "open_metrics_listener",
]

MANAGEMENT_SOCKET_MODE = 0o666

_BACKLOG = 128
"""The most clients that wait to be accepted; the kernel's default limit is 4096 (somaxconn)."""

_NEW = ".new"
"""The suffix of a path while its socket is created; `routed.config.scalars` reserves its length."""


class ListenerError(Exception):
    """A listening socket cannot be opened; the message says which, and why."""


class Listener:
    """A listening socket and, if it has a path, the lock of that path."""

    def __init__(
        self, open_socket: Callable[[], socket.socket], lock: LockFile | None, closer: Closer
    ) -> None:
        """Open the socket.

        Args:
            open_socket: opens the socket, now and for each `renew`.
            lock: the lock of its path, which this object owns from now on; None without a path.
            closer: closes the socket and the connections in its queue.

        Raises:
            ListenerError: the socket cannot be opened; the caller still owns the lock.
        """
        self._open_socket = open_socket
        self._closer = closer
        self._socket = open_socket()
        self._lock = lock

    def copy(self) -> int:
        """Return a new descriptor of the socket, which the caller owns.

        Raises:
            OSError: there is no free descriptor.
        """
        return os.dup(self._socket.fileno())

    def renew(self) -> None:
        """Replace the socket by a fresh one; the old one stops listening in all processes.

        Raises:
            ListenerError: no fresh socket can be opened; the old one may still listen.
        """
        old = self._socket
        if old.family != socket.AF_UNIX:
            _end(old)  # frees its port for the fresh one
        self._socket = self._open_socket()
        _end(old)
        self._closer.close_connection(old)

    def close(self) -> None:
        """Stop listening, and remove the socket file and its lock."""
        try:
            _remove_file(self._socket)
        finally:
            self._closer.close_connection(self._socket)
            if self._lock is not None:
                self._lock.remove()


class Listeners:
    """The owner of both listening sockets, from start to stop; engines get copies."""

    def __init__(self, management: str, metrics: ListenAddress | None) -> None:
        """Open the sockets.

        Args:
            management: path of the management socket, absolute.
            metrics: address of the metrics endpoint; None if metrics are not served.

        Raises:
            ListenerError: a socket cannot be opened; nothing is left open.
        """
        self._closer = Closer()
        self._management = self._open_locked(
            management, "management socket", lambda: open_management_listener(management)
        )
        self._metrics: Listener | None = None
        try:
            self._metrics = self.prepare_metrics(metrics)
        except BaseException:
            self._management.close()
            raise

    def copy_management(self) -> int:
        """Return a new descriptor of the management socket, which the caller owns.

        Raises:
            OSError: there is no free descriptor.
        """
        return self._management.copy()

    def copy_metrics(self) -> int | None:
        """Return a new descriptor of the metrics socket, which the caller owns.

        Returns:
            The descriptor; None if metrics are not served.

        Raises:
            OSError: there is no free descriptor.
        """
        return None if self._metrics is None else self._metrics.copy()

    def renew(self) -> list[str]:
        """Replace both sockets by fresh ones, because an engine may have passed copies to others.

        Clients that connect from now on wait for the next engine.

        Returns:
            A message for each socket that could not be replaced.
        """
        problems: list[str] = []
        for listener in filter(None, (self._management, self._metrics)):
            try:
                listener.renew()
            except ListenerError as error:
                problems.append(str(error))
        return problems

    def prepare_metrics(self, metrics: ListenAddress | None) -> Listener | None:
        """Open another metrics socket for `replace_metrics`; the present one stays open.

        Args:
            metrics: its address; None opens no socket and returns None.

        Raises:
            ListenerError: the socket cannot be opened.
        """
        if metrics is None:
            return None

        def open_socket() -> socket.socket:
            return open_metrics_listener(metrics.path, metrics.host, metrics.port)

        if not metrics.path:
            return Listener(open_socket, None, self._closer)
        return self._open_locked(metrics.path, "metrics socket", open_socket)

    def replace_metrics(self, listener: Listener | None) -> None:
        """Serve metrics on this socket from now on, and close the present one."""
        if self._metrics is not None:
            self._metrics.close()
        self._metrics = listener

    def close(self) -> None:
        """Stop listening, and remove the socket files."""
        self._management.close()
        self.replace_metrics(None)

    def _open_locked(
        self, path: str, what: str, open_socket: Callable[[], socket.socket]
    ) -> Listener:
        """Lock a path and listen at it.

        Raises:
            ListenerError: another daemon has the path, or the socket cannot be opened.
        """
        lock = _lock(path, what)
        try:
            return Listener(open_socket, lock, self._closer)
        except BaseException:
            lock.remove()
            raise


def _lock(path: str, what: str) -> LockFile:
    try:
        _make_directory(os.path.dirname(path))
        return LockFile(f"{path}.lock", f"{os.getpid()}\n")
    except LockHeldError as error:
        raise ListenerError(
            f"{what} {path}: in use; is another routed running? {error.holder} holds {path}.lock"
        ) from error
    except LockRefusedError as error:
        raise ListenerError(f"{what} {path}: {error}") from error
    except OSError as error:
        raise ListenerError(f"{what} {path}: {error.strerror or error}") from error


def _end(listener: socket.socket) -> None:
    """Make a socket stop listening, in every process that holds it."""
    with contextlib.suppress(OSError):  # ENOTCONN: it has stopped listening already
        listener.shutdown(socket.SHUT_RDWR)


def open_management_listener(path: str, mode: int = MANAGEMENT_SOCKET_MODE) -> socket.socket:
    """Listen at a path with a fresh socket, which replaces a socket that has this path.

    The directory is created if it is missing (one level, because /run is empty after a boot). The
    caller has made sure that no other daemon uses the path.

    Args:
        path: absolute path; at most 103 bytes (sockaddr_un, less the length of a suffix).
        mode: permission bits of the socket file.

    Raises:
        ListenerError: the path is not a socket, or the system refuses; the message says which.
    """
    return _listen_at(path, socket.SOCK_SEQPACKET, "management socket", mode)


def open_metrics_listener(path: str, host: str, port: int) -> socket.socket:
    """Listen for clients of the metrics endpoint.

    Args:
        path: absolute path of a Unix socket; empty for a TCP port.
        host: a numeric loopback address.
        port: the TCP port.

    Raises:
        ListenerError: the address is in use, or the system refuses; the message says which.
    """
    if path:
        return _listen_at(path, socket.SOCK_STREAM, "metrics socket", MANAGEMENT_SOCKET_MODE)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted daemon must not have to wait for the TIME_WAIT of the last connection.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenerError(f"metrics at {host} port {port}: {error.strerror}") from error
    return listener


def _listen_at(path: str, kind: socket.SocketKind, what: str, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        _make_directory(os.path.dirname(path))
        fresh = path + _NEW
        _check_is_socket(path, what)
        if _check_is_socket(fresh, what):
            os.unlink(fresh)  # left by a daemon that was killed between bind and rename
        if kind is socket.SOCK_SEQPACKET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        refuse_descriptors(listener)
        listener.bind(fresh)
        # No client uses this name, and before listen(2) every connect is refused: the mode that
        # results from the umask has no effect.
        os.chmod(fresh, mode)
        listener.listen(_BACKLOG)
        os.rename(fresh, path)
    except OSError as error:
        listener.close()
        raise ListenerError(f"{what} {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def close_listener(listener: socket.socket) -> None:
    """Stop listening, and remove the socket file if it still exists."""
    try:
        _remove_file(listener)
    finally:
        listener.close()


def _remove_file(listener: socket.socket) -> None:
    """Remove the socket file of a listener, if it still exists."""
    if listener.family != socket.AF_UNIX:
        return
    path: str = listener.getsockname()
    # FileNotFoundError: the file has been removed already.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path.removesuffix(_NEW))


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        pass


def _check_is_socket(path: str, what: str) -> bool:
    """Whether a path is a socket; False if nothing is there.

    Raises:
        ListenerError: the path is something else, which must not be replaced.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenerError(f"{what} {path}: a file of that name exists and is not a socket")
    return True
