"""The shipped configurations load, and the full one shows every option."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from routed.config.load import load_file
from routed.config.schema import Config, ListOf, MapOf, NamedLists, Nested, options_of
from routed.engine.show.counters import FIB_COUNTERS
from routed.fib.compat_mode import COMPAT_MODE_PATH

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_a_shipped_configuration_loads(name: str) -> None:
    load_file(CONFIGS / name)


def test_no_example_shares_its_user_with_other_services() -> None:
    """S18: whatever else runs as `nobody` may end an engine that does, again and again."""
    root = CONFIGS.parent
    pages = [root / "README.md", *root.glob("docs/**/*.md"), *root.glob("configs/**/*")]
    pages += root.glob("netns-lab/**/*.*")
    texts = {
        page: page.read_text("utf-8") for page in pages if page.is_file() and page.suffix != ".pyc"
    }
    assert len(texts) > 30
    example = re.compile(r"""^\s*["']?user["']?:.*nobody""", re.MULTILINE)
    assert [page.name for page, text in texts.items() if example.search(text)] == []


def missing(cls: type, written: Any, path: str) -> list[str]:
    """Options of a class that no instance in the file shows."""
    instances = written if isinstance(written, list) else [written]
    found = []
    for option in options_of(cls):
        values = [entry[option.key] for entry in instances if entry and option.key in entry]
        if not values:
            found.append(f"{path}{option.key}")
            continue
        match option.shape:
            case Nested(cls=child):
                found += missing(child, values, f"{path}{option.key}.")
            case ListOf(item=child) if isinstance(child, type) and dataclasses.is_dataclass(child):
                flat = [entry for value in values for entry in value]
                found += missing(child, flat, f"{path}{option.key}[].")
            case NamedLists(item=child):
                flat = [entry for value in values for items in value.values() for entry in items]
                found += missing(child, flat, f"{path}{option.key}.*[].")
            case MapOf(cls=child):
                flat = [entry for value in values for entry in value.values()]
                found += missing(child, flat, f"{path}{option.key}.*.")
    return found


def test_the_full_configuration_shows_every_option() -> None:
    written = yaml.safe_load((CONFIGS / "full.yaml").read_text(encoding="utf-8"))
    assert missing(Config, written, "") == []


def test_the_sysctl_fragment_sets_a_switch_that_the_daemon_knows() -> None:
    text = (CONFIGS / "sysctl.d" / "routed.conf").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    name, _, value = line.partition(" = ")
    assert Path("/proc/sys", *name.split(".")) == COMPAT_MODE_PATH
    assert value == "0"


def test_the_protocol_number_has_its_name() -> None:
    config = load_file(CONFIGS / "full.yaml")
    fragment = (CONFIGS / "rt_protos.d" / "routed.conf").read_text(encoding="utf-8")
    assert f"{config.fib.protocol}\trouted" in fragment


_METRIC_MODULES = ("metrics.py", "bfd.py", "probes.py", "traffic_metrics.py")


def _exported_names() -> set[str]:
    """Every sample name that the exporter can give, by its own text."""
    folder = CONFIGS.parent / "routed" / "engine" / "show"
    text = "".join((folder / name).read_text(encoding="utf-8") for name in _METRIC_MODULES)
    names = {"routed_info", *(f"routed_fib_{name}_total" for name in FIB_COUNTERS)}
    for name, kind in re.findall(r'"(routed_[a-z_]+)",\s*Kind\.([A-Z]+)', text):
        names.add(f"{name}_total" if kind == "COUNTER" else name)
    names |= {f"routed_convergence_seconds_{part}" for part in ("bucket", "count", "sum")}
    return names


def _documented() -> dict[str, set[str]]:
    """Labels of every sample name, by the manual."""
    text = (CONFIGS.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(routed_\w+)` \| ([^|]*)\|", text, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_the_manual_has_every_metric() -> None:
    assert set(_documented()) == _exported_names()


EVERY_TARGET_HAS = {"instance", "job"}


@pytest.mark.parametrize("name", ["alerts.yaml", "grafana-dashboard.json"])
def test_dashboard_and_alerts_use_metrics_that_exist(name: str) -> None:
    text = (CONFIGS / "prometheus" / name).read_text(encoding="utf-8")
    document = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    expressions = list(_expressions(document))
    assert len(expressions) >= 9
    used = {word for text in expressions for word in re.findall(r"routed_[a-z_]+", text)}
    assert used <= _exported_names()


@pytest.mark.parametrize("name", ["alerts.yaml", "grafana-dashboard.json"])
def test_dashboard_and_alerts_use_labels_that_the_metrics_have(name: str) -> None:
    text = (CONFIGS / "prometheus" / name).read_text(encoding="utf-8")
    document = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    looked_at = 0
    for entry in _entries(document):
        metrics = re.findall(r"(routed_\w+)(?:\{([^}]*)\})?", entry["expr"])
        carried = set(EVERY_TARGET_HAS)
        for metric, selector in metrics:
            labels = _documented()[metric] | EVERY_TARGET_HAS
            selected = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert selected <= labels, entry["expr"]
            carried |= labels
            looked_at += len(selected)
        said = json.dumps(entry)
        shown = set(re.findall(r"\{\{ ?\$labels\.(\w+) ?\}\}|\{\{(\w+)\}\}", said))
        words = {word for pair in shown for word in pair if word}
        assert words <= carried, entry["expr"]
        looked_at += len(words)
    assert looked_at > 10


def _entries(document: Any) -> Any:
    """Everything with an expression: alert rules, and targets of panels."""
    match document:
        case {"expr": str()}:
            yield document
        case dict():
            for value in document.values():
                yield from _entries(value)
        case list():
            for value in document:
                yield from _entries(value)


def _expressions(document: Any) -> Any:
    match document:
        case dict():
            for key, value in document.items():
                if key in ("expr", "query") and isinstance(value, str):
                    yield value
                else:
                    yield from _expressions(value)
        case list():
            for value in document:
                yield from _expressions(value)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "prometheus").glob("routed-*")), ids=lambda path: path.name
)
def test_the_units_for_metrics_are_understood(path: Path, tmp_path: Path) -> None:
    for unit in (CONFIGS / "prometheus").glob("routed-*"):
        # The programs that a unit starts are another matter, and may be elsewhere here.
        text = re.sub(
            r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE
        )
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if path.name in line]
    assert (complaints, done.returncode) == ([], 0), done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_understood_and_as_closed_as_the_manual_says(tmp_path: Path) -> None:
    """2.4 of 10 on systemd 252. Alone: beside its drop-in it would be the form without root."""
    alone = tmp_path / "routed.service"
    shutil.copy(CONFIGS / "routed.service", alone)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=24",
         "--no-pager", str(alone)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unknown" not in done.stderr
