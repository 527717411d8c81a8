"""Labs for tests: built on demand, ended with the test, dumped when it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator

import pytest

from network import Network
from testbed import Lab, LabError
from topology import Topology

LabBuilder = Callable[[Topology | str], Lab]

_LABS = pytest.StashKey[list[Network]]()


@pytest.fixture
def build_lab(request: pytest.FixtureRequest) -> Iterator[LabBuilder]:
    """Builds labs by the name of their topology; they end with the test."""
    labs: list[Network] = []
    request.node.stash[_LABS] = labs
    with contextlib.ExitStack() as stack:

        def build(topology: Topology | str) -> Lab:
            lab = stack.enter_context(Lab(topology))
            labs.append(lab)
            return lab

        yield build


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add every router's views, kernel routes and log to the report of a failed test."""
    report = yield
    if report.failed and call.when == "call":
        for lab in item.stash.get(_LABS, []):
            try:
                text = lab.dump()
            except (LabError, OSError) as error:
                text = f"it cannot be looked at any more: {error}"
            report.sections.append((f"lab {lab.name}", text))
    return report
