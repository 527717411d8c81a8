"""The alert rules fire on a first event, and are silent while nothing happens (promtool)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

RULES = Path(__file__).parents[2] / "configs" / "prometheus" / "alerts.yaml"

TARGET = 'instance="r1", job="routed"'

AT_REST = {
    f"up{{{TARGET}}}": "1x30",
    f'routed_fib_routes{{state="failed", {TARGET}}}': "0x30",
    f'routed_fib_routes{{state="pending", {TARGET}}}': "0x30",
    f"routed_fib_routes_shadowed{{{TARGET}}}": "0x30",
    f'routed_nup_adjacencies{{state="up", {TARGET}}}': "2x30",
    f"routed_engine_restarts_total{{{TARGET}}}": "0x30",
    f'routed_engine_violations_total{{kind="flood", {TARGET}}}': "0x30",
    f'routed_sandbox_refusals_total{{call="openat", {TARGET}}}': "0x30",
    f'routed_reloads_total{{outcome="failed", {TARGET}}}': "0x30",
    f"routed_config_in_sync{{{TARGET}}}": "1x30",
    f'routed_client_refusals_total{{reason="role", {TARGET}}}': "0x30",
}
"""Each series of a daemon at rest, a sample a minute; counters exist from the start, at 0."""

EVENTS = {
    "RoutedDown": (f"up{{{TARGET}}}", "1x10 0x20"),
    "RoutedReloadFailed": (
        f'routed_reloads_total{{outcome="failed", {TARGET}}}', "0x20 1x10",
    ),
    "RoutedConfigNotInForce": (f"routed_config_in_sync{{{TARGET}}}", "1x10 0x20"),
    "RoutedRoutesFailed": (
        f'routed_fib_routes{{state="failed", {TARGET}}}', "0x20 3x10",
    ),
    "RoutedRoutesShadowed": (f"routed_fib_routes_shadowed{{{TARGET}}}", "0x20 1x10"),
    "RoutedAdjacencyLost": (
        f'routed_nup_adjacencies{{state="up", {TARGET}}}', "2x20 1x10",
    ),
    "RoutedEngineRestarted": (f"routed_engine_restarts_total{{{TARGET}}}", "0x20 1x10"),
    "RoutedEngineViolation": (
        f'routed_engine_violations_total{{kind="flood", {TARGET}}}', "0x20 1x10",
    ),
    "RoutedSystemCallsRefused": (
        f'routed_sandbox_refusals_total{{call="openat", {TARGET}}}', "0x20 1x10",
    ),
}  # fmt: skip
"""By alert: the series of an event, and what becomes of it."""

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def run_promtool(folder: Path, series: Mapping[str, str], firing: set[str]) -> None:
    """Evaluate the rules after 25 minutes of some series, and compare the alerts that fire."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    expected = []
    for rule in rules["groups"][0]["rules"]:
        entry = {"eval_time": "25m", "alertname": rule["alert"], "exp_alerts": []}
        expected.append(entry)
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in series.items()
                ],
                "alert_rule_test": expected,
            }
        ],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    found = {name for name in EVENTS if f"alertname: {name}" in done.stdout + done.stderr}
    found |= {name for name in EVENTS if f'alertname="{name}"' in done.stdout + done.stderr}
    assert found == firing, done.stdout + done.stderr
    assert (done.returncode == 0) is (not firing)


def test_a_daemon_at_rest_is_silent(tmp_path: Path) -> None:
    run_promtool(tmp_path, AT_REST, set())


@pytest.mark.parametrize("alert", sorted(EVENTS))
def test_a_first_event_fires_its_alert_alone(tmp_path: Path, alert: str) -> None:
    series, values = EVENTS[alert]
    run_promtool(tmp_path, {**AT_REST, series: values}, {alert})
