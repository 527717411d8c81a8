"""Columns are the sequences that they were made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.columns import KEY_BYTES, KeyColumn, ValueColumn
from routed.model.prefix import Family

FAMILIES = st.sampled_from(Family)


@given(st.data())
def test_a_key_column_is_its_keys(data: st.DataObject) -> None:
    family = data.draw(FAMILIES)
    keys = data.draw(st.lists(st.integers(0, (1 << family.width + 8) - 1)))
    column = KeyColumn.of(family, keys)
    assert len(column) == len(keys) == len(column.packed) // KEY_BYTES[family]
    assert list(column) == keys
    assert [column[at] for at in range(len(keys))] == keys
    assert column[1:3] == keys[1:3]
    assert KeyColumn.of(family, column) is column
    with pytest.raises(IndexError):
        column[len(keys)]


@given(FAMILIES, st.lists(st.lists(st.integers(0, 2**40 - 1))), st.integers(0, 3))
def test_joined_keys_are_all_keys_in_order(
    family: Family, parts: list[list[int]], lists: int
) -> None:
    mixed = [
        part if number < lists else KeyColumn.of(family, part) for number, part in enumerate(parts)
    ]
    assert list(KeyColumn.joined(mixed)) == [key for part in parts for key in part]


@given(st.lists(st.sampled_from(["to the left", "to the right", None])))
def test_a_value_column_is_its_values(values: list[str | None]) -> None:
    column = ValueColumn.of(values)
    assert list(column) == values
    assert [column[at] for at in range(len(values))] == values
    assert column[1:] == values[1:]
    assert len(column.distinct) == len(set(values))
    assert ValueColumn.of(column) is column
    assert list(column.mapped(str)) == [str(value) for value in values]
    assert list(ValueColumn.repeated("x", 3)) == ["x"] * 3
    with pytest.raises(IndexError):
        column[len(values)]
