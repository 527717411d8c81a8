"""Random routes with random attributes go from the configuration to the kernel, and a dump returns
the same.

The kernel is the real one, in a namespace. Its routes are compared with the configured ones,
decoded by our code and by pyroute2. A second start, which has only its configuration and the dump,
writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from routed.config.load import load_text
from routed.config.schema import StaticConfig
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.ownership import Ownership, RouteValue, find_violation
from routed.fib.routes.plan import OpKind
from routed.fib.routes.tables import FibTables
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Family, Prefix
from routed.model.route import NextHop
from routed.netlink.message import RTM_GETROUTE
from rtnetlink import Rtnetlink
from tests.fakes.kernels import Namespace, built_namespace

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("kernel_tables")]

OWNERSHIP = Ownership(205, 205, frozenset({254}))
NUMBERS = {
    "mtu": (68, 65_520), "advmss": (1, 65_495), "window": (1, 2**32 - 1),
    "initcwnd": (1, 2**32 - 1), "initrwnd": (1, 2**32 - 1), "hoplimit": (1, 255),
}  # fmt: skip


def locked(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return texts | texts.map("lock {}".format)


def words(family: Family) -> dict[str, st.SearchStrategy[str]]:
    found = {word: locked(st.integers(low, high).map(str)) for word, (low, high) in NUMBERS.items()}
    found["rto_min"] = st.integers(1, 120_000).map("{}ms".format)
    found["quickack"] = locked(st.sampled_from(["true", "false", "1"]))
    found["congctl"] = locked(st.sampled_from(["reno", "cubic"]))
    found["features"] = st.just("ecn")
    if family is Family.IPV4:
        found["src"] = st.sampled_from(["192.0.0.1", "192.0.1.1"])
        found["tos"] = st.sampled_from(["0x10", "0x1c", "0", "0x08"])
        realms = st.integers(1, 65_535).map(str)
        found["realm"] = realms | st.tuples(realms, realms).map("/".join)
    else:
        found["src"] = st.sampled_from(["2001:db8:0::1", "2001:db8:1::1"])
    return found


WEIGHTS = [("v0", 3), ("v1", 1)]
HOPS: dict[Family, list[dict[str, Any]]] = {
    Family.IPV4: [
        {"via": "192.0.0.2", "dev": "v0"},
        {"via": "fe80::2", "dev": "v1"},
        {"via": "198.51.100.1", "dev": "v0", "onlink": True},
        {"dev": "v1"},
        {"next_hops": [{"via": "192.0.0.2", "dev": "v0"}, {"via": "192.0.1.2", "dev": "v1"}]},
        {"type": "local", "dev": "lo"},
        {"type": "broadcast", "dev": "v0"},
    ],
    Family.IPV6: [
        {"via": "2001:db8:0::2", "dev": "v0"},
        {"via": "fe80::2", "dev": "v1"},
        {"dev": "v1"},
        {"next_hops": [{"via": "fe80::2", "dev": dev, "weight": n} for dev, n in WEIGHTS]},
        {"type": "local", "dev": "lo"},
    ],
}  # fmt: skip
WITHOUT_HOPS = ["blackhole", "unreachable", "prohibit", "throw"]


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """One entry of `static:`."""
    family = draw(st.sampled_from(Family))
    hops = draw(
        st.sampled_from(HOPS[family])
        | st.sampled_from(WITHOUT_HOPS).map(lambda kind: {"type": kind})
    )
    strategies = words(family)
    if family is Family.IPV6 and "type" not in hops:
        strategies["pref"] = st.sampled_from(["low", "medium", "high"])
    if family is Family.IPV4 and "type" not in hops:
        has_gateway = "via" in hops or "next_hops" in hops
        strategies["scope"] = st.sampled_from(
            ["global", "site", "7", *([] if has_gateway else ["link"])]
        )
    chosen = draw(st.sets(st.sampled_from(sorted(strategies))))
    return hops | {word: draw(strategies[word]) for word in sorted(chosen)} | {"family": family}


def static_routes(drawn: list[dict[str, Any]]) -> list[StaticConfig]:
    """The routes of a file with these entries; each has another prefix."""
    static = []
    for number, entry in enumerate(drawn):
        rest = {word: value for word, value in entry.items() if word != "family"}
        is_ipv4 = entry["family"] is Family.IPV4
        prefix = f"10.{number}.0.0/16" if is_ipv4 else f"2001:db8:a{number:03}::/48"
        static.append({"prefix": prefix, **rest})
    head = {"router_id": "10.255.0.1", "user": "nobody"}
    return list(load_text(yaml.safe_dump(head | {"static": static})).static)


def desired(static: StaticConfig, ifindexes: dict[str, int]) -> RouteValue:
    """The route that the parent desires after the engine's request."""
    hops = tuple(
        NextHop(gateway.via, ifindexes[gateway.ifname or ""], gateway.weight, gateway.is_onlink)
        for gateway in static.gateways
    )
    value = RouteValue.canonical(static.type.route_type, hops, static.kernel_attributes)
    assert find_violation(static.prefix.family, value) == ""
    return value


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    with built_namespace() as built:
        yield built


def set_desired(tables: FibTables, routes: dict[Prefix, RouteValue]) -> None:
    for prefix, value in routes.items():
        tables.set_desired(254, prefix.family, [prefix.as_int], [value])


async def read(requests: RequestSocket, tables: FibTables) -> None:
    for family in Family:
        for is_thorough in (False, True):
            comparison = tables.begin_dump(254, family, is_thorough=is_thorough)
            await requests.dump_routes(254, family, comparison.receive)
            tables.end_dump()
            if comparison.finish(0.0) is not None:
                break


def write(requests: RequestSocket, tables: FibTables) -> int:
    """Apply all planned operations. Returns their number."""
    count = 0
    while batches := tables.plan(0.0):
        refusals = requests.apply(batches)
        assert not any(refusals), refusals
        assert tables.record(batches, refusals, 0.0)
        count += sum(len(batch.keys) for batch in batches)
    return count


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(drawn=st.lists(entries(), min_size=1, max_size=6))
def test_routes_with_attributes_read_back_and_are_adopted(
    space: Namespace, drawn: list[dict[str, Any]]
) -> None:
    routes = {static.prefix: desired(static, space.ifindexes) for static in static_routes(drawn)}

    async def run() -> None:
        with space.here.inside(), RequestSocket(205) as requests:
            first = FibTables(OWNERSHIP)
            set_desired(first, routes)
            assert write(requests, first) == len(routes)
            assert by_pyroute2() == {
                str(prefix): (int(value.type), value.attributes or KernelAttributes())
                for prefix, value in routes.items()
            }
            second = FibTables(OWNERSHIP)
            await read(requests, second)
            set_desired(second, routes)
            assert second.counts.adopted == len(routes)
            second.open_gate()
            assert write(requests, second) == 0, "a second start writes nothing"
            second.clear_desired()
            assert write(requests, second) == len(routes)

    trio.run(run)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(drawn=st.lists(entries(), min_size=2, max_size=6))
def test_any_route_becomes_any_other(space: Namespace, drawn: list[dict[str, Any]]) -> None:
    """A change of attributes, next hops or type: the planned operations lead to the new route."""

    async def run() -> None:
        with space.here.inside(), RequestSocket(205) as requests:
            tables = FibTables(OWNERSHIP)
            tables.open_gate()
            for entry in drawn:
                (static,) = static_routes([entry])
                value = desired(static, space.ifindexes)
                set_desired(tables, {static.prefix: value})
                write(requests, tables)
                fresh = FibTables(OWNERSHIP)
                await read(requests, fresh)
                set_desired(fresh, {static.prefix: value})
                assert fresh.counts.adopted == 1, value
            tables.clear_desired()
            write(requests, tables)
            batches = tables.plan(0.0)
            assert not any(batch.kind is OpKind.INSTALL for batch in batches)

    trio.run(run)


# Left: names of pyroute2; right: ours.
RTAX = {
    "RTAX_MTU": "mtu", "RTAX_ADVMSS": "advmss", "RTAX_WINDOW": "window", "RTAX_LOCK": "locked",
    "RTAX_INITCWND": "initcwnd", "RTAX_INITRWND": "initrwnd", "RTAX_HOPLIMIT": "hoplimit",
    "RTAX_RTO_MIN": "rto_min_ms", "RTAX_QUICKACK": "quickack", "RTAX_CC_ALGO": "congctl",
    "RTAX_FEATURES": "features",
}  # fmt: skip


def by_pyroute2() -> dict[str, tuple[int, KernelAttributes]]:
    """Our routes in the kernel with type and attributes, as pyroute2 decodes them."""
    found: dict[str, tuple[int, KernelAttributes]] = {}
    netlink = Rtnetlink.open_here()
    for family in Family:
        for payload in netlink.dump(RTM_GETROUTE, bytes((family, *[0] * 11))):
            header = (16 + len(payload)).to_bytes(4, sys.byteorder) + b"\x18" + bytes(11)
            message = rtmsg(header + payload)
            message.decode()
            if message["proto"] == 205:
                prefix = Prefix.parse(f"{message.get_attr('RTA_DST')}/{message['dst_len']}")
                found[str(prefix)] = message["type"], _attributes(family, message)
    netlink.close()
    return found


def _attributes(family: Family, message: Any) -> KernelAttributes:
    metrics = message.get_attr("RTA_METRICS")
    fields: dict[str, Any] = {
        RTAX[name]: value for name, value in ([] if metrics is None else metrics["attrs"])
    }
    source = message.get_attr("RTA_PREFSRC")
    if source:
        fields["src"] = Prefix.parse(source).address
    hops = message.get_attr("RTA_MULTIPATH") or [message]
    (fields["realm"],) = {hop.get_attr("RTA_FLOW") or 0 for hop in hops}
    fields["tos"] = message["tos"]
    fields["pref"] = message.get_attr("RTA_PREF") or 0
    has_gateway = any(hop.get_attr("RTA_GATEWAY") or hop.get_attr("RTA_VIA") for hop in hops)
    has_link = message.get_attr("RTA_OIF") is not None
    usual = {2: 254, 3: 253}.get(message["type"], 253 if has_link and not has_gateway else 0)
    if len(hops) > 1:
        usual = 0
    if family is Family.IPV4 and message["scope"] != usual:
        fields["scope"] = message["scope"]
    return KernelAttributes(**fields)
