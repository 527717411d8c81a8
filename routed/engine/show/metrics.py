"""Metrics for Prometheus: the state of all components as metric families.

The numbers are those of `show`: they come from the same views, so a graph and a terminal never
disagree. Names follow the conventions of Prometheus: `routed_` first, the unit last, labels for
what one would sum over.

Cost: one pass over neighbors and links; no table of routes is walked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from routed.control.daemon import Daemon
from routed.control.views import HealthState, StatusView
from routed.engine.router import Router
from routed.engine.show.bfd import bfd_metrics
from routed.engine.show.counters import FIB_COUNTERS
from routed.engine.show.parent_reports import ParentReports
from routed.engine.show.probes import probe_metrics
from routed.engine.show.traffic_metrics import traffic_metrics
from routed.metrics.exposition import Form, Kind, MetricFamily, render
from routed.model.route import RouteSource
from routed.nup.events import AdjacencyState
from routed.sandbox.kernel import here
from routed.sandbox.syscalls import COMMON_REFUSALS, CONDITIONS

__all__ = ["Exporter"]

RELOAD_OUTCOMES = ("done", "failed")
CLIENT_REFUSAL_REASONS = ("admission", "idle", "misuse", "role")
NETLINK_ERRORS = (
    "EAFNOSUPPORT", "EBUSY", "EEXIST", "EHOSTUNREACH", "EINVAL", "EMFILE", "EMSGSIZE", "ENETDOWN",
    "ENETUNREACH", "ENFILE", "ENOBUFS", "ENODEV", "ENOENT", "ENOMEM", "ENOSPC", "EOPNOTSUPP",
    "EPERM", "ESRCH", "ETIMEDOUT",
)  # fmt: skip
"""Errors that the kernel returns for writes of routes, according to its sources. Any other error
has a series from its first occurrence on."""


class Exporter:
    """Makes an exposition of the state of all components."""

    def __init__(self, daemon: Daemon, reports: ParentReports, router: Router) -> None:
        """Read the views of a daemon, and elsewhere what they leave out.

        Args:
            daemon: makes the views.
            reports: what its parent has reported.
            router: of the same daemon.
        """
        self._views = daemon
        self._reports = reports
        self._router = router
        self._desired = router.desired

    def collect(self, form: Form = Form.OPENMETRICS) -> str:
        """Make the exposition of the present state."""
        return render(self._families(), form)

    def _families(self) -> Iterator[MetricFamily]:
        status = self._views.status()
        yield from self._daemon(status)
        yield from _verdict(status)
        yield from self._routes()
        yield from self._nup()
        if self._router.tracking.bfd.sessions:
            states = self._router.tracking.bfd
            yield from bfd_metrics(list(states.sessions.values()), states.dropped)
        if probes := self._router.tracking.probes.probes:
            yield from probe_metrics(list(probes.values()))
        yield from traffic_metrics(self._views.dataplane)
        yield from self._memory()

    def _daemon(self, status: StatusView) -> Iterator[MetricFamily]:
        counters = {view.name: view.value for view in self._views.counters()}
        yield MetricFamily("routed", Kind.INFO, "The daemon.").add(
            1, version=status.version, router_id=str(status.router_id), sandbox=status.sandbox
        )
        yield MetricFamily(
            "routed_uptime_seconds", Kind.GAUGE, "Time since the daemon started."
        ).add(status.uptime_s)
        yield MetricFamily("routed_engine_restarts", Kind.COUNTER, "Engines that have died.").add(
            status.engine_restarts
        )
        violations = MetricFamily(
            "routed_engine_violations", Kind.COUNTER, "Engines ended for a violation, by kind."
        )
        for name, value in counters.items():
            if name.startswith("engine_violations_"):
                violations.add(value, kind=name.removeprefix("engine_violations_"))
        yield violations
        yield MetricFamily(
            "routed_sandbox_refusals", Kind.COUNTER, "System calls refused to engines, by call."
        ).add_all("call", _by_call(self._reports.refused_calls))
        yield (
            MetricFamily(
                "routed_messages_dropped",
                Kind.COUNTER,
                "Messages between parent and engine that could not be sent, by sender: a defect.",
            )
            .add(counters["messages_dropped"], sender="engine")
            .add(counters["parent_messages_dropped"], sender="parent")
        )
        yield MetricFamily(
            "routed_reloads", Kind.COUNTER, "Reloads since this engine started."
        ).add_all("outcome", _from_zero(RELOAD_OUTCOMES, self._reports.reloads))
        yield MetricFamily(
            "routed_client_refusals", Kind.COUNTER, "Management clients refused, by reason."
        ).add_all("reason", _from_zero(CLIENT_REFUSAL_REASONS, self._views.client_refusals))

    def _routes(self) -> Iterator[MetricFamily]:
        by_source = self._router.rib.candidates_by_source
        candidates = MetricFamily(
            "routed_rib_candidates", Kind.GAUGE, "Candidate routes, by source."
        )
        for source in RouteSource:
            candidates.add(by_source[source], source=source.label)
        yield candidates
        yield MetricFamily("routed_rib_prefixes", Kind.GAUGE, "Prefixes in the RIB.").add(
            len(self._router.rib)
        )
        fib = self._desired.counters
        states = MetricFamily("routed_fib_routes", Kind.GAUGE, "Kernel routes, by state.")
        for state in ("installed", "failed", "pending", "stale"):
            states.add(getattr(fib, state), state=state)
        yield states
        yield MetricFamily(
            "routed_fib_routes_shadowed",
            Kind.GAUGE,
            "Routes of routed to which the kernel prefers a foreign route.",
        ).add(fib.shadowed_now)
        for name, help_text in FIB_COUNTERS.items():
            help_text = f"{help_text[0].upper()}{help_text[1:]}."
            family = MetricFamily(f"routed_fib_{name}", Kind.COUNTER, help_text)
            yield family.add(getattr(fib, name))
        yield MetricFamily(
            "routed_netlink_errors", Kind.COUNTER, "Errors of the kernel, by errno."
        ).add_all("kind", _from_zero(NETLINK_ERRORS, fib.errors))
        yield self._router.convergence.histogram.family(
            "routed_convergence_seconds", "Time from a decision until the kernel has it."
        )

    def _nup(self) -> Iterator[MetricFamily]:
        rows = [row for chunk in self._views.neighbors() for row in chunk]
        adjacencies = MetricFamily("routed_nup_adjacencies", Kind.GAUGE, "Adjacencies, by state.")
        for state in AdjacencyState:
            adjacencies.add(sum(row.state == state.value for row in rows), state=state.value)
        yield adjacencies
        rtt = MetricFamily("routed_nup_rtt_seconds", Kind.GAUGE, "Smoothed round-trip time.")
        prefixes = MetricFamily("routed_nup_prefixes", Kind.GAUGE, "Prefixes learned and feasible.")
        resent = MetricFamily(
            "routed_nup_retransmissions",
            Kind.COUNTER,
            "Retransmissions since the adjacency came up.",
        )
        for row in rows:
            # Anyone can choose a router id: a neighbor without two-way contact makes no series.
            if row.router_id is None or (row.state == "init" and not row.prefixes):
                continue
            # A router with two interfaces on one link is two neighbors.
            labels = {
                "neighbor": str(row.router_id),
                "interface": row.interface,
                "address": str(row.address),
            }
            if row.rtt_ms is not None:
                rtt.add(row.rtt_ms / 1000, **labels)
            prefixes.add(row.prefixes, **labels)
            resent.add(row.retransmissions, **labels)
        yield from (rtt, prefixes, resent)
        packets = MetricFamily("routed_nup_packets", Kind.COUNTER, "Datagrams, by direction.")
        for direction, count in self._router.datagrams.items():
            packets.add(count, direction=direction)
        yield packets
        drops = MetricFamily("routed_nup_drops", Kind.COUNTER, "Datagrams dropped, by reason.")
        drops.add_all("reason", self._router.datagrams_refused)
        events = MetricFamily(
            "routed_nup_events", Kind.COUNTER, "Events that NUP counts, except for drops."
        )
        for name, count in sorted(self._router.neighbors.counters().items()):
            if name.startswith("dropped_"):
                drops.add(count, reason=name.removeprefix("dropped_"))
            else:
                events.add(count, event=name)
        yield from (drops, events)

    def _memory(self) -> Iterator[MetricFamily]:
        memory = MetricFamily("routed_memory_bytes", Kind.GAUGE, "Memory, by part.")
        for row in self._views.memory():
            memory.add(row.size_bytes, part=row.part)
        yield memory


def _verdict(status: StatusView) -> Iterator[MetricFamily]:
    yield MetricFamily(
        "routed_config_in_sync",
        Kind.GAUGE,
        "1 if the configuration file, as it was read last, is in force, else 0.",
    ).add(int(status.config_in_sync))
    health = MetricFamily("routed_health", Kind.GAUGE, "1 for the present state, else 0.")
    for state in HealthState:
        health.add(int(status.health is state), state=state.value)
    yield health


def _from_zero(known: Iterable[str], counts: Mapping[str, int]) -> dict[str, int]:
    """Add known labels with the count 0. A counter that first appears at 1 shows no increase, so an
    alert on its increase would not fire."""
    return {**dict.fromkeys(known, 0), **counts}


def _by_call(refused: Mapping[str, int]) -> dict[str, int]:
    """Count refused calls by name. Calls without a name, which only an intruder makes, are one
    label."""
    machine = here()
    names = COMMON_REFUSALS[machine].keys() | CONDITIONS.keys() if machine is not None else set()
    counts = _from_zero(sorted(names | {"other"}), {})
    for call, count in refused.items():
        counts[call if call in names else "other"] += count
    return counts
