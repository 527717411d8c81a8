"""Any policy rule that the configuration can ask for."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from routed.model.prefix import Family, Prefix
from routed.model.rule import (
    ANY_DSCP,
    ANY_FLOW_LABEL,
    ANY_MARK,
    ANY_PORT,
    Masked,
    PolicyRule,
    PortRange,
    Realms,
    RuleAction,
    UidRange,
)

__all__ = ["any_rule"]

_U32 = 2**32 - 1
_PORT_MAX = 0xFFFE
_PRIORITIES = st.integers(1, _U32 - 2)
_NAMES = st.sampled_from(["lo", "v0", "gone0", "a" * 15])


def _prefixes(family: Family) -> st.SearchStrategy[Prefix]:
    # An IPv6 address whose first 80 bits are 0 has two notations.
    return st.builds(
        lambda bits, length: Prefix.masked(family, bits, length),
        st.integers(2 ** (family.width - 3), 2**family.width - 1),
        st.integers(1, family.width),
    )


def _masked(whole: int, low: int = 0) -> st.SearchStrategy[Masked]:
    masks = st.integers(1, whole) | st.just(whole)
    found = st.builds(lambda value, mask: Masked(value & mask, mask), st.integers(0, whole), masks)
    return found.filter(lambda masked: masked.value >= low)


def _ranges(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    ends = st.integers(low, high)
    return st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))


_PORTS = _ranges(1, _PORT_MAX).map(lambda pair: PortRange(*pair)) | _masked(ANY_PORT, 1).filter(
    lambda masked: masked.value <= _PORT_MAX
).map(lambda masked: PortRange(masked.value, masked.value, masked.mask))


@st.composite
def any_rule(draw: st.DrawFn, priorities: st.SearchStrategy[int] = _PRIORITIES) -> PolicyRule:
    """Draw a rule that the kernel accepts, and that it shows as it was written."""
    family = draw(st.sampled_from(Family))
    action = draw(st.sampled_from(RuleAction))
    is_lookup = action is RuleAction.LOOKUP
    is_l3mdev = draw(st.booleans())
    priority = draw(priorities)
    tables = st.sampled_from([100, 253, 254, 255, 256, 4711, _U32]) | st.integers(1, _U32)
    tos = st.integers(0, 7 if family is Family.IPV4 else 63).map(lambda bits: bits << 2)
    has_tos = draw(st.booleans())
    mark = draw(st.none() | _masked(ANY_MARK)) or Masked(0, 0)

    def optional(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
        return st.none() | strategy

    fields = {
        "table_id": tables if is_lookup and not is_l3mdev else st.just(0),
        "source": optional(_prefixes(family)),
        "destination": optional(_prefixes(family)),
        "iif": optional(_NAMES),
        "oif": optional(_NAMES),
        "is_inverted": st.booleans(),
        "goto_priority": st.integers(priority + 1, _U32)
        if action is RuleAction.GOTO
        else st.just(0),
        "tos": tos if has_tos else st.just(0),
        "dscp": st.none() if has_tos else optional(_masked(ANY_DSCP)),
        "flow_label": optional(_masked(ANY_FLOW_LABEL)) if family is Family.IPV6 else st.none(),
        "uids": optional(_ranges(0, _U32 - 1).map(lambda pair: UidRange(*pair))),
        "ip_protocol": st.integers(0, 255),
        "source_ports": optional(_PORTS),
        "destination_ports": optional(_PORTS),
        "tunnel_id": st.just(0) | st.integers(1, 2**64 - 1),
        "suppress_prefix_len": optional(st.integers(0, family.width)) if is_lookup else st.none(),
        "suppress_group": optional(st.integers(0, 2**31 - 1)) if is_lookup else st.none(),
        "realms": optional(st.builds(Realms, st.integers(0, 0xFFFF), st.integers(1, 0xFFFF)))
        if is_lookup and family is Family.IPV4
        else st.none(),
    }
    values: dict[str, Any] = {name: draw(strategy) for name, strategy in fields.items()}
    return PolicyRule(
        family,
        priority,
        action,
        fwmark=mark.value,
        fwmask=mark.mask,
        is_l3mdev=is_l3mdev,
        **values,
    )
