"""A file with forty mistakes gets forty errors that a stranger can act on: all at once, each in its
place.

`pytest --update-golden` writes the errors anew; whether they read well is for a person to judge.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from routed.config.load import ConfigError, load_file

DATA = Path(__file__).parent / "data"


@pytest.fixture
def lines() -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_file(DATA / "forty-mistakes.yaml")
    return str(caught.value).replace(f"{DATA}/", "").splitlines()


def test_forty_mistakes_are_forty_errors(lines: list[str], request: pytest.FixtureRequest) -> None:
    golden = DATA / "forty-mistakes.txt"
    if request.config.getoption("--update-golden", default=False):
        golden.write_text("".join(f"{line}\n" for line in lines))
    assert lines == golden.read_text().splitlines()
    assert len(lines) == 40


def test_each_is_in_its_place(lines: list[str]) -> None:
    """Line and column point at the mistake itself, or at the mapping where something is missing."""
    source = (DATA / "forty-mistakes.yaml").read_text().splitlines()
    places = set()
    for line in lines:
        found = re.match(r"forty-mistakes.yaml:(\d+):(\d+): ([^:]+): (.+)", line)
        assert found is not None, line
        row, column, key, _ = found.groups()
        there = source[int(row) - 1][int(column) - 1 :]
        assert re.match(r"[A-Za-z0-9_\"{\[-]", there), line
        assert key.split(".")[0].split("[")[0] in "\n".join(source[: int(row)]), line
        places.add((row, column))
    assert len(places) == 40


def test_none_speaks_of_the_program(lines: list[str]) -> None:
    """No class, no traceback, no word of the parser's."""
    for line in lines:
        assert not re.search(r"Error|None|object|node|scalar|<[a-z]", line), line
