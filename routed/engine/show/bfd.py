"""Views, counters and metrics of BFD sessions. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from routed.config.nup import KeySetConfig
from routed.control.bfd_views import BfdDropView, BfdSessionView
from routed.control.views import CounterView
from routed.engine.bfd_states import KnownSession
from routed.engine.tracking import LivenessTracking
from routed.metrics.exposition import Kind, MetricFamily
from routed.model.bfd import BfdDrop, BfdReport, BfdState
from routed.model.route import bfd_tracker

__all__ = ["bfd_counters", "bfd_metrics", "bfd_view", "bfd_views"]

_US = 1_000_000
_BY_KERNEL = "by_kernel"

_DROPS: dict[str, str] = {
    BfdDrop.LENGTH.value: "BFD packets of an impossible length",
    BfdDrop.VERSION.value: "BFD packets of another version",
    BfdDrop.MULTIPLIER.value: "BFD packets with the detection multiplier 0",
    BfdDrop.MULTIPOINT.value: "BFD packets with the multipoint bit",
    BfdDrop.MY_DISCRIMINATOR.value: "BFD packets without a discriminator of their sender",
    BfdDrop.YOUR_DISCRIMINATOR.value: "BFD packets with a discriminator that no session has",
    BfdDrop.NO_SESSION.value: "BFD packets of a system without a session",
    _BY_KERNEL: "BFD packets refused by the socket filter, or for want of buffer space",
}
"""Reasons to drop a packet before its session is found."""


def bfd_view(
    known: KnownSession, users: int, key_sets: Sequence[KeySetConfig], now: float
) -> BfdSessionView:
    """Describe a session.

    Args:
        known: what is known of it.
        users: next hops that name it.
        key_sets: `keys` of the configuration.
        now: seconds, monotonic.
    """
    config = known.config
    view = BfdSessionView(
        name=config.name,
        peer=config.peer,
        source=config.source,
        interface=config.interface,
        multihop=config.multihop,
        passive=config.passive,
        desired_min_tx_us=round(config.transmit_s * _US),
        required_min_rx_us=round(config.receive_s * _US),
        detect_mult=config.multiplier,
        auth_type=_algorithm(config.key, key_sets),
        users=users,
        used=not known.problem,
        reason=known.problem,
    )
    if known.report is None or not known.is_current:
        return view
    return _with_report(view, known.report, now - known.reported_at)


def bfd_views(
    tracking: LivenessTracking, key_sets: Sequence[KeySetConfig], now: float
) -> list[BfdSessionView]:
    """Describe every session; arguments as for `bfd_view`."""
    return [
        bfd_view(known, tracking.users.get(bfd_tracker(name), 0), key_sets, now)
        for name, known in tracking.bfd.sessions.items()
    ]


def _with_report(view: BfdSessionView, report: BfdReport, since_s: float) -> BfdSessionView:
    return dataclasses.replace(
        view,
        session_state=report.state.label,
        state_age_s=round(report.age_s + since_s, 3),
        local_diag=report.diagnostic.label,
        local_discr=report.local_discriminator,
        remote_session_state=report.remote_state.label,
        remote_diag=report.remote_diagnostic.label,
        remote_discr=report.remote_discriminator,
        remote_min_tx_us=report.remote_transmit_us,
        remote_min_rx_us=report.remote_receive_us,
        remote_detect_mult=report.remote_multiplier,
        remote_demand_mode=report.is_remote_demand,
        transmit_interval_us=report.transmit_interval_us,
        detection_time_us=report.detection_time_us,
        polling=report.is_polling,
        packets_sent=report.packets_sent,
        packets_received=report.packets_received,
        times_up=report.times_up,
        times_down=report.times_down,
        send_errors=report.send_errors,
        drops=_drops(report),
    )


def _drops(report: BfdReport) -> tuple[BfdDropView, ...]:
    return tuple(BfdDropView(reason, count) for reason, count in sorted(report.dropped.items()))


def _algorithm(name: str | None, key_sets: Sequence[KeySetConfig]) -> str | None:
    algorithms = (
        key.algorithm.value for key_set in key_sets if key_set.name == name for key in key_set.keys
    )
    return next(algorithms, None)


def bfd_counters(dropped: Mapping[str, int]) -> Iterator[CounterView]:
    """List the packets that were dropped before their session was found."""
    for reason, text in _DROPS.items():
        yield CounterView(f"bfd_dropped_{reason}", dropped.get(reason, 0), text)


def bfd_metrics(
    sessions: Sequence[KnownSession], dropped: Mapping[str, int]
) -> Iterator[MetricFamily]:
    """Make the metrics of all sessions."""
    states = MetricFamily(
        "routed_bfd_session_up", Kind.GAUGE, "Whether the session is up; absent when unknown."
    )
    flaps = MetricFamily("routed_bfd_session_downs", Kind.COUNTER, "Times that it went down.")
    packets = MetricFamily("routed_bfd_packets", Kind.COUNTER, "Control packets, by direction.")
    drops = MetricFamily("routed_bfd_drops", Kind.COUNTER, "Packets dropped, by reason.")
    for known in sessions:
        report = known.report
        if report is None or not known.is_current:
            continue
        labels = {"session": known.config.name, "peer": str(known.config.peer)}
        states.add(report.state is BfdState.UP, **labels)
        flaps.add(report.times_down, **labels)
        packets.add(report.packets_sent, **labels, direction="sent")
        packets.add(report.packets_received, **labels, direction="received")
        for reason, count in report.dropped.items():
            drops.add(count, session=known.config.name, reason=reason)
    for reason in _DROPS:
        drops.add(dropped.get(reason, 0), session="", reason=reason)
    yield from (states, flaps, packets, drops)
