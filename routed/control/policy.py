"""Access control: credentials -> role -> the requests that the role allows.

Both steps are allow-lists: a user that is in no list has the role NONE, and a request that is not
in the table is denied to everyone. The engine cannot read /etc/passwd, so principals are numbers
here; root is the one name that needs no lookup.

The role is evaluated for every request, so a reload that revokes a right revokes it in open
sessions as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipc.control import ControlType, Role
from ipc.credentials import PeerCredentials
from ipc.lazy_dataclass import dataclass

__all__ = ["REQUIRED_ROLE", "AccessList", "is_allowed"]

REQUIRED_ROLE: dict[ControlType, Role] = {
    ControlType.SHOW_STATUS: Role.READ,
    ControlType.SHOW_NEIGHBORS: Role.READ,
    ControlType.SHOW_INTERFACES: Role.READ,
    ControlType.SHOW_ROUTES: Role.READ,
    ControlType.SHOW_ROUTE: Role.READ,
    ControlType.SHOW_FIB: Role.READ,
    ControlType.SHOW_COUNTERS: Role.READ,
    ControlType.SHOW_LOG: Role.READ,
    ControlType.SHOW_MEMORY: Role.READ,
    ControlType.SHOW_METRICS: Role.READ,
    ControlType.SHOW_RULES: Role.READ,
    ControlType.SHOW_BFD_SESSIONS: Role.READ,
    ControlType.SHOW_PROBES: Role.READ,
    ControlType.SHOW_NEXTHOPS: Role.READ,
    ControlType.SHOW_NUP_ROUTES: Role.READ,
    ControlType.SHOW_DATAPLANE: Role.READ,
    ControlType.SHOW_TRAFFIC: Role.READ,
    ControlType.SHOW_ROUTE_TRAFFIC: Role.READ,
    ControlType.SHOW_CONFIG: Role.READ,
    ControlType.SHOW_PROTOCOL: Role.READ,
    ControlType.TOPOLOGY: Role.READ,
    ControlType.EXPLAIN: Role.READ,
    ControlType.MONITOR: Role.READ,
    ControlType.SNAPSHOT_OPEN: Role.READ,
    ControlType.FIB: Role.ADMIN,
    ControlType.RELOAD: Role.ADMIN,
    ControlType.CONFIGURE: Role.ADMIN,
    ControlType.CLEAR_NEIGHBOR: Role.ADMIN,
    ControlType.CLEAR_TRAFFIC: Role.ADMIN,
    ControlType.LOG_LEVEL: Role.ADMIN,
    ControlType.RECORD: Role.ADMIN,
    ControlType.ROUTE_CHANGE: Role.ADMIN,
    ControlType.ROUTE_RENEW: Role.ADMIN,
}


@dataclass(frozen=True, slots=True)
class AccessList:
    """The principals of `management.read` and `management.admin`, as the kernel numbers them."""

    read_uids: frozenset[int] = frozenset()
    read_gids: frozenset[int] = frozenset()
    admin_uids: frozenset[int] = frozenset({0})
    admin_gids: frozenset[int] = frozenset()

    @classmethod
    def from_principals(
        cls, read: Iterable[tuple[str, int]], admin: Iterable[tuple[str, int]]
    ) -> AccessList:
        """Make an access list of principals.

        Args:
            read: (kind, id) pairs, the kind "user" or "group".
            admin: the same.

        Raises:
            ValueError: another kind (the caller's bug).
        """
        read_uids, read_gids = _split(read)
        admin_uids, admin_gids = _split(admin)
        return cls(read_uids, read_gids, admin_uids, admin_gids)

    def role_of(self, caller: PeerCredentials) -> Role:
        """Return the highest role of the caller's uid and groups."""
        if caller.uid in self.admin_uids or caller.groups & self.admin_gids:
            return Role.ADMIN
        if caller.uid in self.read_uids or caller.groups & self.read_gids:
            return Role.READ
        return Role.NONE

    def holders(self, role: Role) -> str:
        """List who has at least this role, for the text of a refusal: "root, uid 1000, gid 27"."""
        uids, gids = self.admin_uids, self.admin_gids
        if role is Role.READ:
            uids, gids = uids | self.read_uids, gids | self.read_gids
        names = ["root" if uid == 0 else f"uid {uid}" for uid in sorted(uids)]
        names += [f"gid {gid}" for gid in sorted(gids)]
        return ", ".join(names) or "no user"


def is_allowed(request_type: int, role: Role) -> bool:
    """Return whether a role allows a request; none allows a request that is not in the table."""
    required = REQUIRED_ROLE.get(request_type)  # type: ignore[call-overload]  # an int from a client
    return required is not None and role >= required


def _split(principals: Iterable[tuple[str, int]]) -> tuple[frozenset[int], frozenset[int]]:
    found: dict[str, set[int]] = {"user": set(), "group": set()}
    for kind, number in principals:
        if kind not in found:
            raise ValueError(f"a principal is a user or a group, not {kind!r}")
        found[kind].add(number)
    return frozenset(found["user"]), frozenset(found["group"])
