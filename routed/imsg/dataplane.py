"""Parent and engine: the messages about the dataplane.

    parent                                engine
      |  -- DATAPLANE_ARRAY ... ------->  |      memory, once for each engine
      |  -- DATAPLANE_CHANGED --------->  |      at first, and after each change
      |  <-- PROGRAMS_ASKED -----------   |      then PROGRAMS_REPORTED

The engine receives memory and no program: with the descriptor of a program it could attach it.
"""

from __future__ import annotations

from typing import Annotated

from ipc.lazy_dataclass import dataclass
from routed.model.bounds import Items, TextBytes
from routed.model.dataplane import DataplaneArray, DataplaneReason, Hook
from routed.model.fib import Reason
from routed.model.link import InterfaceName

__all__ = [
    "ATTACHMENTS_MAX",
    "OTHERS_MAX",
    "Attachment",
    "DataplaneArrayReady",
    "DataplaneChanged",
    "ProgramReport",
    "ProgramsAsked",
    "ProgramsReported",
]

ATTACHMENTS_MAX = 128
"""Interfaces in a report; up to half of them may have counters."""
OTHERS_MAX = 16
"""Programs of others that are named for an interface."""


@dataclass(frozen=True, slots=True)
class DataplaneArrayReady:
    """Memory that the programs share with a process; its descriptor comes along."""

    array: DataplaneArray
    processors: int
    words: int
    records: int
    flow_sets: int
    """As in `routed.dataplane.layout.Sizes`."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """How one interface is counted."""

    interface: InterfaceName
    ifindex: int
    """0 if it is not counted."""
    slot: int
    """Number of its counters; -1 for none."""
    hook: Hook
    reason: DataplaneReason
    """Why it does not stand higher."""
    detail: Reason = ""
    """The kernel's words, if it has refused."""
    others: Annotated[tuple[int, ...], Items(OTHERS_MAX)] = ()
    """Ids of programs of others at the same hooks."""


@dataclass(frozen=True, slots=True)
class DataplaneChanged:
    """Every interface that the configuration of the dataplane names, and how it is counted."""

    attachments: Annotated[tuple[Attachment, ...], Items(ATTACHMENTS_MAX)]
    continues: bool = False

    def halves(self) -> tuple[DataplaneChanged, ...]:
        """Return two messages with half of the attachments each; none for one attachment."""
        middle = len(self.attachments) // 2
        if not middle:
            return ()
        first, second = self.attachments[:middle], self.attachments[middle:]
        return DataplaneChanged(first, True), DataplaneChanged(second, self.continues)


@dataclass(frozen=True, slots=True)
class ProgramsAsked:
    """A client's request for the programs in the kernel; the answer repeats the request id."""


@dataclass(frozen=True, slots=True)
class ProgramReport:
    """One program in the kernel."""

    name: Annotated[str, TextBytes(64)]
    id: int
    """As bpftool shows it."""
    interfaces: int
    """Number of interfaces that it is attached to."""
    runs: int
    run_ns: int
    """Of all runs together."""
    code_bytes: int
    """Machine code."""
    has_statistics: bool
    """Whether the kernel counts its runs."""


@dataclass(frozen=True, slots=True)
class ProgramsReported:
    """The programs of the dataplane."""

    programs: Annotated[tuple[ProgramReport, ...], Items(16)]
    memory_bytes: int = 0
    """Of all arrays together."""
