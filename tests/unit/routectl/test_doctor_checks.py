"""The checks of `doctor`: pure functions of facts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from routectl.doctor.checks import CHECKS
from routectl.doctor.facts import (
    ClockFacts,
    Facts,
    Interrupt,
    LinkFacts,
    NeighborMtu,
    NeighborTable,
    NetworkdFacts,
    Ring,
    RoutedFacts,
)
from routectl.doctor.findings import Grade, examine, exit_status, set_sysctl
from routectl.doctor.kernel_checks import BUFFER_BYTES
from routectl.render.text import Row
from routed.parent.nup_socket_options import RECEIVE_BUFFER_BYTES

GOOD_SYSCTLS = {
    "net/core/netdev_max_backlog": "1000",
    "net/core/rmem_max": "4194304",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/eth0/rp_filter": "2",
    "net/ipv4/conf/eth0/forwarding": "1",
    "net/ipv4/fib_multipath_hash_policy": "1",
    "net/ipv4/ip_forward": "1",
    "net/ipv4/neigh/default/gc_thresh3": "1024",
    "net/ipv4/nexthop_compat_mode": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/eth0/forwarding": "1",
    "net/ipv6/fib_multipath_hash_policy": "1",
    "net/ipv6/neigh/default/gc_thresh3": "1024",
    "net/ipv6/route/max_size": "2147483647",
    "net/netfilter/nf_conntrack_count": "10",
    "net/netfilter/nf_conntrack_max": "262144",
}
DEVICE = LinkFacts(
    "eth0",
    2,
    1500,
    has_device=True,
    queues=2,
    queues_max=2,
    has_lro=False,
    has_gro=True,
    has_checksum_offload=True,
    ring=Ring(512, 4096),
    interrupts=(Interrupt(30, frozenset({0})), Interrupt(31, frozenset({1}))),
    numa_cpus=frozenset({0, 1}),
)
SECOND = LinkFacts("eth1", 3, 1500, has_lro=False)
GOOD = Facts(
    daemon=RoutedFacts("", 4711, 100, (NeighborMtu("eth0", "10.255.0.2", 1500),)),
    sysctls=GOOD_SYSCTLS,
    links=(DEVICE, SECOND),
    cpus=2,
    backlog_drops=0,
    neighbor_tables={"ipv4": NeighborTable(6, 0), "ipv6": NeighborTable(7, 0)},
    clock=ClockFacts(is_synchronised=True, error_s=0.004),
    programs={"systemd": (1,), "routed": (4711, 4712)},
    network_namespace=100,
)


def findings(facts: Facts) -> list[Row]:
    return examine(CHECKS, facts)


def serious(facts: Facts) -> list[tuple[object, ...]]:
    """What is not ok: check, object, state and command of each."""
    return [
        (row["check"], row["object"], row["state"], row["command"])
        for row in findings(facts)
        if row["state"] != "ok"
    ]


def sysctls(**changes: str) -> Mapping[str, str]:
    return {**GOOD_SYSCTLS, **{path.replace("__", "/"): text for path, text in changes.items()}}


def test_a_good_host_has_a_finding_of_each_check_and_nothing_to_change() -> None:
    rows = findings(GOOD)
    assert {row["check"] for row in rows} == {check.name for check in CHECKS}
    assert serious(GOOD) == []
    assert all(row["command"] is None for row in rows)
    assert exit_status(rows) == 0


def test_what_nothing_is_known_of_is_unknown_and_no_error() -> None:
    facts = Facts(RoutedFacts("routed is not running"), links_problem="no netlink here")
    states = {row["state"] for row in findings(facts)}
    assert states == {"ok", "unknown"}
    assert exit_status(findings(facts)) == 0
    assert ("mtu", "interfaces", "unknown", None) in serious(facts)


CASES: list[tuple[Facts, tuple[object, ...]]] = [
    (
        GOOD._replace(sysctls=sysctls(net__ipv4__ip_forward="0")),
        ("forwarding", "net.ipv4.ip_forward", "problem", "sysctl -w net.ipv4.ip_forward=1"),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__ipv6__conf__all__forwarding="0"), links=(DEVICE,)),
        (
            "forwarding",
            "net.ipv6.conf.all.forwarding",
            "note",
            "sysctl -w net.ipv6.conf.all.forwarding=1",
        ),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__ipv4__conf__eth0__forwarding="0")),
        ("forwarding", "eth0", "warning", "sysctl -w net.ipv4.conf.eth0.forwarding=1"),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__ipv4__conf__eth0__rp_filter="1")),
        ("rp-filter", "eth0", "warning", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__ipv4__nexthop_compat_mode="1")),
        (
            "nexthops",
            "net.ipv4.nexthop_compat_mode",
            "warning",
            "sysctl -w net.ipv4.nexthop_compat_mode=0",
        ),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__ipv6__fib_multipath_hash_policy="0")),
        (
            "multipath",
            "net.ipv6.fib_multipath_hash_policy",
            "note",
            "sysctl -w net.ipv6.fib_multipath_hash_policy=1",
        ),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__netfilter__nf_conntrack_count="262144")),
        (
            "conntrack",
            "net.netfilter.nf_conntrack_max",
            "problem",
            "sysctl -w net.netfilter.nf_conntrack_max=1048576",
        ),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__netfilter__nf_conntrack_count="210000")),
        (
            "conntrack",
            "net.netfilter.nf_conntrack_max",
            "warning",
            "sysctl -w net.netfilter.nf_conntrack_max=1048576",
        ),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__core__rmem_max="212992")),
        ("buffers", "net.core.rmem_max", "note", "sysctl -w net.core.rmem_max=4194304"),
    ),
    (
        GOOD._replace(backlog_drops=9),
        (
            "backlog",
            "net.core.netdev_max_backlog",
            "warning",
            "sysctl -w net.core.netdev_max_backlog=4000",
        ),
    ),
    (
        GOOD._replace(neighbor_tables={"ipv4": NeighborTable(6, 0), "ipv6": NeighborTable(900, 0)}),
        (
            "neighbor-table",
            "net.ipv6.neigh.default.gc_thresh3",
            "warning",
            "sysctl -w net.ipv6.neigh.default.gc_thresh3=4096 "
            "net.ipv6.neigh.default.gc_thresh2=2048 net.ipv6.neigh.default.gc_thresh1=512",
        ),
    ),
    (
        GOOD._replace(neighbor_tables={"ipv4": NeighborTable(6, 2), "ipv6": NeighborTable(9, 0)}),
        (
            "neighbor-table",
            "net.ipv4.neigh.default.gc_thresh3",
            "problem",
            "sysctl -w net.ipv4.neigh.default.gc_thresh3=4096 "
            "net.ipv4.neigh.default.gc_thresh2=2048 net.ipv4.neigh.default.gc_thresh1=512",
        ),
    ),
    (
        GOOD._replace(sysctls=sysctls(net__ipv6__route__max_size="4096")),
        (
            "ipv6-route-cache",
            "net.ipv6.route.max_size",
            "warning",
            "sysctl -w net.ipv6.route.max_size=2147483647",
        ),
    ),
    (
        GOOD._replace(clock=ClockFacts(is_synchronised=False, error_s=16.0)),
        ("clock", "clock", "warning", "timedatectl set-ntp true"),
    ),
    (
        GOOD._replace(clock=ClockFacts(is_synchronised=True, error_s=3.0)),
        ("clock", "clock", "warning", "timedatectl timesync-status"),
    ),
    (
        GOOD._replace(
            links=(
                LinkFacts("a", 5, 1500, "veth", link=6, has_lro=False),
                LinkFacts("b", 6, 9000, "veth", link=5, has_lro=False),
                DEVICE,
            )
        ),
        ("mtu", "a", "problem", "ip link set dev a mtu 9000"),
    ),
    (
        GOOD._replace(links=(DEVICE, LinkFacts("eth0.5", 7, 9000, "vlan", link=2))),
        ("mtu", "eth0.5", "problem", "ip link set dev eth0.5 mtu 1500"),
    ),
    (
        GOOD._replace(
            links=(
                DEVICE._replace(master=9),
                LinkFacts("tap0", 8, 9000, "tun", master=9),
                LinkFacts("br0", 9, 1500, "bridge"),
            )
        ),
        ("mtu", "br0", "problem", "ip link set dev eth0 mtu 9000"),
    ),
    (
        GOOD._replace(daemon=RoutedFacts("", 1, 100, (NeighborMtu("eth0", "10.255.0.2", 1400),))),
        ("mtu", "eth0", "problem", "ip link set dev eth0 mtu 1400"),
    ),
    (
        GOOD._replace(links=(DEVICE._replace(has_lro=True), SECOND)),
        ("offloads", "eth0", "problem", "ethtool -K eth0 lro off"),
    ),
    (
        GOOD._replace(links=(DEVICE._replace(has_gro=False), SECOND)),
        ("offloads", "eth0", "note", "ethtool -K eth0 gro on"),
    ),
    (
        GOOD._replace(links=(DEVICE, SECOND._replace(kind="veth", has_checksum_offload=True))),
        ("checksums", "eth1", "note", "ethtool -K eth1 tx off"),
    ),
    (
        GOOD._replace(links=(DEVICE._replace(ring_losses=5), SECOND)),
        ("rings", "eth0", "warning", "ethtool -G eth0 rx 4096"),
    ),
    (
        GOOD._replace(links=(DEVICE._replace(ring_losses=5, ring=Ring(256, 256)), SECOND)),
        ("rings", "eth0", "warning", "ethtool -S eth0"),
    ),
    (
        GOOD._replace(links=(DEVICE._replace(queues=1), SECOND)),
        ("queues", "eth0", "note", "ethtool -L eth0 combined 2"),
    ),
    (
        GOOD._replace(
            links=(DEVICE._replace(queues=1, queues_max=1, has_rps=False), SECOND), cpus=4
        ),
        ("queues", "eth0", "note", "echo f > /sys/class/net/eth0/queues/rx-0/rps_cpus"),
    ),
    (
        GOOD._replace(
            links=(
                DEVICE._replace(
                    interrupts=(Interrupt(30, frozenset({0})), Interrupt(31, frozenset({0})))
                ),
                SECOND,
            )
        ),
        (
            "interrupts",
            "eth0",
            "warning",
            "echo 0 > /proc/irq/30/smp_affinity_list; echo 1 > /proc/irq/31/smp_affinity_list",
        ),
    ),
    (
        GOOD._replace(links=(DEVICE._replace(numa_cpus=frozenset({1, 2})), SECOND), cpus=4),
        ("numa", "eth0", "note", "echo 1 > /proc/irq/30/smp_affinity_list"),
    ),
    (
        GOOD._replace(programs={"bird": (77, 78)}),
        ("programs", "bird", "note", "routectl show fib state shadowed"),
    ),
    (
        GOOD._replace(network_namespace=101),
        ("daemon", "routed", "warning", "nsenter --net=/proc/4711/ns/net routectl doctor"),
    ),
    (
        GOOD._replace(daemon=RoutedFacts("permission denied")),
        ("daemon", "routed", "unknown", None),
    ),
    (GOOD._replace(programs=None), ("programs", "programs", "unknown", None)),
    (GOOD._replace(clock=None), ("clock", "clock", "unknown", None)),
]


@pytest.mark.parametrize(("facts", "expected"), CASES, ids=lambda case: str(case)[:50])
def test_a_fault_is_the_only_finding(facts: Facts, expected: tuple[object, ...]) -> None:
    found = [finding for finding in serious(facts) if finding[2] != "unknown"]
    assert found == ([] if expected[2] == "unknown" else [expected])
    assert expected in serious(facts)
    status = {"problem": 2, "warning": 1}.get(str(expected[2]), 0)
    assert exit_status(findings(facts)) == status


def test_every_check_has_a_case() -> None:
    assert {expected[0] for _, expected in CASES} == {check.name for check in CHECKS} - {
        "foreign-routes"
    }


@pytest.mark.parametrize(
    ("options", "managed"),
    [
        ({}, "foreign routes, policy rules, nexthop objects"),
        ({"ManageForeignRoutes": "no"}, "foreign policy rules, nexthop objects"),
        (
            {
                "ManageForeignRoutes": "No",
                "ManageForeignRoutingPolicyRules": "false",
                "ManageForeignNextHops": "0",
            },
            None,
        ),
    ],
)
def test_networkd_that_deletes_foreign_routes_is_a_problem(
    options: dict[str, str], managed: str | None
) -> None:
    facts = GOOD._replace(programs={"systemd-network": (300,)}, networkd=NetworkdFacts(options))
    (row,) = [row for row in findings(facts) if row["check"] == "foreign-routes"]
    if managed is None:
        assert (row["state"], row["command"]) == ("ok", None)
        return
    assert row["state"] == "problem"
    assert str(row["seen"]).endswith(managed)
    assert "ManageForeignNextHops=no" in str(row["command"])


def test_the_worst_finding_is_the_status() -> None:
    facts = GOOD._replace(
        sysctls=sysctls(net__ipv4__ip_forward="0"),
        clock=ClockFacts(is_synchronised=False, error_s=1.0),
    )
    assert exit_status(findings(facts)) == 2
    assert next(grade.value for grade in Grade) == "problem"


def test_an_interface_with_a_dot_in_its_name_keeps_it() -> None:
    assert set_sysctl("net/ipv4/conf/eth0.5/rp_filter", 2) == (
        "sysctl -w net/ipv4/conf/eth0.5/rp_filter=2"
    )


def test_the_buffer_is_that_of_the_daemon() -> None:
    assert BUFFER_BYTES == RECEIVE_BUFFER_BYTES
