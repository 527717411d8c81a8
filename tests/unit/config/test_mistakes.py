"""A file with forty mistakes gets forty errors that a stranger can act on: all at once, each in its
place.

`pytest --update-golden` writes the errors anew; whether they read well is for a person to judge.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from routed.config.load import PROBLEMS_SHOWN_MAX, ConfigError, load_file, load_text

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


def test_mistakes_of_meaning_are_reported_with_all_others() -> None:
    """One look is enough: no mistake waits behind another, and none follows from another."""
    text = """
router_id: 10.255.0.1
user: nobody
log: {level: loud}
fib: {protocol: 42}
interfaces:
  eth0: {key: core}
  eth1: {key: coer, rtt_min: 9ms, rtt_max: 3ms}
  eth2: {key: edge}
statik:
  - {prefix: 10.0.0.1/8, type: blackhole}
  - {prefx: 10.1.0.1/16, type: blackhole}
  - {prefix: 10.2.0.0/16, type: blackhole}
  - {prefix: 10.2.0.0/16, type: blackhole}
  - {prefix: 10.3.0.0/16}
keys:
  core: [{id: 1, algorithm: md5, secret_file: a.key}, {id: 2, secret_file: b.key}]
  edge: {}
learn: [{protocol: 42}, {protocol: gopher}]
"""
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    told = [(problem.line, problem.path) for problem in caught.value.problems]
    assert told == [
        (4, "log.level"),
        (5, "fib.protocol"),
        (8, "interfaces.eth1.key"),
        (8, "interfaces.eth1.rtt_max"),
        (10, "statik"),
        (11, "static[0].prefix"),
        (12, "static[1].prefx"),
        (12, "static[1].prefix"),
        (14, "static[3].prefix"),
        (15, "static[4].prefix"),
        (17, "keys.core[0].algorithm"),
        (18, "keys.edge"),
        (19, "learn[0].protocol"),
        (19, "learn[1].protocol"),
    ]
    assert "first as static[2]" in str(caught.value)


@pytest.mark.parametrize("keys", ["core", "[]", '{"two words": []}'])
def test_keys_that_cannot_be_read_are_not_missed(keys: str) -> None:
    """An interface that names one of them is right, as far as anybody can tell."""
    text = "router_id: 10.255.0.1\nuser: nobody\ninterfaces: {eth0: {key: core}}\n"
    with pytest.raises(ConfigError) as caught:
        load_text(f"{text}keys: {keys}\n")
    assert {problem.line for problem in caught.value.problems} == {4}


def test_a_misspelt_key_that_could_be_another_is_not_read() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("router_id: 10.255.0.1\nusr: no-such-user\nuser: nobody\n")
    assert [str(problem) for problem in caught.value.problems] == [
        "routes.yaml:2:1: usr: unknown key; did you mean 'user'?"
    ]


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


def test_no_message_mentions_the_program(lines: list[str]) -> None:
    """No class, no traceback, no word of the parser's."""
    for line in lines:
        assert not re.search(r"Error|None|object|node|scalar|<[a-z]", line), line


def test_a_name_with_dots_and_brackets_is_found_again() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(
            "router_id: 10.255.0.1\nuser: nobody\ninterfaces:\n"
            '  eth0: {}\n  eth0.7: {key: core}\n  "eth[0-9]": {key: edge}\n'
        )
    assert [(each.line, each.column) for each in caught.value.problems] == [(5, 17), (6, 21)]


def test_of_three_thousand_mistakes_the_first_hundred_are_shown() -> None:
    wrong = "".join(f"  - {{prefx: 10.{n >> 8}.{n & 255}.0/24}}\n" for n in range(3000))
    with pytest.raises(ConfigError) as caught:
        load_text(f"router_id: 10.255.0.1\nuser: nobody\nstatic:\n{wrong}", "routes.yaml")
    problems = caught.value.problems
    assert len(problems) == PROBLEMS_SHOWN_MAX + 1
    assert problems[0].line == 4
    assert re.search(r"and \d{4,} more problems$", str(problems[-1]))


@pytest.mark.parametrize("key", ["router_id", "x" * 150_000])
def test_a_long_value_or_key_is_quoted_in_part(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"? {key}\n: {'x' * 150_000}\n", "routes.yaml")
    assert all(len(line) < 1000 for line in str(caught.value).splitlines())


def test_a_static_route_has_no_more_next_hops_than_a_message_holds() -> None:
    hops = ", ".join(f"{{via: 10.0.{n >> 8}.{n & 255}}}" for n in range(1025))
    with pytest.raises(ConfigError, match="1025 next hops; the maximum is 1024"):
        load_text(
            "router_id: 10.255.0.1\nuser: nobody\n"
            f"static: [{{prefix: 10.9.0.0/16, next_hops: [{hops}]}}]\n",
            "routes.yaml",
        )
