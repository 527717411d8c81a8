"""The servers for clients: the management socket and the metrics endpoint."""

from __future__ import annotations

import socket

import trio

from ipc.control import Role
from ipc.credentials import PeerCredentials
from routed.config.schema import ManagementConfig, MetricsConfig
from routed.control.policy import AccessList
from routed.control.server import ManagementServer
from routed.engine.router import Router
from routed.engine.show.daemon import Reporter
from routed.log.logger import Logger
from routed.metrics.server import MetricsServer

__all__ = ["ClientServers"]


class ClientServers:
    """Owns the servers, which begin when the parent hands over their sockets."""

    def __init__(
        self, nursery: trio.Nursery, router: Router, reporter: Reporter, log: Logger
    ) -> None:
        """Begin without servers.

        Args:
            nursery: runs the servers.
            router: has the configuration in force, and what metrics are made of.
            reporter: answers the clients.
            log: for refused and failed requests.
        """
        self._nursery = nursery
        self._router = router
        self._reporter = reporter
        self._log = log
        self._management: ManagementServer | None = None
        self._metrics: MetricsServer | None = None

    def serve_management(self, listener: socket.socket) -> None:
        """Serve the management socket."""
        self._management = ManagementServer(
            listener,
            self._reporter,
            _access_list(self._router.config.management),
            self._log_management,
        )
        self._nursery.start_soon(self._management.run)

    def serve_metrics(self, listener: socket.socket) -> None:
        """Serve the metrics endpoint, in place of an earlier one."""
        self._stop_metrics()
        self._metrics = MetricsServer(
            listener,
            self._reporter.exposition,
            may_read=self._may_read,
            on_defect=lambda error: self._log.emit("internal-error", where="metrics", error=error),
        )
        self._nursery.start_soon(self._metrics.run)

    def apply(self, management: ManagementConfig, metrics: MetricsConfig) -> None:
        """Apply another configuration. A moved endpoint gets its socket later."""
        if self._management is not None:
            self._management.set_access(_access_list(management))
        if metrics.listen is None:
            self._stop_metrics()

    def _may_read(self, caller: PeerCredentials) -> bool:
        return _access_list(self._router.config.management).role_of(caller) >= Role.READ

    def _stop_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.stop()
            self._metrics = None

    def _log_management(self, event: str, fields: dict[str, str]) -> None:
        self._log.write(event, fields, "engine")


def _access_list(management: ManagementConfig) -> AccessList:
    return AccessList.from_principals(
        [(principal.kind.value, principal.id) for principal in management.read],
        [(principal.kind.value, principal.id) for principal in management.admin],
    )
