"""The RIB after any history equals the RIB that gets only the last state: nothing stale is left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import Gateway, Route, RouteSource
from routed.rib.table import BestPath, Rib

ADDRESSES = [
    InterfaceAddress(Address.parse("192.0.2.1"), 24),
    InterfaceAddress(Address.parse("198.51.100.1"), 24),
]

# Each level's gateways lie in the level before, so that no circle can close; the /16 and the /32
# take matches over from the /24s and give them back.
LEVELS = [
    (
        ["10.1.0.0/16", "10.1.0.0/24", "10.1.1.0/24", "10.1.1.1/32"],
        ["192.0.2.2", "192.0.2.3", "198.51.100.2", "203.0.113.1"],
    ),
    (["10.2.0.0/16", "10.2.0.0/24", "10.2.1.0/24"], ["10.1.0.1", "10.1.1.1", "192.0.2.2"]),
    (["10.3.0.0/24", "10.3.1.0/24", "2001:db8::/32"], ["10.2.0.1", "10.2.1.1", "10.1.1.1"]),
]


@st.composite
def routes(draw: st.DrawFn) -> Route:
    prefixes, gateways = draw(st.sampled_from(LEVELS))
    chosen = draw(st.lists(st.sampled_from(gateways), min_size=1, max_size=2, unique=True))
    ifname = draw(st.sampled_from([None, None, None, "eth0"]))
    distance = draw(st.sampled_from([1, 2, 255]))
    return Route(
        Prefix.parse(draw(st.sampled_from(prefixes))), RouteSource.STATIC, distance,
        gateways=tuple(Gateway(Address.parse(text), ifname) for text in chosen),
        owner=str(distance),
    )  # fmt: skip


@st.composite
def runs(draw: st.DrawFn) -> tuple[str, Route, list[Prefix]]:
    """A route, and the prefixes of its level that all get it."""
    route = draw(routes())
    level = next(texts for texts, _ in LEVELS if str(route.prefix) in texts)
    prefixes = [prefix for prefix in map(Prefix.parse, level) if prefix.family is Family.IPV4]
    return "all", route, draw(st.lists(st.sampled_from(prefixes)))


Link = tuple[int, bool]
"""The number of addresses that the link has, and whether it is up."""
steps = st.lists(
    st.one_of(
        routes(),
        st.tuples(st.just("withdraw"), routes()),
        runs(),
        st.tuples(st.integers(0, 2), st.booleans()),
        st.just("process"),
    ),
    max_size=30,
)


def link(state: Link) -> Interface:
    count, is_up = state
    return Interface(2, "eth0", is_up, is_up, 1500, False, True, tuple(ADDRESSES[:count]))


def best_paths(rib: Rib) -> dict[Prefix, BestPath]:
    found = {prefix: rib.best(prefix) for prefix in rib.prefixes_after(None, 100)}
    return {prefix: best_path for prefix, best_path in found.items() if best_path is not None}


@given(steps=steps)
def test_history_leaves_no_trace(steps: list[object]) -> None:
    rib = Rib(lambda: 0.0)
    state: Link = (2, True)
    present: dict[tuple[Prefix, str], Route] = {}
    reported: dict[Prefix, BestPath] = {}

    def process() -> None:
        for changes in rib.process():
            assert changes.keys == sorted(set(changes.keys))
            for prefix, best_path in changes.items():
                assert best_path != reported.get(prefix), "only what changed"
                if best_path is None:
                    del reported[prefix]
                else:
                    reported[prefix] = best_path

    rib.link_changed(link(state))
    for step in steps:
        match step:
            case Route():
                present[step.prefix, step.owner] = step
                rib.install(step)
            case ("withdraw", Route() as route):
                present.pop((route.prefix, route.owner), None)
                rib.withdraw(route.prefix, route.source, route.owner)
            case ("all", Route() as route, list() as prefixes):
                keys = [prefix.as_int for prefix in prefixes]
                rib.install_all(Family.IPV4, keys, route.attributes)
                for prefix in prefixes:
                    present[prefix, route.owner] = Route.of(prefix, route.attributes)
                has = rib.present(Family.IPV4, keys, route.source, route.owner)
                assert has == set(keys)
            case (int() as count, bool() as is_up):
                state = (count, is_up)
                rib.link_changed(link(state))
            case _:
                process()
    process()

    fresh = Rib(lambda: 0.0)
    fresh.link_changed(link(state))
    for route in present.values():
        fresh.install(route)
    fresh.process()
    assert best_paths(rib) == best_paths(fresh) == reported
    assert len(rib) == len(fresh)
    assert +rib.candidates_by_source == +fresh.candidates_by_source
    assert rib._paths._paths.keys() == fresh._paths._paths.keys(), "nothing unused is kept"
    for prefix in rib.prefixes_after(None, 100):
        assert rib.candidates(prefix) == fresh.candidates(prefix)
