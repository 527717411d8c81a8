"""What every test shares: how hard hypothesis tries, and which tests this machine allows.

A test marked `root` is left out, with the reason, where its privilege cannot be had: lab tests
(tests/integration) need network namespaces, which a user namespace gives to anybody; all others
need root itself, because they change to other users.

With CI=true leaving out a `root` test is a failure, so that a pipeline that silently lost its
privilege does not stay green. The one excuse is a kernel without the feature: such a test skips
with a reason that begins with "this kernel lacks".

Any other test may be left out for a reason of `skips.EXCUSES` only, and only where that excuse
holds: a test of the C extension is due wherever there is a compiler, one that needs tmux wherever
tmux is installed, and so on. With CI=true everything else is a failure.
"""

from __future__ import annotations

import os
import pwd
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import privilege
from routed.fib.routes import extension as native
from tests.skips import KERNEL_LACKS, is_excused

# A shell that starts the suite in the background has it ignore Ctrl-C, and what it starts inherits
# that; what Ctrl-C does to our programs is among the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The shipped and the lab's configurations name a user of their own, whom this machine may not have.
_getpwnam = pwd.getpwnam


def _getpwnam_with_routed(name: str) -> pwd.struct_passwd:
    try:
        return _getpwnam(name)
    except KeyError:
        if name != "routed":
            raise
        return pwd.struct_passwd((name, "x", 61698, 61698, "", "/", "/usr/sbin/nologin"))


pwd.getpwnam = _getpwnam_with_routed

_INTEGRATION = Path(__file__).parent / "integration"

# How long an example takes says something about what else the machine does, and nothing about us.
settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def _is_ci() -> bool:
    return os.environ.get("CI") == "true"


class LeftOut:
    """Collects what was skipped, says so at the end, and fails the run where that is an error."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._forbidden: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skip."""
        if not report.skipped or not isinstance(report.longrepr, tuple):
            return
        reason = report.longrepr[2].removeprefix("Skipped: ")
        self._reasons[reason] += 1
        is_root_test = "root" in report.keywords
        allowed = reason.startswith(KERNEL_LACKS) if is_root_test else is_excused(reason)
        if _is_ci() and not allowed:
            self._forbidden.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a forbidden skip into a failed run."""
        if self._forbidden:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was left out and why."""
        if not self._reasons:
            return
        terminalreporter.section("left out")
        for reason, count in self._reasons.most_common():
            terminalreporter.line(f"{count:4} tests: {reason}")
        for name in self._forbidden:
            terminalreporter.line(f"CI=true, so this may not be left out: {name}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files instead of comparing"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the hypothesis profile, start collecting skips."""
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if _is_ci() else "dev"))
    if not hasattr(config, "workerinput"):  # with `-n` the process that hears of every test
        config.pluginmanager.register(LeftOut(), "left-out")


def _why_not(item: pytest.Item) -> str:
    """Why this machine does not allow a test marked `root`; empty when it does."""
    here = privilege.probe()
    if item.path.is_relative_to(_INTEGRATION):
        return here.reason
    if os.geteuid() != 0:
        return "needs root: it changes to other users, which a user namespace does not allow"
    if here.is_rootless:
        return "needs all of root's capabilities: this looks like an unprivileged container"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what this machine does not allow."""
    for item in items:
        if item.get_closest_marker("root") is not None and (reason := _why_not(item)):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module", params=["C extension", "pure Python"])
def kernel_tables(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run everything in a module with either code for the kernel's tables."""
    if request.param == "C extension":
        if native.native is None:
            pytest.skip("the C extension is not built")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "native", None)
        yield
