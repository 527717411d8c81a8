"""The rows of `routed.client`, for type checkers. Generated; do not edit.

    pytest tests/meta/test_row_types.py --update-golden

They are those of the daemon's views; docs/json.md has the meaning of each key. A daemon that is
older than this library lacks the newest keys; keys are only added.
"""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = [
    "BfdDropRow", "BfdSessionRow", "ChangeRow", "ConfigRow", "CounterRow", "DataplaneInterfaceRow",
    "DataplaneProgramRow", "ExplainRow", "ExplainedCandidateRow", "ExportRow", "FibRow",
    "FibTotalsRow", "FlowTrafficRow", "HostTrafficRow", "InterfaceRow", "InterfaceTrafficRow",
    "LogRow", "MemoryRow", "MetricLineRow", "NeighborRow", "NextHopObjectRow", "NextHopRow",
    "NupRouteRow", "PacketSizeRow", "PlanStepRow", "PortTrafficRow", "ProbeRow", "ProtocolRow",
    "ProtocolTrafficRow", "ReloadRow", "RouteRateRow", "RouteRow", "RouteTrafficRow", "RuleRow",
    "StatusRow", "TopologyRow",
]  # fmt: skip

ReloadRow = TypedDict("ReloadRow", {
    "ok": bool, "age_s": float, "text": str,
})  # fmt: skip
"""The last reload."""

FibTotalsRow = TypedDict("FibTotalsRow", {
    "desired": int, "installed": int, "failed": int, "pending": int, "stale": int, "coupled": bool,
    "nexthop_objects": int, "nexthops": str, "shadowed": int,
})  # fmt: skip
"""Numbers of routes by state."""

StatusRow = TypedDict("StatusRow", {
    "version": str, "pid": int, "uptime_s": float, "router_id": str, "config_path": str,
    "last_reload": ReloadRow | None, "routes": int, "neighbors": int, "fib": FibTotalsRow,
    "engine_restarts": int, "sandbox": str, "sandbox_refusals": int | None, "config_state": str,
    "confirm_left_s": float | None, "confirm_token": str | None, "parent_silent_s": float | None,
    "config_in_sync": bool, "health": Literal["ok", "degraded", "failed"], "problems": list[str],
    "network_namespace": int | None,
})  # fmt: skip
"""The daemon as a whole."""

NeighborRow = TypedDict("NeighborRow", {
    "router_id": str | None, "interface": str, "address": str, "state": str,
    "uptime_s": float | None, "dead_in_s": float | None, "rtt_ms": float | None,
    "rto_ms": float | None, "cost": int, "retransmissions": int, "prefixes": int, "problem": str,
    "window": int, "in_flight": int, "sent": int, "received": int, "duplicates": int,
    "out_of_order": int, "is_restarting": bool, "loss_here": float, "loss_there": float,
    "infeasible": int, "mtu": int | None,
})  # fmt: skip
"""One neighbor on one interface."""

InterfaceRow = TypedDict("InterfaceRow", {
    "interface": str, "ifindex": int, "state": str, "mtu": int, "addresses": list[str],
    "has_nup": bool, "cost": int | None, "hello_interval_s": float | None, "neighbors": int,
    "nup_over": str | None,
})  # fmt: skip
"""One interface."""

NextHopRow = TypedDict("NextHopRow", {
    "via": str | None, "dev": str | None, "weight": int,
})  # fmt: skip
"""One next hop, with the name of its interface."""

RouteRow = TypedDict("RouteRow", {
    "prefix": str,
    "type": Literal["unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw"],
    "source": Literal["connected", "static", "injected", "neighbor", "redistributed", "kernel"],
    "distance": int, "metric": int, "tag": int, "next_hops": list[NextHopRow], "selected": bool,
    "fib_state": Literal["pending", "installed", "failed", "shadowed", "decoupled", "waiting"] | None,
    "fib_reason": str, "age_s": float, "owner": str, "lease_s": float | None,
    "attributes": dict[str, str], "table": str,
})  # fmt: skip
"""One candidate route."""

FibRow = TypedDict("FibRow", {
    "prefix": str, "table": int,
    "type": Literal["unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw"],
    "next_hops": list[NextHopRow],
    "state": Literal["pending", "installed", "failed", "shadowed", "decoupled", "waiting"],
    "reason": str, "attributes": dict[str, str],
})  # fmt: skip
"""One desired route."""

NupRouteRow = TypedDict("NupRouteRow", {
    "prefix": str, "direction": str, "neighbor": str | None, "interface": str, "metric": int,
    "origin": str, "seqno": int, "distance_seqno": int | None, "distance_metric": int | None,
    "state": str, "tag": int, "is_external": bool, "is_stale": bool,
})  # fmt: skip
"""A route as a neighbor advertises it, or as this router advertises it on an interface."""

TopologyRow = TypedDict("TopologyRow", {
    "router_id": str | None, "role": str, "interface": str, "address": str | None,
    "state": str | None, "cost": int | None, "metric": int | None, "prefixes": int,
    "via": list[str],
})  # fmt: skip
"""One router that NUP knows; a neighbor on several interfaces has a row for each."""

ExplainedCandidateRow = TypedDict("ExplainedCandidateRow", {
    "source": Literal["connected", "static", "injected", "neighbor", "redistributed", "kernel"],
    "owner": str, "distance": int, "metric": int,
    "type": Literal["unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw"],
    "next_hops": list[NextHopRow], "selected": bool,
    "fib_state": Literal["pending", "installed", "failed", "shadowed", "decoupled", "waiting"] | None,
    "fib_reason": str, "rule": int | None, "verdict": str, "attributes": dict[str, str],
})  # fmt: skip
"""One candidate of the prefix that decides, and the result of its comparison."""

ExplainRow = TypedDict("ExplainRow", {
    "address": str, "prefix": str | None, "candidates": list[ExplainedCandidateRow],
    "unusable": list[str], "shorter": list[str], "trie_path": list[str],
    "unusable_reasons": list[str], "waiting": list[str], "network_namespace": int | None,
    "table": str,
})  # fmt: skip
"""The explanation of how an address is routed."""

NextHopObjectRow = TypedDict("NextHopObjectRow", {
    "id": int, "next_hops": list[NextHopRow], "active": list[NextHopRow],
    "state": Literal["pending", "installed", "failed", "shadowed", "decoupled", "waiting"],
    "reason": str,
})  # fmt: skip
"""A kernel nexthop object: one next hop, or a group of several."""

RuleRow = TypedDict("RuleRow", {
    "priority": int, "family": str, "rule": str, "ip_rule": dict[str, object],
    "state": Literal["pending", "installed", "failed", "shadowed", "decoupled", "waiting"],
    "reason": str,
})  # fmt: skip
"""One policy rule of the configuration, for one family."""

BfdDropRow = TypedDict("BfdDropRow", {
    "reason": str, "packets": int,
})  # fmt: skip
"""Packets of a session that were dropped for one reason."""

BfdSessionRow = TypedDict("BfdSessionRow", {
    "name": str, "peer": str, "source": str | None, "interface": str | None, "multihop": bool,
    "passive": bool, "desired_min_tx_us": int, "required_min_rx_us": int, "detect_mult": int,
    "auth_type": str | None, "users": int, "used": bool, "reason": str, "session_state": str,
    "state_age_s": float | None, "local_diag": str | None, "local_discr": int | None,
    "remote_session_state": str | None, "remote_diag": str | None, "remote_discr": int | None,
    "remote_min_tx_us": int | None, "remote_min_rx_us": int | None,
    "remote_detect_mult": int | None, "remote_demand_mode": bool | None,
    "transmit_interval_us": int | None, "detection_time_us": int | None, "polling": bool | None,
    "packets_sent": int | None, "packets_received": int | None, "times_up": int | None,
    "times_down": int | None, "send_errors": int | None, "drops": list[BfdDropRow],
})  # fmt: skip
"""One configured BFD session. Intervals are in microseconds; None: not known now."""

ProbeRow = TypedDict("ProbeRow", {
    "name": str, "kind": str, "target": str | None, "port": int | None, "source": str | None,
    "interface": str | None, "mark": int, "session": str | None, "of": list[str],
    "least": int | None, "query": str | None, "type": str | None, "rcode": str | None,
    "answer": str | None, "rtt_max_ms": float | None, "loss_max_percent": int | None, "window": int,
    "interval_s": float, "timeout_s": float, "jitter_s": float, "rise": int, "fall": int,
    "invert": bool, "on_error": str, "initial": str, "users": int, "used": bool, "reason": str,
    "state": str, "state_age_s": float | None, "change_reason": str | None,
    "last_reason": str | None, "in_a_row": int | None, "attempts": int | None,
    "failures": int | None, "errors": int | None, "times_up": int | None, "times_down": int | None,
    "loss_percent": float | None, "rtt_ms": float | None, "rtt_last_ms": float | None,
    "history_ms": list[float | None],
})  # fmt: skip
"""One configured probe. Times have their unit in their name; None: not known now."""

ProtocolRow = TypedDict("ProtocolRow", {
    "protocol": str, "state": str, "distance": int, "routes": int, "detail": str,
})  # fmt: skip
"""One source of routes."""

ConfigRow = TypedDict("ConfigRow", {
    "option": str, "value": str | None, "is_default": bool, "line": str,
})  # fmt: skip
"""One line of the configuration in force."""

CounterRow = TypedDict("CounterRow", {
    "name": str, "value": int, "help": str,
})  # fmt: skip
"""One counter."""

LogRow = TypedDict("LogRow", {
    "time": str, "level": str, "process": str, "event": str, "text": str,
})  # fmt: skip
"""One line of the log."""

MemoryRow = TypedDict("MemoryRow", {
    "part": str, "size_bytes": int, "items": int | None, "help": str,
})  # fmt: skip
"""The memory of one part of the daemon."""

MetricLineRow = TypedDict("MetricLineRow", {
    "text": str,
})  # fmt: skip
"""A line of the metrics in the text format of Prometheus."""

DataplaneInterfaceRow = TypedDict("DataplaneInterfaceRow", {
    "interface": str, "hook": str, "reason": str, "detail": str, "others": list[int],
})  # fmt: skip
"""How one interface is counted."""

DataplaneProgramRow = TypedDict("DataplaneProgramRow", {
    "program": str, "id": int, "interfaces": int, "runs": int | None, "run_ns": float | None,
    "code_bytes": int, "memory_bytes": int,
})  # fmt: skip
"""One program in the kernel."""

InterfaceTrafficRow = TypedDict("InterfaceTrafficRow", {
    "interface": str, "received_packets": int, "received_bytes": int, "sent_packets": int,
    "sent_bytes": int, "seconds": float | None,
})  # fmt: skip
"""Frames of one interface."""

ProtocolTrafficRow = TypedDict("ProtocolTrafficRow", {
    "family": str, "protocol": str, "received_packets": int, "received_bytes": int,
    "sent_packets": int, "sent_bytes": int, "seconds": float | None,
})  # fmt: skip
"""Frames of one protocol."""

PacketSizeRow = TypedDict("PacketSizeRow", {
    "size_bytes": str, "received_packets": int, "sent_packets": int, "seconds": float | None,
})  # fmt: skip
"""Frames of one class of sizes."""

RouteTrafficRow = TypedDict("RouteTrafficRow", {
    "prefix": str | None, "is_published": bool, "received_packets": int, "received_bytes": int,
    "sent_packets": int, "sent_bytes": int, "seconds": float | None,
})  # fmt: skip
"""Packets to the destinations of one route."""

RouteRateRow = TypedDict("RouteRateRow", {
    "age_s": float | None, "received_packets": int, "received_bytes": int, "sent_packets": int,
    "sent_bytes": int, "seconds": float | None,
})  # fmt: skip
"""Packets to the destinations of one route, in all and in each second of the last minute."""

FlowTrafficRow = TypedDict("FlowTrafficRow", {
    "source": str, "source_port": int | None, "destination": str, "destination_port": int | None,
    "protocol": str, "interface": str | None, "dev": str | None, "prefix": str | None,
    "via": str | None, "packets": int, "bytes": int, "age_s": float, "idle_s": float,
    "tcp_flags": str,
})  # fmt: skip
"""One flow of the present: packets from one address and port to another."""

HostTrafficRow = TypedDict("HostTrafficRow", {
    "host": str, "flows": int, "sent_packets": int, "sent_bytes": int, "received_packets": int,
    "received_bytes": int,
})  # fmt: skip
"""All flows of one address at present."""

PortTrafficRow = TypedDict("PortTrafficRow", {
    "protocol": str, "port": int, "flows": int, "sent_packets": int, "sent_bytes": int,
    "received_packets": int, "received_bytes": int,
})  # fmt: skip
"""All flows of one port at present, of the two ports of a flow the lower one."""

ExportRow = TypedDict("ExportRow", {
    "collector": str, "protocol": str, "domain": int, "state": str, "messages": int, "records": int,
    "bytes": int, "lost": int, "problem": str,
})  # fmt: skip
"""One collector of flows."""

ChangeRow = TypedDict("ChangeRow", {
    "kind": str, "change": str, "subject": str,
    "source": Literal["connected", "static", "injected", "neighbor", "redistributed", "kernel"] | None,
    "metric": int | None,
    "type": Literal["unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw"] | None,
    "next_hops": list[NextHopRow], "owner": str, "interface": str, "reason": str, "lost": int,
    "attributes": dict[str, str],
})  # fmt: skip
"""One change; fields that do not apply to its kind are None or empty."""

PlanStepRow = TypedDict("PlanStepRow", {
    "action": str, "object": str, "before": str | None, "after": str | None, "text": str,
})  # fmt: skip
"""One consequence."""
