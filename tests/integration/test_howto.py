"""How-tos, run in a lab: each block of YAML is applied, and each command has the output that the
page shows.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from testbed import Lab
from tests.integration.conftest import LabBuilder, foreign_route
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
PAGE = Path(__file__).parents[2] / "docs" / "first-configuration.md"

STEP = re.compile(
    r"^```yaml\n(?P<yaml>.*?)^```$|^```console\n(?P<console>.*?)^```$"
    r"|^<!-- another program: (?P<added>\S+) -->$"
    r"|^<!-- the other program removes (?P<removed>\S+) -->$",
    re.DOTALL | re.MULTILINE,
)


NEIGHBORS = ("interfaces", "redistribute")
"""The parts that the configuration of a lab has and that of the package lacks."""


def commands_of(block: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield each command of a console block with the lines that follow it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield shlex.split(command)[1:], lines


def answer_of(lab: Lab, words: list[str]) -> list[str]:
    done = lab.run("R", lab.routectl_command("R", *words))
    assert done.stderr == "", words
    return [line.rstrip() for line in done.stdout.splitlines()]


def test_a_first_configuration_beside_existing_routes(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    config = yaml.safe_load(lab.read_config("R"))
    base = yaml.safe_dump({key: config[key] for key in config if key not in NEIGHBORS})
    lab.write_config("R", base)
    lab.start_daemons(["R"])
    text = base
    commands = 0
    for step in STEP.finditer(PAGE.read_text(encoding="utf-8")):
        if step["yaml"] is not None:
            text += step["yaml"]
            lab.write_config("R", text)
        elif step["added"] is not None:
            foreign_route(lab, "R", "INSTALL", step["added"], priority=0)
        elif step["removed"] is not None:
            foreign_route(lab, "R", "REMOVE", step["removed"], priority=0)
        else:
            for words, lines in commands_of(step["console"]):
                commands += 1
                wait_for_answer(lab, words, lines)
    assert commands == PAGE.read_text(encoding="utf-8").count("\n$ ") > 10


def wait_for_answer(lab: Lab, words: list[str], lines: list[str]) -> None:
    """Run a command. One that only shows something is repeated until its output is that of the
    page.
    """
    if words[0] not in ("health", "show"):
        answer = answer_of(lab, words)
        assert not lines or answer == lines, (words, answer)
        return
    wait_until(lambda: answer_of(lab, words) == lines, DEADLINE_S, f"{shlex.join(words)}: {lines}")
