"""The shipped configurations load, and the full one shows every option."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from routed.config.load import load_file
from routed.config.schema import Config, ListOf, MapOf, Nested, Unavailable, options_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_a_shipped_configuration_loads(name: str) -> None:
    load_file(CONFIGS / name)


def missing(cls: type, written: Any, path: str) -> list[str]:
    """Options of a class that no instance in the file shows."""
    instances = written if isinstance(written, list) else [written]
    found = []
    for option in options_of(cls):
        if isinstance(option.shape, Unavailable):
            continue
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
            case MapOf(cls=child):
                flat = [entry for value in values for entry in value.values()]
                found += missing(child, flat, f"{path}{option.key}.*.")
    return found


def test_the_full_configuration_shows_every_option() -> None:
    written = yaml.safe_load((CONFIGS / "full.yaml").read_text(encoding="utf-8"))
    assert missing(Config, written, "") == []


def test_the_protocol_number_has_its_name() -> None:
    config = load_file(CONFIGS / "full.yaml")
    fragment = (CONFIGS / "rt_protos.d" / "routed.conf").read_text(encoding="utf-8")
    assert f"{config.fib.protocol}\trouted" in fragment
