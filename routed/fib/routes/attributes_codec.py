"""Attributes of a route besides its type and next hops <-> rtnetlink bytes. Pure.

    KernelAttributes --encode_attributes--> RTA_PREFSRC, RTA_METRICS, RTA_FLOW, RTA_PREF
                    <--decode_attributes--

What the kernel shows in another way than it was written is described in `codec.py`. A value that
`KernelAttributes` cannot express (a metric that routed never writes, an encapsulation, an expiry)
makes a route different from every desired one, so that ours is written again.

The realm of a route with several next hops stands in each of them.

Sources: linux/rtnetlink.h; rtnetlink_put_metrics of Linux, which leaves out metrics that are 0, and
fib_nexthop_info / fib_add_multipath (net/ipv4/fib_semantics.c) for RTA_FLOW.
"""

from __future__ import annotations

from collections.abc import Mapping

from routed.model.kernel_attributes import NONE, KernelAttributes, Rtax
from routed.netlink.message import (
    Rta,
    attributes,
    decode_address,
    decode_expiry,
    decode_u32,
    pack_attribute,
    pack_u32_attribute,
)

__all__ = ["MIXED_REALMS", "decode_attributes", "encode_attributes", "encode_realm"]

MIXED_REALMS = -1
"""Not an attribute of the kernel: the next hops of a route differ in their realms."""

_ALTERING = frozenset({Rta.ENCAP_TYPE, Rta.ENCAP, MIXED_REALMS})
"""Attributes that change the effect of a route, and that this daemon never writes."""

_NUMBERS = {
    Rtax.LOCK: "locked", Rtax.MTU: "mtu", Rtax.WINDOW: "window", Rtax.ADVMSS: "advmss",
    Rtax.HOPLIMIT: "hoplimit", Rtax.INITCWND: "initcwnd", Rtax.FEATURES: "features",
    Rtax.RTO_MIN: "rto_min_ms", Rtax.INITRWND: "initrwnd", Rtax.QUICKACK: "quickack",
}  # fmt: skip
"""Metrics that are numbers of 32 bits, and their fields."""


def encode_attributes(attributes: KernelAttributes, *, has_realm: bool) -> bytes:
    """Encode attributes. The scope and the TOS are in the header of the message.

    Args:
        attributes: valid (`routed.model.route_checks`).
        has_realm: whether the realm is encoded, too; otherwise it stands in each next hop.
    """
    body = b"" if attributes.src is None else pack_attribute(Rta.PREFSRC, attributes.src.packed)
    metrics = b"".join(
        pack_u32_attribute(number, value)
        for number, field in _NUMBERS.items()
        if (value := getattr(attributes, field))
    )
    if attributes.congctl:
        metrics += pack_attribute(Rtax.CC_ALGO, attributes.congctl.encode() + b"\0")
    if metrics:
        body += pack_attribute(Rta.METRICS, metrics)
    if has_realm:
        body += encode_realm(attributes)
    if attributes.pref:
        body += pack_attribute(Rta.PREF, bytes((attributes.pref,)))
    return body


def encode_realm(attributes: KernelAttributes | None) -> bytes:
    """Encode the realm; nothing if there is none."""
    if attributes is None or not attributes.realm:
        return b""
    return pack_u32_attribute(Rta.FLOW, attributes.realm)


def decode_attributes(found: Mapping[int, bytes]) -> tuple[KernelAttributes | None, bool]:
    """Decode the attributes of a route message.

    Args:
        found: the payload of each attribute, by its type.

    Returns:
        The attributes, None if there are none; and whether the route has more than these can
        express.

    Raises:
        NetlinkDecodeError: malformed.
    """
    is_altered = not _ALTERING.isdisjoint(found)
    if Rta.CACHEINFO in found:  # the kernel will remove an IPv6 route that expires
        is_altered |= decode_expiry(found[Rta.CACHEINFO]) != 0
    fields: dict[str, object] = {}
    if Rta.METRICS in found:
        is_altered |= _decode_metrics(found[Rta.METRICS], fields)
    if Rta.PREFSRC in found:
        fields["src"] = decode_address(found[Rta.PREFSRC])
    if Rta.FLOW in found:
        fields["realm"] = decode_u32(found[Rta.FLOW])
    if any(found.get(Rta.PREF, b"")):
        fields["pref"] = found[Rta.PREF][0]
    if not fields:
        return None, is_altered
    decoded = KernelAttributes(**fields)  # type: ignore[arg-type]
    return None if decoded == NONE else decoded, is_altered


def _decode_metrics(payload: bytes, fields: dict[str, object]) -> bool:
    """Decode RTA_METRICS into fields. Returns whether there is a metric without a field."""
    is_altered = False
    for number, value in attributes(payload, 0, len(payload)):
        if number == Rtax.CC_ALGO:
            fields["congctl"] = value.rstrip(b"\0").decode("ascii", "replace")
        elif number in _NUMBERS:
            fields[_NUMBERS[number]] = decode_u32(value)
        else:
            is_altered = True
    return is_altered
