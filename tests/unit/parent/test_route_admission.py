"""The engine's desired routes, judged: what it may not ask for is left out, what is nonsense ends
it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.fib.routes.ownership import NEXT_HOPS_MAX, Ownership, RouteValue, find_violation
from routed.imsg.columns import ColumnError, pack_indices, pack_keys, unpack_keys, unpack_values
from routed.imsg.messages import FibColumns, FibUpdate, FibValue
from routed.model.columns import ValueColumn
from routed.model.martians import MartianRules
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.parent import route_admission as fib_updates
from routed.parent.route_admission import COLUMNS_MAX, validate_update

pytestmark = pytest.mark.usefixtures("kernel_tables")

OURS = Ownership(205, 205, frozenset({254}))
ANYTHING = MartianRules.of([Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")])
BLACKHOLE = FibValue(RouteType.BLACKHOLE, ())


def columns(*prefixes: str, table_id: int = 254, indices: list[int] | None = None) -> FibColumns:
    parsed = [Prefix.parse(prefix) for prefix in prefixes]
    family = parsed[0].family
    keys = pack_keys(family, [prefix.as_int for prefix in parsed])
    chosen = [0] * len(parsed) if indices is None else indices
    return FibColumns(table_id, family, keys, pack_indices(chosen))


@pytest.mark.parametrize(
    ("table_id", "value", "problem"),
    [
        (100, BLACKHOLE, "table 100 is not configured"),
        (254, FibValue(RouteType.UNICAST, ()), "a unicast route with 0 next hops"),
        (254, FibValue(RouteType.BLACKHOLE, (NextHop(None, 2),)), "a blackhole route with 1"),
        (254, FibValue(RouteType.UNICAST, (NextHop(None, 0),)), "next hop on interface index 0"),
        (254, FibValue(RouteType.UNICAST, (NextHop(None, 2, 257),)), "next hop with weight 257"),
        (
            254,
            FibValue(RouteType.UNICAST, (NextHop(None, 1 << 31),)),
            "next hop on interface index 2",
        ),
        (254, FibValue(RouteType.UNICAST, (NextHop(None, -1),)), "next hop on interface index -1"),
        (
            254,
            FibValue(RouteType.UNICAST, (NextHop(None, 2),) * (NEXT_HOPS_MAX + 1)),
            "1501 next hops, over 1500",
        ),
    ],
)
def test_forbidden_desired_routes_are_left_out_and_reported(
    table_id: int, value: FibValue, problem: str
) -> None:
    good = columns("10.4.0.0/16", "10.5.0.0/16", indices=[0, 0])
    mixed = columns("10.1.0.0/16", table_id=table_id, indices=[1])
    taken, refused = validate_update(FibUpdate(1, (BLACKHOLE, value), (good, mixed), ()), OURS)
    assert [(str(prefix), said[: len(problem)]) for prefix, said in refused] == [
        ("10.1.0.0/16", problem)
    ]
    assert [str(Prefix.from_int(Family.IPV4, key)) for rows in taken.install for key in rows.keys] \
        == ["10.4.0.0/16", "10.5.0.0/16"]  # fmt: skip


def test_an_ipv6_route_has_no_ipv4_next_hop() -> None:
    hop = NextHop(Address.parse("192.0.2.1"), 2)
    update = FibUpdate(1, (FibValue(RouteType.UNICAST, (hop,)),), (columns("2001:db8::/32"),), ())
    taken, refused = validate_update(update, OURS)
    assert taken.install == []
    assert refused[0].problem == "an IPv6 route through an IPv4 address"


@pytest.mark.parametrize("columns_of_one_kind", [1, COLUMNS_MAX])
def test_each_value_is_validated_once_however_many_columns_name_it(
    columns_of_one_kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated = 0

    def counting(family: Family, value: RouteValue) -> str:
        nonlocal validated
        validated += 1
        return find_violation(family, value)

    monkeypatch.setattr(fib_updates, "find_violation", counting)
    values = tuple(FibValue(RouteType.UNICAST, (NextHop(None, at),)) for at in range(1, 501))
    install = tuple(columns("10.0.0.0/8", indices=[at]) for at in range(columns_of_one_kind))
    taken, refused = validate_update(FibUpdate(1, values, install, ()), OURS)
    assert not refused
    assert validated == len(values)
    assert len(taken.install) == columns_of_one_kind


def test_a_column_carries_only_the_values_that_it_names() -> None:
    """What takes the rows looks at each distinct value, and there may be thousands in a message."""
    values = tuple(FibValue(RouteType.UNICAST, (NextHop(None, at),)) for at in range(1, 501))
    install = tuple(columns("10.0.0.0/8", indices=[at]) for at in range(COLUMNS_MAX))
    taken, _ = validate_update(FibUpdate(1, values, install, ()), OURS)
    distinct = [len(ValueColumn.of(rows.values).distinct) for rows in taken.install]
    assert distinct == [1] * COLUMNS_MAX
    assert [rows.values[0].next_hops[0].ifindex for rows in taken.install] == [
        at + 1 for at in range(COLUMNS_MAX)
    ]


@pytest.mark.parametrize("is_removal", [False, True])
def test_more_columns_than_tables_have_families_end_the_engine(is_removal: bool) -> None:
    many = (columns("10.0.0.0/8"),) * (COLUMNS_MAX + 1)
    update = FibUpdate(1, (BLACKHOLE,), () if is_removal else many, many if is_removal else ())
    with pytest.raises(ColumnError, match="more than 16 columns"):
        validate_update(update, OURS)


MARTIANS = (
    "0.0.0.0/8", "127.0.0.0/8", "127.1.2.3/32", "169.254.0.0/16", "224.0.0.0/4", "224.0.0.0/3",
    "240.0.0.0/4", "255.255.255.255/32",
)  # fmt: skip
MARTIANS6 = (
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "fe80::/10",
    "fe80::/64",
    "ff00::/8",
    "ff12::/16",
)
NO_MARTIANS = ("0.0.0.0/0", "10.0.0.0/8", "126.0.0.0/8", "169.253.0.0/16", "169.255.0.0/16")
NO_MARTIANS6 = ("::/0", "64:ff9b::/96", "2001:db8::/32", "fc00::/7", "fec0::/10")


@pytest.mark.parametrize(("bad", "good"), [(MARTIANS, NO_MARTIANS), (MARTIANS6, NO_MARTIANS6)])
def test_martians_are_left_out_and_counted_one_by_one(
    bad: tuple[str, ...], good: tuple[str, ...]
) -> None:
    update = FibUpdate(1, (BLACKHOLE,), (columns(*bad, *good),), ())
    taken, refused = validate_update(update, OURS)
    assert [str(each.prefix) for each in refused] == list(bad)
    assert all(each.problem.startswith("a martian (") for each in refused)
    (rows,) = taken.install
    assert [str(Prefix.from_int(rows.family, key)) for key in rows.keys] == list(good)


def test_martians_that_the_configuration_allows_are_accepted() -> None:
    rules = MartianRules.of([Prefix.parse("169.254.0.0/16")], [Prefix.parse("240.0.0.0/4")])
    asked = columns("169.254.7.0/24", "240.0.0.0/4", "240.1.0.0/16", "127.0.0.0/8")
    taken, refused = validate_update(FibUpdate(1, (BLACKHOLE,), (asked,), ()), OURS, rules)
    assert [str(each.prefix) for each in refused] == ["240.1.0.0/16", "127.0.0.0/8"]
    assert len(taken.install[0].keys) == 2


def test_removals_from_tables_that_are_not_ours_are_passed_over() -> None:
    removal = FibColumns(100, Family.IPV4, pack_keys(Family.IPV4, [0x0A000008]), b"")
    taken, _ = validate_update(FibUpdate(1, (), (), (removal,)), OURS)
    assert taken.remove == []


@pytest.mark.parametrize(
    ("family", "key"),
    [
        (Family.IPV4, 0x0A00000108),  # 10.0.0.1/8 has host bits
        (Family.IPV4, 33),
        (Family.IPV4, 1 << 40 | 32),
        (Family.IPV6, 129),
        (Family.IPV6, 1 << 8 | 127),
    ],
)
def test_an_invalid_prefix_ends_the_engine(family: Family, key: int) -> None:
    with pytest.raises(ColumnError, match="is no IPv"):
        unpack_keys(family, pack_keys(family, [key]))


def test_columns_must_fit_together() -> None:
    with pytest.raises(ColumnError, match="7 bytes"):
        unpack_keys(Family.IPV4, bytes(7))
    with pytest.raises(ColumnError, match="8 bytes of values for 1"):
        unpack_values(pack_indices([0, 0]), ["a"], 1)
    with pytest.raises(ColumnError, match="beyond the 1"):
        unpack_values(pack_indices([1]), ["a"], 1)


@given(st.sampled_from(Family), st.data())
def test_what_was_packed_is_unpacked(family: Family, data: st.DataObject) -> None:
    lengths = st.integers(0, family.width)
    addresses = st.integers(0, (1 << family.width) - 1)
    prefixes = data.draw(st.lists(st.builds(Prefix.masked, st.just(family), addresses, lengths)))
    keys = [prefix.as_int for prefix in prefixes]
    assert unpack_keys(family, pack_keys(family, keys)) == keys
    assert [Prefix.from_int(family, key) for key in keys] == prefixes


@given(
    st.sampled_from(Family),
    st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 140), st.booleans())),
    st.binary(max_size=2),
)
def test_exactly_the_invalid_prefixes_end_the_engine(
    family: Family, routes: list[tuple[int, int, bool]], rest: bytes
) -> None:
    """Whatever code looks: `unpack_keys` is the reference."""
    bits = [
        (addr_bits % (1 << family.width) >> (width := max(0, family.width - prefix_len)) << width)
        + has_host_bit
        for addr_bits, prefix_len, has_host_bit in routes
    ]
    keys = [
        addr_bits % (1 << family.width) << 8 | prefix_len
        for addr_bits, (_, prefix_len, _) in zip(bits, routes, strict=True)
    ]
    packed = pack_keys(family, keys) + rest
    message = FibUpdate(
        1, (BLACKHOLE,), (FibColumns(254, family, packed, bytes(4 * len(keys))),), ()
    )
    problem, expected = "", []
    try:
        expected = unpack_keys(family, packed)
    except ColumnError as error:
        problem = str(error)
    if problem:
        with pytest.raises(ColumnError, match=re.escape(problem)):
            validate_update(message, OURS)
        return
    taken, refused = validate_update(message, OURS, ANYTHING)
    assert not refused
    assert [key for rows in taken.install for key in rows.keys] == expected
