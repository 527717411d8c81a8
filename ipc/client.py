"""Python client of routed: queries, and injection of routes that end with the program.

    from ipc.client import Client

    with Client() as routed:
        routed.replace("192.0.2.1/32", dev="lo", lease="session")
        ...                        # announced as long as this block runs, and no longer

Blocking; `ipc.trio_client.TrioClient` has the same methods for trio. One connection, made when it
is first needed and again after the daemon has ended. Routes leased for the session are removed
with the old connection, so a program that must stay announced calls `replace` from time to time, as
a health check does anyway (docs/injection.md has one).

Failure: `ControlError` and its subclasses `DaemonUnreachable` and `Denied`, from `ipc.blocking`,
with a text for the user; `ValueError` for arguments that cannot form a request.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack, cast

from ipc.blocking import (
    DEFAULT_TIMEOUT_S,
    ControlClient,
    ControlError,
    DaemonUnreachable,
    Denied,
    Row,
)
from ipc.control import (
    DEFAULT_SOCKET,
    Request,
    ResultCode,
    RouteOperation,
    RouteRenew,
    ShowNeighbors,
    ShowRoute,
    ShowRoutes,
    ShowStatus,
)
from ipc.requests import (
    LeaseTerm,
    NextHop,
    Route,
    RouteOptions,
    change_requests,
    change_route,
    delete_route,
)

if TYPE_CHECKING:
    from ipc.rows import NeighborRow, RouteRow, StatusRow

__all__ = [
    "Client",
    "ControlError",
    "DaemonUnreachable",
    "Denied",
    "LeaseTerm",
    "NextHop",
    "Route",
    "RouteOptions",
]


class Client:
    """One program's connection to routed."""

    def __init__(
        self,
        socket_path: str = DEFAULT_SOCKET,
        *,
        owner: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            socket_path: path of the daemon's socket.
            owner: distinguishes this program's routes from those of the user's other programs;
                letters, digits and _ . : - (not used with the lease "session", which is a separate
                owner).
            timeout_s: longest wait for a message, in seconds, above 0.
        """
        self._control = ControlClient(socket_path, timeout_s=timeout_s)
        self._owner = owner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection: routes leased for the session are removed."""
        self._control.close()

    # --- injected routes

    def add(self, prefix: str, **route: Unpack[RouteOptions]) -> None:
        """Inject a route that this owner does not have yet.

        Args:
            prefix: ADDRESS/LENGTH, or an address alone for a host route.
            **route: via, dev, next_hops, type, metric, tag, lease; `ipc.requests.RouteOptions`
                describes each.

        Raises:
            ControlError: the daemon rejected the request; nothing has changed.
            ValueError: the arguments do not form a route.
            TypeError: an unknown keyword.
        """
        self._done(change_route(RouteOperation.ADD, prefix, self._owner, route))

    def replace(self, prefix: str, **route: Unpack[RouteOptions]) -> None:
        """Inject a route, replacing the owner's route of this prefix, and renew its lease.

        A repeated call changes only the lease, so it suits periodic checks.
        Arguments and errors are those of `add`.
        """
        self._done(change_route(RouteOperation.REPLACE, prefix, self._owner, route))

    def delete(self, prefix: str) -> None:
        """Delete a route that this program injected: the session's route first, else the owner's.

        Raises:
            ControlError: there is none (code `not_found`).
        """
        self._done(delete_route(prefix, self._owner))

    def replace_many(self, routes: Iterable[Route], *, lease: LeaseTerm = None) -> int:
        """Inject many routes, in atomic batches of some thousands.

        Returns:
            The number of routes.

        Raises:
            ControlError: a batch was refused; the text names the first wrong route. The batches
                before it are applied, and one after it may be.
            ValueError: a route is wrong, or has the prefix of an earlier one. The batches before
                it are applied.

        Cost: about 2.5 us a route here; a million takes seconds.
        """
        positions: list[list[int]] = []
        done = 0

        def requests() -> Iterable[Request]:
            batches = change_requests(RouteOperation.REPLACE, routes, lease, self._owner)
            try:
                for request, of_these in batches:
                    positions.append(of_these)
                    yield request
            except ValueError:
                if positions:  # their answers will not be read
                    self._control.close()
                raise

        for result, rows in self._control.exchange(requests()):
            batch = positions.pop(0)
            if result.code is not ResultCode.OK:
                self._control.close()
                number = rows[0].get("route") if rows else None
                where = f"route {batch[number]}: " if isinstance(number, int) else ""
                error = ControlError.of_result(result)
                raise ControlError(error.code, where + error.text, error.exit_status)
            done += len(batch)
        return done

    def renew(self, lease_s: float) -> None:
        """Renew every timed lease of this owner, with one request for any number of routes.

        Raises:
            ControlError: there are none (code `not_found`): they have ended already.
        """
        self._done(RouteRenew(lease_s, self._owner))

    # --- what there is

    # A cast states what the daemon promises (docs/json.md); rows are not verified here.

    def status(self) -> StatusRow:
        """Return the state of the daemon as a whole; fields as of `routectl show status --json`."""
        return cast("StatusRow", self._rows(ShowStatus())[0])

    def neighbors(self) -> list[NeighborRow]:
        """Return the neighbors; fields as of `routectl show neighbors --json`."""
        return cast("list[NeighborRow]", self._rows(ShowNeighbors()))

    def routes(
        self, prefix: str | None = None, *, is_longer: bool = False, source: str | None = None
    ) -> list[RouteRow]:
        """Return candidates, in prefix order; fields as of `routectl show routes --json`.

        Args:
            prefix: only this prefix.
            is_longer: with `prefix`, everything inside it.
            source: connected, static, injected, ...
        """
        return cast("list[RouteRow]", self._rows(ShowRoutes(None, prefix, is_longer, source)))

    def route(self, address: str) -> list[RouteRow]:
        """Return the candidates of the longest prefix that covers an address, the selected one
        first.

        Raises:
            ControlError: no prefix covers it (code `not_found`).
        """
        return cast("list[RouteRow]", self._rows(ShowRoute(address)))

    # --- inside

    def _done(self, request: Request) -> None:
        self._control.ask(request).result()

    def _rows(self, request: Request) -> list[Row]:
        return list(self._control.ask(request).rows())
