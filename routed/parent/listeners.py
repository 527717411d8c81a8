"""The listeners of management and metrics, opened by the parent and handed to the engine.

The file mode is 0666 on purpose: connect(2) needs write permission on the socket, and who may do
what is decided by the credentials that the kernel vouches for (`routed/control/policy.py`). A mode
that kept people out would hide the answer they need ("denied: reading needs the role read, which
... has") behind a bare "permission denied", and would be a second access list to forget.

A socket file outlives its owner, and so does the socket, when an engine that was taken over has
handed a copy to another process. So nobody is asked by connect(2) whether a socket is in use: a
lock beside it (`PATH.lock`, held by the parent alone) decides, and each start binds a fresh socket
to `PATH.new` and renames it over the path. Clients of the path then reach this daemon, whoever
holds the old socket. The kernel goes on calling the socket by the name that it was bound to: `ss
-xl` says `PATH.new`. When an engine dies the next one gets fresh sockets too: a copy that the dead
one gave away could answer clients in the daemon's place.

Invariants:
    SO_PASSCRED is set before anybody can connect: accepted sockets inherit it, and a message sent
    before it was set would carry no credentials (unix(7)).
    SO_PASSRIGHTS is off before anybody can connect, where the kernel has it (Linux 6.16): accepted
    sockets inherit that too, and nobody can have us close a descriptor (`ipc/fdpass.py`).
    Nothing but a socket is ever removed or replaced.

Failure: `ListenerError` with one sentence for the person who started the daemon.
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
"""Clients that may wait to be accepted; the kernel's default ceiling is 4096 (somaxconn)."""

_NEW = ".new"
"""What a path ends in while its socket is made; `config/scalars.py` leaves room for it."""


class ListenerError(Exception):
    """The management socket cannot be opened there."""


class Listener:
    """One listening socket and, where it has a path, the lock of that path."""

    def __init__(
        self, open_socket: Callable[[], socket.socket], lock: LockFile | None, closer: Closer
    ) -> None:
        """Listen.

        Args:
            open_socket: opens it, now and again for `renew`.
            lock: of its path; owned from now on.
            closer: closes the socket with those in its queue.

        Raises:
            ListenerError: it cannot be opened; the lock is still the caller's.
        """
        self._open_socket = open_socket
        self._closer = closer
        self._socket = open_socket()
        self._lock = lock

    def copy(self) -> int:
        """A descriptor to hand over.

        Raises:
            OSError: none to spare.
        """
        return os.dup(self._socket.fileno())

    def renew(self) -> None:
        """Listen with a fresh socket; the old one ends, whoever holds a copy.

        Raises:
            ListenerError: it cannot be; the old one may still listen.
        """
        old = self._socket
        if old.family != socket.AF_UNIX:
            _end(old)  # its port must be free first
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
    """Owns both listening sockets, for as long as the daemon lives: engines get copies."""

    def __init__(self, management: str, metrics: ListenAddress | None) -> None:
        """Open what the configuration names.

        Args:
            management: path of the management socket, absolute.
            metrics: where scrapers find us, if anywhere.

        Raises:
            ListenerError: one of them cannot be; nothing is left open.
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
        """A descriptor to hand over.

        Raises:
            OSError: none to spare.
        """
        return self._management.copy()

    def copy_metrics(self) -> int | None:
        """The same of metrics; None where they are not served.

        Raises:
            OSError: none to spare.
        """
        return None if self._metrics is None else self._metrics.copy()

    def renew(self) -> list[str]:
        """Listen with fresh sockets, since an engine may have handed copies of its own to others.

        Clients that connect from now on wait for the next engine.

        Returns:
            What could not be renewed, and why.
        """
        problems: list[str] = []
        for listener in filter(None, (self._management, self._metrics)):
            try:
                listener.renew()
            except ListenerError as error:
                problems.append(str(error))
        return problems

    def prepare_metrics(self, metrics: ListenAddress | None) -> Listener | None:
        """Open another metrics listener beside the present one, for `replace_metrics`.

        Raises:
            ListenerError: it cannot be.
        """
        if metrics is None:
            return None

        def open_socket() -> socket.socket:
            return open_metrics_listener(metrics.path, metrics.host, metrics.port)

        if not metrics.path:
            return Listener(open_socket, None, self._closer)
        return self._open_locked(metrics.path, "metrics socket", open_socket)

    def replace_metrics(self, listener: Listener | None) -> None:
        """Serve metrics there from now on."""
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
        """Listen at a path that no other daemon has.

        Raises:
            ListenerError: another daemon has it, or it cannot be opened.
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
    """Have a socket listen no more, in every process that holds it."""
    with contextlib.suppress(OSError):  # ENOTCONN: it does not listen already
        listener.shutdown(socket.SHUT_RDWR)


def open_management_listener(path: str, mode: int = MANAGEMENT_SOCKET_MODE) -> socket.socket:
    """Listen at a path with a fresh socket, in place of the one that is there.

    The directory is made if it is missing (one level; /run is a tmpfs that starts empty). Whoever
    calls this has made sure that no living daemon has the path.

    Args:
        path: absolute; at most 103 bytes (sockaddr_un, and room for a suffix).
        mode: permission bits of the socket file.

    Raises:
        ListenerError: something else is there, or the system refuses; the text says which.
    """
    return _listen_at(path, socket.SOCK_SEQPACKET, "management socket", mode)


def open_metrics_listener(path: str, host: str, port: int) -> socket.socket:
    """Listen for scrapers.

    Args:
        path: of a Unix socket, absolute; empty for a port.
        host: a loopback address, in numbers.
        port: of it.

    Raises:
        ListenerError: in use, or the system refuses; the text says which.
    """
    if path:
        return _listen_at(path, socket.SOCK_STREAM, "metrics socket", MANAGEMENT_SOCKET_MODE)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A daemon that restarts must not wait for the last scrape's TIME_WAIT.
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
            os.unlink(fresh)  # a start that was killed here has left it
        if kind is socket.SOCK_SEQPACKET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        refuse_descriptors(listener)
        listener.bind(fresh)
        # Nobody looks for it by this name, and until it listens every connect is refused: the mode
        # that the umask left never matters.
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
    """Stop listening and remove the socket file, if there is one still."""
    try:
        _remove_file(listener)
    finally:
        listener.close()


def _remove_file(listener: socket.socket) -> None:
    """Remove the socket file of a listener, if it has one still."""
    if listener.family != socket.AF_UNIX:
        return
    path: str = listener.getsockname()
    # FileNotFoundError: whoever removed it did our work.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path.removesuffix(_NEW))


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        pass


def _check_is_socket(path: str, what: str) -> bool:
    """Whether a socket is there; what else may be there is not ours to replace."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenerError(f"{what} {path}: there is something else of that name")
    return True
