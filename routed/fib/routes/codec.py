"""Route <-> rtnetlink bytes: an encoder and decoder optimised for the daemon's main work.

The layout of the headers is drawn in `netlink/message.py`.

Normalisation, so that a route that is read equals the route that was written:
    next hops are sorted; weight is rtnh_hops + 1; a type without next hops has none, although the
    kernel reports IPv6 ones on `lo`; IPv6 priority 0 is 1024; a route through a nexthop object has
    the object's id and nothing else, although the kernel may add what the object resolves to
    (net.ipv4.nexthop_compat_mode).

Attributes besides type and next hops are in `attributes_codec.py`; the scope is one of them where
it is not the usual one (`ownership.scope_of`). What a route has beyond them (an encapsulation, say)
makes its value a different one (`RouteValue.is_altered`), so that our routes are written again.

This module handles one message at a time, `routes/bulk.py` columns of them. Property tests compare
both with pyroute2's message classes.

Failure: `NetlinkDecodeError` for bytes that are not a route message; the kernel sends none, so it
is logged and the table is read again.

Sources: rtnetlink(7), linux/rtnetlink.h, linux/netlink.h; RTA_VIA as in RFC 5549's Linux support.
"""

from __future__ import annotations

import struct

from routed.fib.routes.attributes_codec import (
    MIXED_REALMS,
    decode_attributes,
    encode_attributes,
    encode_realm,
)
from routed.fib.routes.ownership import (
    IPV6_DEFAULT_PRIORITY,
    KernelRoute,
    RouteKey,
    RouteValue,
    TableKey,
    scope_of,
)
from routed.fib.routes.plan import OpKind
from routed.model.kernel_attributes import NONE
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.netlink.message import (
    ERRNO,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_HEADER,
    NLMSG_NOOP,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTMSG,
    RTNEXTHOP,
    NetlinkDecodeError,
    NetlinkMessage,
    Rta,
    attributes,
    decode_error,
    decode_multipath,
    decode_u32,
    decode_via,
    pack_attribute,
    pack_message,
    pack_u32_attribute,
)

__all__ = [
    "DESTINATION_OFFSET",
    "PREFIX_LEN_OFFSET",
    "RTNH_F_ONLINK",
    "decode_end",
    "decode_route",
    "encode_barrier",
    "encode_route_dump",
    "encode_template",
    "may_share_metrics",
]


_RTM_F_CLONED = 0x200
RTNH_F_ONLINK = 4
_RT_SCOPE_NOWHERE = 255
_RT_TABLE_UNSPEC = 0


PREFIX_LEN_OFFSET = NLMSG_HEADER.size + 1
DESTINATION_OFFSET = NLMSG_HEADER.size + RTMSG.size + 4

_OPERATION_HEADERS = {
    OpKind.INSTALL: (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL),
    OpKind.REPLACE: (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_REPLACE),
    OpKind.REMOVE: (RTM_DELROUTE, NLM_F_REQUEST),
}
_FAMILIES = {int(family): family for family in Family}
_ROUTE_TYPES = {int(route_type): route_type for route_type in RouteType}


def _encode_via(family: Family, via: Address) -> bytes:
    if via.family is family:
        return pack_attribute(Rta.GATEWAY, via.packed)
    return pack_attribute(Rta.VIA, struct.pack("=H", via.family) + via.packed)


def _encode_next_hops(family: Family, next_hops: tuple[NextHop, ...], realm: bytes) -> bytes:
    if len(next_hops) == 1:
        hop = next_hops[0]
        via = _encode_via(family, hop.via) if hop.via is not None else b""
        return via + pack_u32_attribute(Rta.OIF, hop.ifindex)
    hops = []
    for hop in next_hops:
        inner = (_encode_via(family, hop.via) if hop.via is not None else b"") + realm
        flags = RTNH_F_ONLINK if hop.is_onlink else 0
        length = RTNEXTHOP.size + len(inner)
        hops.append(RTNEXTHOP.pack(length, flags, hop.weight - 1, hop.ifindex) + inner)
    return pack_attribute(Rta.MULTIPATH, b"".join(hops))


def may_share_metrics(value: RouteValue) -> bool:
    """Whether other routes could get the metrics of a route, which has some (`encode_template`)."""
    others = value.attributes
    has_metrics = value.is_altered or (others is not None and others.has_metrics)
    return bool(value.nexthop_id) and has_metrics


def encode_template(
    kind: OpKind,
    table_key: TableKey,
    value: RouteValue | None,
    protocol: int,
    *,
    has_metrics_nearby: bool = False,
) -> bytes:
    """Encode one request with the prefix and the sequence number set to zero.

    The destination is the first attribute, so its bytes are at DESTINATION_OFFSET, the length of
    the prefix at PREFIX_LEN_OFFSET and the sequence number at SEQUENCE_OFFSET.

    Args:
        kind: the operation.
        table_key: table, family, TOS and priority of the route.
        value: the value to install; None for a removal.
        protocol: our rtm_protocol; a removal carries it, too, so that the kernel refuses to remove
            a foreign route that replaced ours.
        has_metrics_nearby: whether the kernel may have other IPv4 routes of ours for which
            `may_share_metrics` is true.

    A new IPv4 route through an object shares what Linux keeps for a route with the same object,
    source, scope, type, protocol, priority and table. Metrics are compared only if the message has
    RTA_METRICS, so a route without metrics could get the MTU of another one. An empty RTA_METRICS
    prevents that; it costs 0.3 us of kernel time. A replacement always has it: it could share with
    the replaced route and so keep a metric that another program has added.

    Source: fib_create_info and fib_find_info_nh of Linux (net/ipv4/fib_semantics.c).
    """
    message_type, flags = _OPERATION_HEADERS[kind]
    next_hops = () if value is None else value.next_hops
    others = None if value is None else value.attributes
    # NOWHERE matches any scope.
    scope = _RT_SCOPE_NOWHERE if value is None else scope_of(table_key.family, value)
    if others is not None and others.scope is not None:
        scope = others.scope
    rtm_flags = 0
    if len(next_hops) == 1 and next_hops[0].is_onlink:
        rtm_flags = RTNH_F_ONLINK
    body = pack_attribute(Rta.DST, bytes(table_key.family.width // 8))
    body += pack_u32_attribute(Rta.PRIORITY, table_key.priority)
    table = table_key.table_id if table_key.table_id < 256 else _RT_TABLE_UNSPEC
    if table != table_key.table_id:
        body += pack_u32_attribute(Rta.TABLE, table_key.table_id)
    if next_hops:
        body += _encode_next_hops(table_key.family, next_hops, encode_realm(others))
    elif value is not None and value.nexthop_id:
        body += pack_u32_attribute(Rta.NH_ID, value.nexthop_id)
    if others is not None:
        body += encode_attributes(others, has_realm=len(next_hops) < 2)
    if value is not None and value.nexthop_id and table_key.family is Family.IPV4:
        has_metrics = others is not None and others.has_metrics
        if not has_metrics and (has_metrics_nearby or kind is OpKind.REPLACE):
            body += pack_attribute(Rta.METRICS, b"")
    header = RTMSG.pack(
        table_key.family, 0, 0, table_key.tos, table, protocol, scope,
        0 if value is None else value.type, rtm_flags,
    )  # fmt: skip
    return pack_message(message_type, flags, 0, header + body)


def encode_barrier(sequence: int) -> bytes:
    """Encode a message without effect; its acknowledgement shows that all before it is done.

    Source: netlink_rcv_skb of Linux acknowledges control messages without looking at them.
    """
    return pack_message(NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, sequence, b"")


def encode_route_dump(family: Family, table_id: int, sequence: int, protocol: int = 0) -> bytes:
    """Encode a request for the routes of one table; the kernel filters on a strict socket.

    Args:
        family: the family of the routes.
        table_id: the table.
        sequence: sequence number of the request.
        protocol: rtm_protocol of the routes; 0 for all.

    Source: NETLINK_GET_STRICT_CHK, socket option of netlink(7) since Linux 4.20.
    """
    table = table_id if table_id < 256 else _RT_TABLE_UNSPEC
    header = RTMSG.pack(family, 0, 0, 0, table, protocol, 0, 0, 0)
    payload = header + pack_u32_attribute(Rta.TABLE, table_id)
    return pack_message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload)


def _decode_next_hops(payload: bytes) -> tuple[list[NextHop], dict[int, bytes]]:
    """Decode RTA_MULTIPATH: the next hops, and the attributes that they have besides gateways."""
    next_hops, others = [], dict[int, bytes]()
    realms: set[bytes] = set()
    for flags, weight, ifindex, found in decode_multipath(payload):
        via = None
        of_hop = dict(found)
        for kind in (Rta.GATEWAY, Rta.VIA):
            if kind in of_hop:
                via = decode_via(kind, of_hop.pop(kind))
        realms.add(of_hop.get(Rta.FLOW, b""))
        others |= of_hop
        next_hops.append(NextHop(via, ifindex, weight, bool(flags & RTNH_F_ONLINK)))
    if len(realms) > 1:
        others[MIXED_REALMS] = b""
    return next_hops, others


def decode_route(payload: bytes) -> KernelRoute | None:
    """Decode the payload of one route message.

    Returns:
        The route, or None for routes that this daemon does not handle: other families, routes for
        source prefixes, cached clones, types that are not in `RouteType` (multicast, ...).

    Raises:
        DecodeError: malformed.

    Cost: about 5 us.
    """
    if len(payload) < RTMSG.size:
        raise NetlinkDecodeError(f"a route message of {len(payload)} bytes")
    (
        family_number, prefix_len, src_len, tos, table_id, protocol, scope, type_number, flags,
    ) = RTMSG.unpack_from(payload)  # fmt: skip
    family = _FAMILIES.get(family_number)
    route_type = _ROUTE_TYPES.get(type_number)
    if family is None or route_type is None or src_len or flags & _RTM_F_CLONED:
        return None
    destination, via, oif, priority, nexthop_id = b"", None, 0, 0, 0
    others: dict[int, bytes] = {}
    next_hops: list[NextHop] = []
    for kind, value in attributes(payload, RTMSG.size, len(payload)):
        match kind:
            case Rta.DST:
                destination = value
            case Rta.OIF:
                oif = decode_u32(value)
            case Rta.GATEWAY | Rta.VIA:
                via = decode_via(kind, value)
            case Rta.PRIORITY:
                priority = decode_u32(value)
            case Rta.MULTIPATH:
                next_hops, of_hops = _decode_next_hops(value)
                others |= of_hops
            case Rta.TABLE:
                table_id = decode_u32(value)
            case Rta.NH_ID:
                nexthop_id = decode_u32(value)
            case _:
                others[kind] = value
    prefix = _decode_prefix(family, destination, prefix_len)
    if family is Family.IPV6 and not priority:
        priority = IPV6_DEFAULT_PRIORITY
    if not route_type.has_next_hops or nexthop_id:
        next_hops = []
    elif not next_hops and oif:
        next_hops = [NextHop(via, oif, 1, bool(flags & RTNH_F_ONLINK))]
    key = RouteKey(table_id, prefix, tos, priority)
    hops = (
        tuple(sorted(next_hops, key=NextHop.sort_key)) if len(next_hops) > 1 else tuple(next_hops)
    )
    found = RouteValue(route_type, hops, nexthop_id)
    attributes_found, is_altered = decode_attributes(others)
    if scope != scope_of(family, found):
        is_altered |= family is Family.IPV6
        attributes_found = (attributes_found or NONE)._replace(scope=scope)
    if is_altered or attributes_found is not None:
        found = found._replace(is_altered=is_altered, attributes=attributes_found)
    source = None if attributes_found is None else attributes_found.src
    return KernelRoute(key, protocol, found, source, Rta.ENCAP in others)


def _decode_prefix(family: Family, destination: bytes, prefix_len: int) -> Prefix:
    if destination and len(destination) * 8 != family.width:
        raise NetlinkDecodeError(f"a destination of {len(destination)} bytes")
    try:
        return Prefix(family, int.from_bytes(destination, "big"), prefix_len)
    except ValueError as error:
        raise NetlinkDecodeError(str(error)) from error


def decode_end(message: NetlinkMessage) -> tuple[int, str]:
    """Decode the end of a dump, NLMSG_DONE or NLMSG_ERROR, as `decode_error`; 0 if complete.

    A dump that fails while it is under way ends with NLMSG_DONE, too, which carries the error.

    Raises:
        DecodeError: malformed.

    Source: netlink_dump_done of Linux (net/netlink/af_netlink.c).
    """
    if message.type != NLMSG_DONE:
        return decode_error(message)
    if len(message.payload) < ERRNO.size:
        return 0, ""  # old kernels send it without a payload
    return max(0, -ERRNO.unpack_from(message.payload)[0]), ""
