"""Roles by credentials, and the requests that each role allows."""

from __future__ import annotations

import pytest

from ipc.control import REQUEST_CLASSES, ControlType, Role
from ipc.credentials import PeerCredentials
from routed.control.handlers import HANDLERS
from routed.control.policy import REQUIRED_ROLE, AccessList, is_allowed

ACCESS = AccessList.from_principals(
    read=[("user", 1000), ("group", 27)], admin=[("user", 0), ("group", 4)]
)


def caller(uid: int, *groups: int) -> PeerCredentials:
    return PeerCredentials(pid=1, uid=uid, gid=groups[0], groups=frozenset(groups))


@pytest.mark.parametrize(
    ("who", "role"),
    [
        (caller(0, 0), Role.ADMIN),
        (caller(1000, 1000), Role.READ),
        (caller(1001, 1001, 27), Role.READ),
        (caller(1001, 1001, 4), Role.ADMIN),
        (caller(1000, 1000, 4), Role.ADMIN),
        (caller(27, 1001), Role.NONE),
        (caller(65534, 65534), Role.NONE),
    ],
)
def test_the_highest_role_that_uid_or_groups_have_counts(who: PeerCredentials, role: Role) -> None:
    assert ACCESS.role_of(who) is role


def test_by_default_only_root_has_a_role() -> None:
    assert AccessList().role_of(caller(0, 0)) is Role.ADMIN
    assert AccessList().role_of(caller(1000, 0)) is Role.NONE


def test_root_has_no_role_that_the_configuration_does_not_give() -> None:
    assert AccessList(admin_uids=frozenset({7})).role_of(caller(0, 0)) is Role.NONE


def test_another_kind_of_principal_is_refused() -> None:
    with pytest.raises(ValueError, match="not 'host'"):
        AccessList.from_principals([("host", 1)], [])


def test_holders_are_named_for_people() -> None:
    assert ACCESS.holders(Role.READ) == "root, uid 1000, gid 4, gid 27"
    assert ACCESS.holders(Role.ADMIN) == "root, gid 4"
    assert AccessList(admin_uids=frozenset()).holders(Role.ADMIN) == "no user"


def test_every_request_has_a_role_and_a_handler_and_nothing_else_has() -> None:
    assert set(REQUIRED_ROLE) == set(REQUEST_CLASSES) == set(HANDLERS)


def test_no_request_is_open_to_everyone() -> None:
    assert Role.NONE not in REQUIRED_ROLE.values()


@pytest.mark.parametrize("request_type", list(REQUIRED_ROLE))
def test_a_role_allows_requests_that_need_it_or_a_lower_one(request_type: ControlType) -> None:
    required = REQUIRED_ROLE[request_type]
    assert [role for role in Role if is_allowed(request_type, role)] == [
        role for role in Role if role >= required
    ]


@pytest.mark.parametrize("number", [0, ControlType.HELLO, ControlType.ROWS, 9999])
def test_an_unknown_request_type_is_denied_even_to_admins(number: int) -> None:
    assert not is_allowed(number, Role.ADMIN)
