"""Checks of `bfd` that need several values: sessions, their keys, and their users. Pure.

See `check` for how a problem is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from routed.config.bfd import BfdConfig, BfdSessionConfig
from routed.config.nup import KeyConfig
from routed.config.route_options import StaticType
from routed.config.static import StaticConfig
from routed.model.bfd import BFD_SESSIONS_MAX
from routed.model.martians import Martian, find_martian
from routed.model.prefix import Address, Family

__all__ = ["bfd_key_sets", "bfd_problems", "static_problems"]

Problem = tuple[str, str]
KeySets = Sequence[tuple[str, Sequence[tuple[int, KeyConfig]]]]
"""By name, the keys that are right in themselves, each with its index in the file."""


def bfd_key_sets(key_sets: KeySets) -> frozenset[str]:
    """Return the names of the sets with a key for BFD."""
    return frozenset(
        name for name, keys in key_sets if any(key.algorithm.is_for_bfd for _, key in keys)
    )


def bfd_problems(
    bfd: BfdConfig, key_sets: KeySets, key_names: frozenset[str] | None
) -> Iterator[Problem]:
    """Find sessions that cannot be, sessions that are the same, and keys that BFD cannot use.

    Args:
        bfd: the section.
        key_sets: of `keys`.
        key_names: every name in `keys`; None when they could not be read.
    """
    # An item that could not be read is None, or the whole list is.
    sessions = [session for session in bfd.sessions or () if session is not None]
    if len(sessions) > BFD_SESSIONS_MAX:
        yield "bfd.sessions", f"{len(sessions)} sessions; the maximum is {BFD_SESSIONS_MAX}"
    seen: dict[object, str] = {}
    keys = dict(key_sets)
    for session in sessions:
        path = f"bfd.sessions.{session.name}"
        yield from _address_problems(path, session)
        if (first := seen.get(session.identity)) is not None:
            yield f"{path}.peer", f"the same session as {first}; several users may name it"
        seen.setdefault(session.identity, session.name)
        if session.key is not None and key_names is not None:
            yield from _key_problems(f"{path}.key", session.key, keys.get(session.key))


def _address_problems(path: str, session: BfdSessionConfig) -> Iterator[Problem]:
    peer, source = session.peer, session.source
    for option, address in (("peer", peer), ("source", source)):
        if address is None:
            continue
        martian = find_martian(address.host_prefix())
        if martian not in (None, Martian.LINK_LOCAL):
            yield f"{path}.{option}", f"{address} cannot be a system's address ({martian.value})"
        if _is_of_a_link(address) and session.interface is None:
            yield f"{path}.{option}", f"{address} is link-local: name the `interface`"
    if source is not None and source.family is not peer.family:
        yield f"{path}.source", "is of another family than `peer`"
    if source == peer:
        yield f"{path}.source", "is the address of the other system"
    if _is_of_a_link(peer) and session.multihop:
        yield f"{path}.multihop", f"{peer} is link-local: no router forwards packets to it"


def _is_of_a_link(address: Address) -> bool:
    """Whether an address means nothing without its link, as that of IPv6 does."""
    return address.family is Family.IPV6 and address.is_link_local


def _key_problems(
    path: str, name: str, keys: Sequence[tuple[int, KeyConfig]] | None
) -> Iterator[Problem]:
    if keys is None:
        yield path, f"`keys` has no {name!r}"
    elif len(keys) > 1:
        yield path, f"{name!r} has {len(keys)} keys; a session uses one"
    elif not all(key.algorithm.is_for_bfd for _, key in keys):
        yield (
            path,
            f"the key of {name!r} is for NUP; BFD knows the algorithms password, keyed-sha1 and "
            "meticulous-keyed-sha1",
        )


def static_problems(
    bfd: BfdConfig, statics: Iterable[tuple[int, StaticConfig]]
) -> Iterator[Problem]:
    """Find static routes and next hops that name a session which is not there, or needlessly."""
    names = {session.name for session in bfd.sessions or () if session is not None}
    for index, static in statics:
        path = f"static[{index}]"
        named = [(f"{path}.bfd", static.bfd)]
        named += [
            (f"{path}.next_hops[{position}].bfd", hop.bfd)
            for position, hop in enumerate(static.next_hops or ())
            if hop is not None
        ]
        for where, name in named:
            if name is not None and name not in names:
                known = f"; there is {', '.join(sorted(names))}" if names else "; it is empty"
                yield where, f"`bfd.sessions` has no {name!r}{known}"
        if static.bfd is None:
            continue
        if static.next_hops:
            yield f"{path}.bfd", "name the session at each of `next_hops`"
        elif static.type is not StaticType.UNICAST:
            yield f"{path}.bfd", f"a {static.type.value} route has no next hop"
