"""Policy rules on the wire: decoding undoes encoding, and any bytes are a rule or an error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.fib.rule_codec import (
    InexpressibleRuleError,
    SeenRule,
    decode_rule,
    encode_rule,
    read_rule,
)
from routed.model.prefix import Family
from routed.model.rule import PolicyRule, RuleAction
from routed.netlink.message import (
    NetlinkDecodeError,
    NetlinkMessage,
    pack_attribute,
    pack_u32_attribute,
    split_messages,
)
from tests.fakes.random_rules import any_rule


def message_of(rule: PolicyRule, protocol: int) -> NetlinkMessage:
    return next(split_messages(encode_rule(rule, protocol, 1, is_removal=False)))


@given(any_rule(), st.integers(3, 255))
def test_decoding_undoes_encoding(rule: PolicyRule, protocol: int) -> None:
    assert decode_rule(message_of(rule, protocol)) == SeenRule(rule, protocol)


@given(any_rule(), st.binary(max_size=40), st.integers(0, 200))
def test_any_bytes_are_a_rule_or_an_error(rule: PolicyRule, noise: bytes, keep: int) -> None:
    message = message_of(rule, 205)
    for payload in (noise, message.payload[:keep] + noise, message.payload + noise):
        with contextlib.suppress(NetlinkDecodeError, InexpressibleRuleError):
            read_rule(message._replace(payload=payload))


RULE = PolicyRule(Family.IPV4, 5, table_id=9)


def test_attributes_that_the_kernel_always_lists_are_ignored() -> None:
    """FRA_SUPPRESS_PREFIXLEN, FRA_SUPPRESS_IFGROUP, FRA_PAD, FRA_FLOW."""
    message = message_of(RULE, 205)
    unset = [
        pack_u32_attribute(14, 0xFFFF_FFFF), pack_u32_attribute(13, 0xFFFF_FFFF),
        pack_attribute(18, b""), pack_u32_attribute(11, 0),
    ]  # fmt: skip
    seen = decode_rule(message._replace(payload=message.payload + b"".join(unset)))
    assert seen == SeenRule(RULE, 205)


def test_the_kernel_s_own_rules_and_unknown_attributes_are_no_rules_of_ours() -> None:
    assert decode_rule(message_of(RULE, 2)) is None
    message = message_of(RULE, 205)
    assert (
        decode_rule(message._replace(payload=message.payload + pack_u32_attribute(77, 1))) is None
    )


@pytest.mark.parametrize(("mark", "mask"), [(1, 0), (0x101, 0xFF)])
def test_a_mark_with_bits_outside_its_mask_is_kept(mark: int, mask: int) -> None:
    """The kernel keeps it, too, and compares it when a rule is removed."""
    rule = PolicyRule(Family.IPV4, 5, RuleAction.LOOKUP, 100, fwmark=mark, fwmask=mask)
    (message,) = split_messages(encode_rule(rule, 205, 1, is_removal=True))
    assert decode_rule(message) == SeenRule(rule, 205)


@pytest.mark.parametrize("name", ["et\udc98\x07", "\u00e4", "\udcff" * 15])
def test_any_name_of_an_interface_is_written_as_it_was_read(name: str) -> None:
    """A rule of ours that another program has added is removed, whatever it names."""
    rule = PolicyRule(Family.IPV4, 5, RuleAction.LOOKUP, 100, iif=name, oif=name)
    (message,) = split_messages(encode_rule(rule, 205, 1, is_removal=True))
    assert decode_rule(message) == SeenRule(rule, 205)
