"""The commands about probes, in the notation of `grammar`."""

from __future__ import annotations

from ipc.control import Role, ShowProbes
from routectl.grammar import Ask, Invocation, Leaf, Positional, ValueKind
from routectl.render import probes

__all__ = ["SHOW_PROBE", "SHOW_PROBES"]


def _ask(invocation: Invocation) -> ShowProbes:
    return ShowProbes(invocation.value("name"))


SHOW_PROBES = Leaf(
    "probes",
    "The probes: state, loss, round-trip time, and the last results of each",
    "show probes",
    Role.READ,
    Ask(_ask, probes.PROBES),
    (Positional("name", ValueKind.PROBE, "only this probe"),),
)

SHOW_PROBE = Leaf(
    "probe",
    "One probe with its options, counters and last reasons",
    "show probe uplink1",
    Role.READ,
    Ask(_ask, probes.PROBE),
    (Positional("name", ValueKind.PROBE, "the probe", is_required=True),),
)
