"""A configuration that travels as a difference arrives whole."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc import codec
from routed.config.load import load_text
from routed.config.schema import Config, StaticConfig, StaticType
from routed.config.transfer import ConfigTransfer, pack, unpack
from routed.model.prefix import Family, Prefix

BASE = load_text("router_id: 1.2.3.4\nuser: root\n")


def config(numbers: list[int]) -> Config:
    return dataclasses.replace(
        BASE,
        static=tuple(
            StaticConfig(Prefix(Family.IPV4, number << 8, 24), type=StaticType.BLACKHOLE)
            for number in numbers
        ),
    )


lists = st.lists(st.integers(0, 30), unique=True, max_size=30).map(config)


@given(lists, st.none() | lists)
def test_what_is_packed_is_unpacked(new: Config, known: Config | None) -> None:
    sent = codec.decode(ConfigTransfer, codec.encode(pack(new, known)))
    assert unpack(sent, known) == new


def test_little_travels_when_little_changes() -> None:
    old = config(list(range(1000)))
    new = config([*range(500), 5000, *range(501, 1000)])
    transfer = pack(new, old)
    assert transfer.runs == ((0, 500), (-1, 1), (501, 499))
    assert len(transfer.new) == 1
    assert len(codec.encode(transfer)) < 1000


def test_what_was_packed_for_another_is_refused() -> None:
    transfer = pack(config([1, 2, 3]), config([1, 2, 3]))
    with pytest.raises(ValueError, match="no 3 static routes from 0 in 1"):
        unpack(transfer, config([1]))
    with pytest.raises(ValueError, match="0 of 1 new static routes are used"):
        unpack(dataclasses.replace(transfer, runs=(), new=config([1]).static), None)
