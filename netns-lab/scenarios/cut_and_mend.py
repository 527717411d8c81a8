"""A link fails and recovers: traffic uses the other way round, and then the short one again.

On a ring every link is on half of the paths. The scenario cuts one in the middle of the path
between two opposite routers while both are pinged, and checks that all routers reach all loopback
addresses again: by paths that are shortest without the link, and after its recovery by those that
are shortest with it.
"""

from __future__ import annotations

from collections.abc import Callable

from testbed import Lab

__all__ = ["TOPOLOGY", "run"]

TOPOLOGY = "ring8"

_CONVERGE_S = 60.0
_PINGS = 5


def run(lab: Lab, say: Callable[[str], None]) -> None:
    """Run the scenario in a lab whose daemons are not started.

    Raises:
        AssertionError: the network did not converge as expected (DeadlineExceededError included).
        LabError: a daemon did not start or answer.
    """
    source, *others = lab.topology.nodes
    link = next(segment.name for segment in lab.topology.segments if not segment.is_lan)
    say(f"starting routed in {len(others) + 1} routers")
    lab.start_daemons()
    lab.wait_converged(_CONVERGE_S)
    say("converged: every router reaches every loopback address by a shortest path")
    _ping_everybody(lab, source)

    target = link.partition("-")[2]
    with lab.ping_stream(source, target) as stream:
        lab.cut(link)
        lab.wait_converged(_CONVERGE_S)
    say(
        f"cut {link}: converged without it; {stream.lost} of {stream.sent} pings lost, "
        f"longest outage {stream.longest_outage_s * 1000:.0f} ms"
    )
    _ping_everybody(lab, source)

    with lab.ping_stream(source, target) as stream:
        lab.mend(link)
        lab.wait_converged(_CONVERGE_S)
    say(f"mended {link}: the shortest paths are back; {stream.lost} of {stream.sent} pings lost")
    _ping_everybody(lab, source)


def _ping_everybody(lab: Lab, source: str) -> None:
    for destination in lab.topology.nodes:
        if destination == source:
            continue
        for version in (4, 6):
            report = lab.ping(source, destination, _PINGS, version)
            assert report.lost == 0, (
                f"{source} to {destination}, IPv{version}: {report.lost} of {report.sent} lost"
            )
