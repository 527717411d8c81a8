"""Payloads of RTM_NEWROUTE, as the kernel and `ip route save` write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from routed.model.prefix import Address, Prefix
from routed.netlink.message import (
    NLMSG_HEADER,
    RTM_NEWROUTE,
    RTMSG,
    RTNEXTHOP,
    Rta,
    pack_attribute,
    pack_u32_attribute,
)

__all__ = ["RouteForm", "saved_file"]

_LINK_SCOPE = 253
_MAGIC = 0x4531_1224


class RouteForm(NamedTuple):
    """A route, as far as tests vary it."""

    prefix: str
    via: str | None = None
    ifindex: int = 0
    kind: int = 1
    table: int = 254
    protocol: int = 4
    scope: int | None = None
    priority: int = 0
    flags: int = 0
    extra: tuple[bytes, ...] = ()
    """More attributes, encoded."""
    tos: int = 0
    source_bits: int = 0
    hops: tuple[tuple[str, int, int], ...] = ()
    """(gateway, ifindex, weight) of several next hops."""

    def payload(self) -> bytes:
        """Encode it."""
        prefix = Prefix.parse(self.prefix)
        scope = self.scope
        if scope is None:
            is_link = self.kind == 1 and not self.via and not self.hops and ":" not in self.prefix
            scope = _LINK_SCOPE if is_link else 0
        header = RTMSG.pack(
            prefix.family, prefix.prefix_len, self.source_bits, self.tos,
            self.table if self.table < 256 else 0, self.protocol, scope, self.kind, self.flags,
        )  # fmt: skip
        parts = [header, pack_u32_attribute(Rta.TABLE, self.table)]
        if prefix.prefix_len:
            parts.append(pack_attribute(Rta.DST, prefix.address.packed))
        if self.priority:
            parts.append(pack_u32_attribute(Rta.PRIORITY, self.priority))
        if self.via is not None:
            parts.append(_gateway(self.via, prefix))
        if self.ifindex:
            parts.append(pack_u32_attribute(Rta.OIF, self.ifindex))
        if self.hops:
            parts.append(pack_attribute(Rta.MULTIPATH, b"".join(map(_hop, self.hops))))
        return b"".join([*parts, *self.extra])


def _gateway(text: str, prefix: Prefix) -> bytes:
    address = Address.parse(text)
    if address.family is prefix.family:
        return pack_attribute(Rta.GATEWAY, address.packed)
    return pack_attribute(Rta.VIA, bytes((address.family, 0)) + address.packed)


def _hop(hop: tuple[str, int, int]) -> bytes:
    via, ifindex, weight = hop
    gateway = pack_attribute(Rta.GATEWAY, Address.parse(via).packed)
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(gateway), 0, weight - 1, ifindex) + gateway


def saved_file(payloads: Iterable[bytes]) -> bytes:
    """A file of `ip route save`."""
    file = _MAGIC.to_bytes(4, "little")
    for payload in payloads:
        length = NLMSG_HEADER.size + len(payload)
        file += NLMSG_HEADER.pack(length, RTM_NEWROUTE, 2, 1, 0) + payload
    return file
