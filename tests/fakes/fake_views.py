"""Answers of the fake daemon: one row of each view, and any number of routes."""

from __future__ import annotations

from dataclasses import replace

from routed.control.bfd_views import BfdDropView, BfdSessionView
from routed.control.daemon import CommandOutcome
from routed.control.nup_views import NupRouteView
from routed.control.probe_views import ProbeView
from routed.control.views import (
    ConfigView,
    CounterView,
    ExplainedCandidate,
    ExplainView,
    FibState,
    FibTotals,
    FibView,
    HealthState,
    InterfaceView,
    LogView,
    MemoryView,
    NeighborView,
    NextHopObjectView,
    NextHopView,
    ProtocolView,
    ReloadView,
    RouteView,
    RuleView,
    StatusView,
    TopologyView,
)
from routed.model.plan_step import PlanStep, route_step
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import RouteSource, RouteType
from routed.model.rule import ANY_DSCP, Masked, PolicyRule, RuleAction

STATUS = StatusView(
    version="0.1.0",
    pid=4711,
    uptime_s=3725.0,
    router_id=Address.parse("10.255.0.1"),
    config_path="/etc/routed/routes.yaml",
    last_reload=ReloadView(True, 65.0, "2 static routes added"),
    routes=5,
    neighbors=1,
    fib=FibTotals(
        desired=4,
        installed=3,
        failed=1,
        pending=0,
        stale=0,
        coupled=True,
        nexthop_objects=3,
        nexthops="objects (net.ipv4.nexthop_compat_mode=0)",
    ),
    engine_restarts=0,
    sandbox="seccomp, landlock abi 7, uid 998",
    sandbox_refusals=2,
    health=HealthState.DEGRADED,
    problems=("failed 1",),
)

METRICS = """\
# TYPE routed_uptime_seconds gauge
# HELP routed_uptime_seconds Time since the daemon started.
routed_uptime_seconds 3725
"""

NEIGHBORS = (
    NeighborView(
        router_id=Address.parse("10.255.0.2"),
        interface="eth0",
        address=Address.parse("fe80::2"),
        state="up",
        uptime_s=3600.0,
        dead_in_s=2.4,
        rtt_ms=0.31,
        rto_ms=100.0,
        cost=10,
        retransmissions=3,
        prefixes=2,
    ),
    NeighborView(
        router_id=None,
        interface="eth1",
        address=Address.parse("192.0.2.9"),
        state="init",
        uptime_s=None,
        dead_in_s=1.0,
        rtt_ms=None,
        rto_ms=None,
        cost=10,
        retransmissions=0,
        prefixes=0,
    ),
)

INTERFACES = (
    InterfaceView("eth0", 2, "up", 1500, ("10.0.0.1/24", "fe80::1/64"), True, 10, 1.0, 1, "ipv6"),
    InterfaceView("eth1", 3, "no_carrier", 9000, (), False, None, None, 0),
)

_VIA_2 = NextHopView(Address.parse("fe80::2"), "eth0")
_VIA_9 = NextHopView(Address.parse("192.0.2.9"), "eth1")

ROUTES = (
    RouteView(
        prefix=Prefix.parse("10.0.0.0/24"),
        type=RouteType.UNICAST,
        source=RouteSource.CONNECTED,
        distance=0,
        metric=0,
        tag=0,
        next_hops=(NextHopView(None, "eth0"),),
        selected=True,
        fib_state=None,
        fib_reason="",
        age_s=3725.0,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("10.1.0.0/16"),
        type=RouteType.UNICAST,
        source=RouteSource.STATIC,
        distance=1,
        metric=10,
        tag=7,
        next_hops=(replace(_VIA_2, weight=2), _VIA_9),
        selected=True,
        fib_state=FibState.INSTALLED,
        fib_reason="",
        age_s=65.0,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("10.1.0.0/16"),
        type=RouteType.UNICAST,
        source=RouteSource.NEIGHBOR,
        distance=90,
        metric=20,
        tag=0,
        next_hops=(_VIA_2,),
        selected=False,
        fib_state=None,
        fib_reason="",
        age_s=9.5,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("198.51.100.0/24"),
        type=RouteType.BLACKHOLE,
        source=RouteSource.STATIC,
        distance=1,
        metric=0,
        tag=0,
        next_hops=(),
        selected=True,
        fib_state=FibState.INSTALLED,
        fib_reason="",
        age_s=200_000.0,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("2001:db8:5::/48"),
        type=RouteType.UNICAST,
        source=RouteSource.NEIGHBOR,
        distance=90,
        metric=30,
        tag=0,
        next_hops=(_VIA_2,),
        selected=True,
        fib_state=FibState.FAILED,
        fib_reason="Network is unreachable",
        age_s=12.0,
        owner="",
        lease_s=None,
    ),
)

FIB = tuple(
    FibView(
        view.prefix,
        254,
        view.type,
        view.next_hops,
        view.fib_state or FibState.PENDING,
        view.fib_reason,
    )
    for view in ROUTES
    if view.selected and view.source is not RouteSource.CONNECTED
)

COUNTERS = (
    CounterView("nup_dropped_bad_checksum", 2, "datagrams whose checksum is wrong"),
    CounterView("nup_received", 12345, "datagrams taken in"),
)

LOG = (
    LogView(
        "2026-01-02T03:04:05.006Z", "info", "parent", "ready", "ready after_ms=412 routes=3"
    ),
    LogView(
        "2026-01-02T03:04:06.007Z", "warning", "parent", "fib-drift",
        "fib-drift prefix=10.1.0.0/16 what=deleted",
    ),
)  # fmt: skip

MEMORY = (
    MemoryView("process", 41_943_040, None, "resident set of the engine"),
    MemoryView("trie", 65_536, 5, "LC-trie, shared with readers of the snapshot"),
)

_FIRST = NextHopView(Address.parse("192.0.2.9"), "eth0", 1)
_SECOND = NextHopView(Address.parse("fe80::2"), "eth1", 2)

NEXTHOPS = (
    NextHopObjectView(205_000_001, (_FIRST,), (_FIRST,), FibState.INSTALLED, ""),
    NextHopObjectView(205_000_002, (_SECOND,), (), FibState.FAILED, "Network is down"),
    NextHopObjectView(205_000_003, (_FIRST, _SECOND), (_FIRST,), FibState.INSTALLED, ""),
)

BFD_SESSIONS = (
    BfdSessionView(
        name="uplink1",
        peer=Address.parse("192.0.2.1"),
        source=Address.parse("192.0.2.2"),
        interface="eth0",
        multihop=False,
        passive=False,
        desired_min_tx_us=50_000,
        required_min_rx_us=50_000,
        detect_mult=3,
        auth_type="meticulous-keyed-sha1",
        users=2,
        used=True,
        reason="",
        session_state="up",
        state_age_s=3723.5,
        local_diag="none",
        local_discr=2_271_560_481,
        remote_session_state="up",
        remote_diag="none",
        remote_discr=7,
        remote_min_tx_us=100_000,
        remote_min_rx_us=50_000,
        remote_detect_mult=5,
        remote_demand_mode=False,
        transmit_interval_us=50_000,
        detection_time_us=500_000,
        polling=False,
        packets_sent=83_211,
        packets_received=41_003,
        times_up=2,
        times_down=1,
        send_errors=0,
        drops=(BfdDropView("authentication", 3),),
    ),
    BfdSessionView(
        name="uplink2",
        peer=Address.parse("fe80::1"),
        source=None,
        interface="eth1",
        multihop=False,
        passive=True,
        desired_min_tx_us=300_000,
        required_min_rx_us=300_000,
        detect_mult=3,
        auth_type=None,
        users=1,
        used=False,
        reason="the session is down (detection time expired)",
        session_state="down",
        state_age_s=12.25,
        local_diag="detection_time_expired",
        local_discr=12,
        remote_session_state="up",
        remote_diag="none",
        remote_discr=0,
        remote_min_tx_us=300_000,
        remote_min_rx_us=300_000,
        remote_detect_mult=3,
        remote_demand_mode=False,
        transmit_interval_us=0,
        detection_time_us=900_000,
        polling=False,
        packets_sent=500,
        packets_received=498,
        times_up=1,
        times_down=1,
        send_errors=2,
    ),
    BfdSessionView(
        name="remote",
        peer=Address.parse("2001:db8::9"),
        source=None,
        interface=None,
        multihop=True,
        passive=False,
        desired_min_tx_us=1_000_000,
        required_min_rx_us=1_000_000,
        detect_mult=3,
        auth_type=None,
        users=0,
        used=False,
        reason="nothing is known of the session yet",
    ),
)

PROBES = (
    ProbeView(
        name="uplink1",
        kind="icmp",
        target=Address.parse("192.0.2.1"),
        port=None,
        source=None,
        interface="eth0",
        mark=0,
        session=None,
        of=(),
        least=None,
        query=None,
        type=None,
        rcode=None,
        answer=None,
        rtt_max_ms=None,
        loss_max_percent=None,
        window=20,
        interval_s=1.0,
        timeout_s=0.5,
        jitter_s=0.1,
        rise=2,
        fall=3,
        invert=False,
        on_error="fail",
        initial="down",
        users=2,
        used=True,
        reason="",
        state="up",
        state_age_s=3723.5,
        change_reason="2 of 2 succeeded",
        last_reason="",
        in_a_row=7,
        attempts=3740,
        failures=4,
        errors=0,
        times_up=2,
        times_down=1,
        loss_percent=16.7,
        rtt_ms=4.5,
        rtt_last_ms=2.0,
        history_ms=(1.0, 4.0, None, 8.0, 7.5, 2.0),
    ),
    ProbeView(
        name="resolver",
        kind="dns",
        target=Address.parse("2001:db8::53"),
        port=53,
        source=Address.parse("2001:db8::1"),
        interface=None,
        mark=16,
        session=None,
        of=(),
        least=None,
        query="www.example.org",
        type="aaaa",
        rcode="noerror",
        answer=Address.parse("2001:db8::80"),
        rtt_max_ms=80.0,
        loss_max_percent=5,
        window=20,
        interval_s=0.5,
        timeout_s=0.25,
        jitter_s=0.05,
        rise=2,
        fall=3,
        invert=False,
        on_error="ignore",
        initial="up",
        users=1,
        used=False,
        reason="down (3 of 3 failed: Connection refused)",
        state="down",
        state_age_s=12.25,
        change_reason="3 of 3 failed: Connection refused",
        last_reason="Connection refused",
        in_a_row=27,
        attempts=60,
        failures=27,
        errors=2,
        times_up=1,
        times_down=1,
        loss_percent=100.0,
        history_ms=(None, None, None),
    ),
    ProbeView(
        name="both",
        kind="all",
        target=None,
        port=None,
        source=None,
        interface=None,
        mark=0,
        session=None,
        of=("uplink1", "resolver"),
        least=2,
        query=None,
        type=None,
        rcode=None,
        answer=None,
        rtt_max_ms=None,
        loss_max_percent=None,
        window=20,
        interval_s=1.0,
        timeout_s=1.0,
        jitter_s=0.1,
        rise=2,
        fall=3,
        invert=False,
        on_error="fail",
        initial="down",
        users=0,
        used=False,
        reason="nothing is known of it yet",
    ),
)

RULES = (
    RuleView.of(
        PolicyRule(Family.IPV4, 1000, table_id=100, source=Prefix.parse("10.1.0.0/16")),
        "",
    ),
    RuleView.of(
        PolicyRule(Family.IPV6, 1010, RuleAction.PROHIBIT, oif="eth9"),
        "Operation not permitted",
    ),
    RuleView.of(
        PolicyRule(Family.IPV4, 1020, table_id=254, dscp=Masked(46, ANY_DSCP), is_inverted=True),
        "this kernel does not know `dscp`",
    ),
)

CONFIG = (
    ConfigView("router_id", "10.255.0.1", False, "router_id: 10.255.0.1"),
    ConfigView("fib", None, False, "fib:"),
    ConfigView("fib.table", "main", True, "  table: main"),
    ConfigView("fib.resync", "60s", False, "  resync: 60s"),
)

PROTOCOLS = (
    ProtocolView("connected", "up", 0, 3, "2 of 3 links up"),
    ProtocolView("neighbor", "down", 90, 0, "NUP on 1 link, 0 of 0 adjacencies up"),
    ProtocolView("kernel", "off", 254, 0, "nothing under `learn`"),
)

COUPLED = CommandOutcome(True, ("coupled: 3 of 3 routes in the kernel",))
RELOADED = CommandOutcome(True, ("1 static route added",))

PLAN = (
    route_step("install", "route 10.9.2.0/24", None, "blackhole"),
    PlanStep(
        "change", "adjacency eth0", "cost 10", "cost 77",
        "adjacency   eth0: cost 10 -> 77, stays up",
    ),
)  # fmt: skip

NUP_ROUTES = (
    NupRouteView(
        prefix=Prefix.parse("10.0.0.0/8"),
        direction="received",
        neighbor=Address.parse("10.255.0.2"),
        interface="eth0",
        metric=10,
        origin=Address.parse("10.255.0.9"),
        seqno=65537,
        distance_seqno=65537,
        distance_metric=20,
        state="selected",
        tag=7,
        is_external=True,
        is_stale=False,
    ),
    NupRouteView(
        prefix=Prefix.parse("10.0.0.0/8"),
        direction="received",
        neighbor=Address.parse("10.255.0.3"),
        interface="eth1",
        metric=30,
        origin=Address.parse("10.255.0.9"),
        seqno=65536,
        distance_seqno=65537,
        distance_metric=20,
        state="infeasible",
        tag=0,
        is_external=False,
        is_stale=True,
    ),
    NupRouteView(
        prefix=Prefix.parse("10.255.0.1/32"),
        direction="advertised",
        neighbor=None,
        interface="eth0",
        metric=0,
        origin=Address.parse("10.255.0.1"),
        seqno=65536,
        distance_seqno=None,
        distance_metric=None,
        state="advertised",
        tag=0,
        is_external=False,
        is_stale=False,
    ),
)

EXPLAINED = ExplainView(
    address=Address.parse("10.1.2.3"),
    prefix=Prefix.parse("10.1.0.0/16"),
    candidates=(
        ExplainedCandidate(
            source=RouteSource.STATIC,
            owner="",
            distance=1,
            metric=10,
            type=RouteType.UNICAST,
            next_hops=ROUTES[1].next_hops,
            selected=True,
            fib_state=FibState.INSTALLED,
            fib_reason="",
            rule=None,
            verdict="wins",
        ),
        ExplainedCandidate(
            source=RouteSource.NEIGHBOR,
            owner="",
            distance=90,
            metric=20,
            type=RouteType.UNICAST,
            next_hops=(_VIA_2,),
            selected=False,
            fib_state=None,
            fib_reason="",
            rule=2,
            verdict="loses by rule 2 (lower distance): 90 against 1",
        ),
    ),
    unusable=("10.1.2.0/24",),
    shorter=("10.0.0.0/8", "0.0.0.0/0"),
    trie_path=(
        "directory of 18 bits, slot 0x2804: a bucket",
        "bucket of 2 ranges, number 1: record 2",
        "default route: record 1",
    ),
    unusable_reasons=("10.1.2.0/24: link eth9 does not exist",),
    waiting=(
        "10.1.0.0/16: 10.255.0.2 on eth0 advertises it at metric 20, "
        "not feasible until 10.255.0.9 has raised its seqno",
    ),
)

TOPOLOGY = (
    TopologyView(Address.parse("10.255.0.1"), "self", "", None, None, None, None, 0, ()),
    TopologyView(
        Address.parse("10.255.0.2"), "neighbor", "eth0", Address.parse("fe80::2"), "up", 10,
        10, 2, ("10.255.0.2",),
    ),
    TopologyView(
        None, "neighbor", "eth1", Address.parse("192.0.2.9"), "init", 10, None, 0, ()
    ),
    TopologyView(
        Address.parse("10.255.0.3"), "router", "", None, None, None, 20, 1, ("10.255.0.2",)
    ),
)  # fmt: skip

CHUNK = 100


def many_routes(count: int) -> tuple[RouteView, ...]:
    """Return a number of routes like ROUTES[1], each with a separate prefix."""
    return tuple(
        replace(ROUTES[1], prefix=Prefix(Family.IPV4, (11 << 24) + (number << 8), 24))
        for number in range(count)
    )
