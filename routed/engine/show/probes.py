"""Views and metrics of probes. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from routed.control.probe_views import ProbeView
from routed.engine.probe_states import KnownProbe
from routed.engine.tracking import LivenessTracking
from routed.metrics.exposition import Kind, MetricFamily
from routed.model.probe import NO_ANSWER, RCODES, ProbeReport, unpack_history
from routed.model.route import probe_tracker

__all__ = ["probe_metrics", "probe_view", "probe_views"]


def probe_view(known: KnownProbe, users: int, now: float) -> ProbeView:
    """Describe a probe.

    Args:
        known: what is known of it.
        users: next hops that name it.
        now: seconds, monotonic.
    """
    config, settings = known.config, known.config.settings
    view = ProbeView(
        name=config.name,
        kind=config.kind.value,
        target=config.target,
        port=config.port,
        source=config.source,
        interface=config.interface,
        mark=config.mark,
        session=config.session,
        of=config.members,
        least=settings.least or None,
        query=config.query,
        type=None if config.query is None else config.query_type.value,
        rcode=None if config.query is None else RCODES[config.rcode],
        answer=config.answer,
        rtt_max_ms=None if config.rtt_max_s is None else round(config.rtt_max_s * 1000, 3),
        loss_max_percent=config.loss_max if config.loss_max < 100 else None,
        window=config.window,
        interval_s=settings.interval_s,
        timeout_s=round(settings.timeout_s, 6),
        jitter_s=round(settings.jitter_s, 6),
        rise=config.rise,
        fall=config.fall,
        invert=config.invert,
        on_error=config.on_error.value,
        initial=config.initial.value,
        users=users,
        used=not known.problem,
        reason=known.problem,
    )
    if known.report is None or not known.is_current:
        return view
    return _with_report(view, known.report, now - known.reported_at)


def probe_views(tracking: LivenessTracking, now: float) -> list[ProbeView]:
    """Describe every probe."""
    return [
        probe_view(known, tracking.users.get(probe_tracker(name), 0), now)
        for name, known in tracking.probes.probes.items()
    ]


def _with_report(view: ProbeView, report: ProbeReport, since_s: float) -> ProbeView:
    history = [None if rtt == NO_ANSWER else rtt / 1000 for rtt in unpack_history(report.history)]
    times = [rtt for rtt in history if rtt is not None]
    return dataclasses.replace(
        view,
        state=report.state.label,
        state_age_s=round(report.age_s + since_s, 3),
        change_reason=report.change_reason,
        last_reason=report.last_reason,
        in_a_row=report.in_a_row,
        attempts=report.attempts,
        failures=report.failures,
        errors=report.errors,
        times_up=report.times_up,
        times_down=report.times_down,
        loss_percent=round(100 * (1 - len(times) / len(history)), 1) if history else None,
        rtt_ms=round(sum(times) / len(times), 3) if times else None,
        rtt_last_ms=times[-1] if times else None,
        history_ms=tuple(history),
    )


def probe_metrics(probes: Sequence[KnownProbe]) -> Iterator[MetricFamily]:
    """Make the metrics of all probes."""
    states = MetricFamily(
        "routed_probe_up", Kind.GAUGE, "Whether the probe is up; absent when unknown."
    )
    flaps = MetricFamily("routed_probe_downs", Kind.COUNTER, "Times that it went down.")
    attempts = MetricFamily("routed_probe_attempts", Kind.COUNTER, "Attempts, by result.")
    times = MetricFamily(
        "routed_probe_rtt_seconds", Kind.GAUGE, "Round-trip time of the last success."
    )
    for known in probes:
        report = known.report
        if report is None or not known.is_current:
            continue
        labels = {"probe": known.config.name, "kind": known.config.kind.value}
        if (is_up := report.state.is_up) is not None:
            states.add(is_up, **labels)
        flaps.add(report.times_down, **labels)
        attempts.add(report.attempts - report.failures, **labels, result="succeeded")
        attempts.add(report.failures, **labels, result="failed")
        rtts = [rtt for rtt in unpack_history(report.history) if rtt != NO_ANSWER]
        if rtts and known.config.kind.has_target:
            times.add(rtts[-1] / 1e6, **labels)
    yield from (states, flaps, attempts, times)
