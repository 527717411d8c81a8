"""The listeners of management and metrics, opened by the parent and handed to the engine.

The file mode is 0666 on purpose: connect(2) needs write permission on the socket, and who may do
what is decided by the credentials that the kernel vouches for (`routed/control/policy.py`). A mode
that kept people out would hide the answer they need ("denied: reading needs the role read, which
... has") behind a bare "permission denied", and would be a second access list to forget.

A socket file outlives its owner. Whether one that is there is stale is asked by connecting: refused
means that nobody listens, and it is removed; accepted means that it is in use, and we stop.

Invariants:
    SO_PASSCRED is set before anybody can connect: accepted sockets inherit it, and a message sent
    before it was set would carry no credentials (unix(7)).
    Nothing but a socket is ever removed.

Failure: `ListenerError` with one sentence for the person who started the daemon.
"""

from __future__ import annotations

import os
import socket
import stat

from routed.config.scalars import ListenAddress

__all__ = [
    "MANAGEMENT_SOCKET_MODE",
    "ListenerError",
    "Listeners",
    "close_listener",
    "open_management_listener",
    "open_metrics_listener",
]

MANAGEMENT_SOCKET_MODE = 0o666

_BACKLOG = 128
"""Clients that may wait to be accepted; the kernel's default ceiling is 4096 (somaxconn)."""


class ListenerError(Exception):
    """The management socket cannot be opened there."""


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
        self._management = open_management_listener(management)
        self._metrics: socket.socket | None = None
        try:
            self._metrics = _open_metrics(metrics)
        except BaseException:
            close_listener(self._management)
            raise

    def copy_management(self) -> int:
        """A descriptor to hand over.

        Raises:
            OSError: none to spare.
        """
        return os.dup(self._management.fileno())

    def copy_metrics(self) -> int | None:
        """The same of metrics; None where they are not served.

        Raises:
            OSError: none to spare.
        """
        return None if self._metrics is None else os.dup(self._metrics.fileno())

    def prepare_metrics(self, metrics: ListenAddress | None) -> socket.socket | None:
        """Open another metrics listener beside the present one, for `replace_metrics`.

        Raises:
            ListenerError: it cannot be.
        """
        return _open_metrics(metrics)

    def replace_metrics(self, listener: socket.socket | None) -> None:
        """Serve metrics there from now on."""
        if self._metrics is not None:
            close_listener(self._metrics)
        self._metrics = listener

    def close(self) -> None:
        """Stop listening, and remove the socket files."""
        close_listener(self._management)
        self.replace_metrics(None)


def _open_metrics(where: ListenAddress | None) -> socket.socket | None:
    return None if where is None else open_metrics_listener(where.path, where.host, where.port)


def open_management_listener(path: str, mode: int = MANAGEMENT_SOCKET_MODE) -> socket.socket:
    """Listen at a path, taking over a socket that a dead daemon left there.

    The directory is made if it is missing (one level; /run is a tmpfs that starts empty).

    Args:
        path: absolute; at most 107 bytes (sockaddr_un).
        mode: permission bits of the socket file.

    Raises:
        ListenerError: in use, not a socket, or the system refuses; the text says which.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _make_directory(os.path.dirname(path))
        _remove_stale_socket(path, socket.SOCK_SEQPACKET, "management socket")
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(path)
        # Between bind and listen every connect is refused, so the mode that the umask left
        # never matters.
        os.chmod(path, mode)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenerError(f"management socket {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


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
        return _open_metrics_socket(path)
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


def _open_metrics_socket(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_directory(os.path.dirname(path))
        _remove_stale_socket(path, socket.SOCK_STREAM, "metrics socket")
        listener.bind(path)
        os.chmod(path, MANAGEMENT_SOCKET_MODE)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenerError(f"metrics socket {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def close_listener(listener: socket.socket) -> None:
    """Stop listening and remove the socket file, if there is one still."""
    path = listener.getsockname()
    is_file = listener.family == socket.AF_UNIX
    listener.close()
    if not is_file:
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # whoever removed it did our work


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        pass


def _remove_stale_socket(path: str, kind: int, what: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenerError(f"{what} {path}: there is something else of that name")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        # A full backlog of a living daemon must not make us wait.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass  # another type of socket, or too busy to accept: somebody lives there
    raise ListenerError(f"{what} {path}: in use; is another routed running?")
