"""Checks whether the network has converged, by the routes of the kernels.

A network has converged, with the links that are up now, if
- every router's kernel has a route of routed to every other router's loopback addresses, in both
  families, and each of its next hops begins a shortest path;
- no router has a route to a loopback address that cannot be reached;
- `show fib` equals the kernel's routes on every router.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kernel import KernelNextHop, KernelRoute
from topology import FirstHops, Topology

__all__ = ["fib_differences", "forwarding_loops", "path_gaps"]


def path_gaps(
    topology: Topology,
    first_hops: FirstHops,
    routes: Mapping[str, Iterable[KernelRoute]],
) -> list[str]:
    """Return missing and wrong routes, one line each; empty if every router uses shortest paths.

    Args:
        topology: the network.
        first_hops: first links of shortest paths (Topology.first_hops).
        routes: routed's routes in each router's kernel.
    """
    gaps = []
    for here in topology.nodes:
        by_prefix = {route.prefix: route for route in routes[here]}
        for there in topology.nodes.values():
            if there.name == here:
                continue
            expected = first_hops[here, there.name]
            for address in there.loopbacks:
                gap = _gap(by_prefix.get(str(address.network)), expected)
                if gap:
                    gaps.append(f"{here}: {address.ip} ({there.name}): {gap}")
    return gaps


def _gap(route: KernelRoute | None, expected: frozenset[str]) -> str:
    if route is None:
        return "no route" if expected else ""
    if not expected:
        return "a route, although it is out of reach"
    if route.devices and route.devices <= expected:
        return ""
    goes = ", ".join(sorted(route.devices)) or route.type
    return f"goes by {goes}, the shortest path by {' or '.join(sorted(expected))}"


def forwarding_loops(topology: Topology, routes: Mapping[str, Iterable[KernelRoute]]) -> list[str]:
    """Return the loops of packets to loopback addresses, one line each.

    Args:
        topology: the network.
        routes: routed's routes in each router's kernel, all read at one time.
    """
    behind = {
        (port.node, port.ifname): [other.node for other in segment.ports if other is not port]
        for segment in topology.segments
        if not segment.is_lan
        for port in segment.ports
    }
    hops: dict[str, dict[str, list[str]]] = {}
    for router, table in routes.items():
        for route in table:
            onward = [there for dev in route.devices for there in behind.get((router, dev), ())]
            hops.setdefault(route.prefix, {})[router] = sorted(onward)
    return [
        f"{address.network}: {' > '.join(loop)}"
        for node in topology.nodes.values()
        for address in node.loopbacks
        if (loop := _find_loop(hops.get(str(address.network), {}))) is not None
    ]


def _find_loop(onward: Mapping[str, list[str]]) -> list[str] | None:
    """Return a cycle of a graph, with its first router repeated at the end; None if there is
    none."""
    done: set[str] = set()

    def walk(router: str, path: list[str]) -> list[str] | None:
        if router in path:
            return [*path[path.index(router) :], router]
        if router in done:
            return None
        for there in onward.get(router, ()):
            if (loop := walk(there, [*path, router])) is not None:
                return loop
        done.add(router)
        return None

    for router in onward:
        if (loop := walk(router, [])) is not None:
            return loop
    return None


def fib_differences(
    fib_rows: Iterable[Mapping[str, Any]], routes: Iterable[KernelRoute]
) -> list[str]:
    """Return the differences between `show fib --json` and the kernel, one line each.

    Args:
        fib_rows: `routectl --json show fib`.
        routes: routed's routes in the kernel, of all tables.
    """
    said = {
        (str(row["prefix"]), int(row["table"])): (str(row["type"]), _hops_of(row), row["state"])
        for row in fib_rows
    }
    held = {(route.prefix, route.table): route for route in routes}
    return [
        f"{prefix} table {table}: {problem}"
        for prefix, table in sorted(said.keys() | held.keys())
        for problem in _compare(said.get((prefix, table)), held.get((prefix, table)))
    ]


def _hops_of(row: Mapping[str, Any]) -> tuple[KernelNextHop, ...]:
    rows = row["next_hops"]
    # Weights are relative, so the kernel keeps none for a single next hop.
    hops = [
        KernelNextHop(hop["via"], hop["dev"], hop["weight"] if len(rows) > 1 else 1) for hop in rows
    ]
    return tuple(sorted(hops, key=lambda hop: hop.sort_key))


def _compare(
    said: tuple[str, tuple[KernelNextHop, ...], str] | None, held: KernelRoute | None
) -> Iterator[str]:
    if said is None:
        yield "in the kernel, not in show fib"
        return
    kind, hops, state = said
    if state != "installed":
        yield f"show fib says {state}"
    if held is None:
        if state == "installed":
            yield "not in the kernel"
        return
    if kind != held.type:
        yield f"show fib says {kind}, the kernel has {held.type}"
    elif hops != held.next_hops:
        yield f"show fib says {hops}, the kernel has {held.next_hops}"
