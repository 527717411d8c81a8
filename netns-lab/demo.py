"""`make run`: builds three routers in a line and checks that they work.

A - R - B. routed runs in each. R learns routes only from its neighbors, and A and B reach each
other only through R. Results are printed on stdout, progress on stderr.
"""

from __future__ import annotations

import signal
import sys
import time
import types

import kernel
from client import LabError
from terminal import run_on_terminal
from testbed import Lab
from waiting import DeadlineExceededError

__all__ = ["run_demo"]

_PINGS = 5
_CONVERGE_S = 30.0


class _Progress:
    """Progress on stderr: one line that is rewritten on a terminal, and printed once elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._began_at = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began_at

    def step(self, text: str) -> None:
        """Report that a step begins or has ended."""
        clear = "\r\033[K" if self._is_terminal else ""
        print(f"{clear}[{self.elapsed_s:4.1f} s] {text}", file=sys.stderr, flush=True)

    def waiting(self, gaps: list[str]) -> None:
        """Report the remaining gaps."""
        if self._is_terminal and gaps:
            text = f"[{self.elapsed_s:4.1f} s] converging: {len(gaps)} to go, such as {gaps[0]}"
            print(f"\r\033[K{text[:78]}", end="", file=sys.stderr, flush=True)


def run_demo() -> int:
    """Build, converge, show and check; then open R's shell on a terminal. Returns the exit
    status."""
    signal.signal(signal.SIGTERM, _interrupt)
    progress = _Progress()
    progress.step("building A - R - B: three network namespaces, joined by veth pairs")
    with Lab("line3") as lab:
        way = "in a user namespace, without root" if lab.is_rootless else "as root"
        progress.step(f"built {way}; starting routed in A, R and B")
        try:
            lab.start_daemons()
            progress.step("all three are ready; waiting for the network to converge")
            lab.wait_converged(_CONVERGE_S, progress.waiting)
            progress.step("converged")
            _show(lab)
            is_proved = _prove(lab, progress)
        except (LabError, DeadlineExceededError) as error:
            progress.step(f"failed: {error}")
            is_proved = False
        if not is_proved:
            print(lab.dump(), file=sys.stderr)
            return 1
        if sys.stdin.isatty() and sys.stdout.isatty():
            print("\nThe shell of R: try `show route 10.255.0.3`, `?` for help, Ctrl-D to end.")
            run_on_terminal(lab, "R", lab.routectl_command("R"))
    return 0


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    """Leave through the `with` block."""
    raise KeyboardInterrupt


def _heading(text: str) -> None:
    print(f"\n--- {text}")


def _show(lab: Lab) -> None:
    for view in ("neighbors", "routes"):
        _heading(f"R: routectl show {view}")
        print(lab.show("R", view))
    _heading(f"R: the kernel's own routes of protocol {kernel.PROTOCOL_ROUTED}")
    for route in lab.kernel_routes("R"):
        print(kernel.as_ip_route(route))


def _prove(lab: Lab, progress: _Progress) -> bool:
    """Ping, and print the summary. Returns whether all checks passed."""
    _heading("A: ping the loopback addresses of B, from its own")
    results = []
    is_good = True
    for version in (4, 6):
        target = lab.topology.nodes["B"].loopbacks[version == 6].ip
        report = lab.ping("A", "B", _PINGS, version)
        print(f"{target}: {report.sent} sent, {report.received} answered")
        results.append(f"{report.received}/{report.sent} pings IPv{version}")
        is_good = is_good and report.lost == 0
    installed = sum(len(lab.kernel_routes(name)) for name in lab.topology.nodes)
    verdict = "Proved" if is_good else "Not proved"
    print(
        f"\n{verdict}: {len(lab.topology.nodes)} routers, {installed} routes installed, in every "
        f"router the kernel equals what routed says; {', '.join(results)}; in "
        f"{progress.elapsed_s:.1f} s."
    )
    return is_good
