"""The C extension in the privileged process: each argument is checked before memory is touched."""

from __future__ import annotations

import struct

import pytest

from routed.fib.routes.extension import native

pytestmark = pytest.mark.skipif(native is None, reason="the C extension is not built")

KEY = (10 << 24 << 8 | 8).to_bytes(8, "big")


@pytest.mark.parametrize("address_bytes", [32, -16, 0, 5, 17, 2**31 - 1, -(2**31)])
def test_an_address_has_4_or_16_bytes(address_bytes: int) -> None:
    assert native is not None
    with pytest.raises(ValueError, match="4 or 16"):
        native.check_keys(KEY * 4, address_bytes)
    with pytest.raises(ValueError, match="4 or 16"):
        native.fill_templates([bytes(64)], bytes(4), KEY, address_bytes, 1)
    with pytest.raises(ValueError, match="4 or 16"):
        native.split_page(struct.pack("=IHHII", 64, 24, 0, 1, 0) + bytes(48), address_bytes)
    with pytest.raises(ValueError, match="4 or 16"):
        native.RouteTable(address_bytes, 1, 2)


@pytest.mark.parametrize("excess", [1, 7])
def test_a_column_is_whole_keys(excess: int) -> None:
    assert native is not None
    with pytest.raises(ValueError, match="a column of"):
        native.check_keys(KEY + bytes(excess), 4)
    with pytest.raises(ValueError, match="a column of"):
        native.fill_templates([bytes(64)], bytes(4), KEY + bytes(excess), 4, 1)


def test_a_list_that_comparing_its_values_empties_is_an_error() -> None:
    assert native is not None
    values: list[object] = []

    class Emptying:
        def __hash__(self) -> int:
            values.clear()
            return 1

    values += [Emptying(), Emptying(), Emptying()]
    table = native.RouteTable(4, 1, 2)
    with pytest.raises(IndexError):
        table.set_desired(KEY * 3, values, struct.pack(">3I", 0, 1, 2))
    assert table.counts() == (0, 0, 0, 0, 0)
    assert table.values() == []
