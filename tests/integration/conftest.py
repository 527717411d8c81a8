"""Labs for tests: they are built on demand, removed at the end of the test, and dumped when it
fails.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import pytest

from network import Network
from routed.fib.request_socket import RequestSocket
from routed.model.prefix import Address
from testbed import Lab, LabError
from tests.fakes.fake_kernel import FakeKernel
from tests.fakes.kernels import Contract, Namespace, built_namespace, subnets
from topology import Topology

LabBuilder = Callable[[Topology | str], Lab]

_LABS = pytest.StashKey[list[Network]]()


@pytest.fixture
def build_lab(request: pytest.FixtureRequest) -> Iterator[LabBuilder]:
    """Return a function that builds a lab by the name of its topology. The lab is removed with the
    test.
    """
    labs: list[Network] = []
    request.node.stash[_LABS] = labs
    with contextlib.ExitStack() as stack:

        def build(topology: Topology | str) -> Lab:
            lab = stack.enter_context(Lab(topology))
            labs.append(lab)
            return lab

        yield build


_FOREIGN_ROUTE = """
import sys
from routed.fib.routes.ownership import TableKey, RouteValue
from routed.fib.routes.plan import FibBatch, OpKind
from routed.fib.request_socket import RequestSocket
from routed.model.prefix import Prefix
from routed.model.route import RouteType

kind, prefix, priority = OpKind[sys.argv[1]], Prefix.parse(sys.argv[2]), int(sys.argv[3])
space = TableKey(int(sys.argv[4]), prefix.family, 0, priority)
batch = FibBatch(kind, space, [prefix.as_int], [RouteValue(RouteType.BLACKHOLE, ())])
assert RequestSocket(12).apply([batch]) == [{}]
"""


def foreign_route(
    lab: Lab, router: str, kind: str, prefix: str, priority: int = 205, *, table: int = 254
) -> None:
    """Let another daemon (bird) INSTALL or REMOVE a black hole in a router's kernel."""
    words = [sys.executable, "-c", _FOREIGN_ROUTE, kind, prefix, str(priority), str(table)]
    done = lab.run(router, words)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """Two links, each with its peer in another namespace."""
    with built_namespace() as built:
        yield built


@pytest.fixture(params=["fake", "real"])
async def contract(request: pytest.FixtureRequest, namespace: Namespace) -> AsyncIterator[Contract]:
    """The fake kernel, then the real one."""
    v0, v1 = namespace.ifindexes["v0"], namespace.ifindexes["v1"]
    if request.param == "fake":
        kernel = FakeKernel()
        kernel.subnets = subnets(v0, v1)
        kernel.sources = {
            Address.parse(text.format(number))
            for number in (0, 1)
            for text in ("192.0.{}.1", "2001:db8:{}::1")
        }
        yield Contract(kernel, v0, v1, namespace)
        return
    with namespace.here.inside(), RequestSocket(205) as requests:
        yield Contract(requests, v0, v1, namespace)


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
