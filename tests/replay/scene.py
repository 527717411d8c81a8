"""A simulated network in which one router is recorded from its first input on, in phases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from routed.nup.events import Output
from routed.nup.link.settings import LinkSettings
from routed.nup.recording.recorder import Recorder
from routed.nup.recording.text import without_summaries, write_output
from tests.fakes.fake_wire import FakeWire, Node, WireFaults
from tests.replay.corpus import Case, Phase, replay

__all__ = ["Scene"]


class _Counted:
    """Passes its calls on to a recorder, and keeps the results that the corpus needs."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.inputs = 0
        self.outputs: list[dict[str, Any]] = []

    def record_input(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Count one input."""
        self.inputs += 1
        self.recorder.record_input(name, arguments)

    def record_outputs(self, outputs: Sequence[Output]) -> None:
        """Keep them."""
        self.outputs += map(write_output, outputs)
        self.recorder.record_outputs(outputs)


class Scene(FakeWire):
    """A `FakeWire` with one recorded router.

    A scenario adds the recorded router with `observe` before anything happens to it, begins each
    part with `phase`, and ends when it returns; `case` then returns the recording.
    """

    def __init__(self, seed: int = 1, faults: WireFaults | None = None) -> None:
        """Begin with nothing."""
        super().__init__(seed, faults)
        self._recorded: tuple[Node, _Counted] | None = None
        self._phases: list[tuple[str, int]] = []
        self._ends: list[float] = []

    def observe(self, name: str) -> Node:
        """Add the router that is recorded."""
        assert self._recorded is None, "one router of a scene is recorded"
        node = self.add_node(name)
        recorder = Recorder(node.instance, b"corpus" * 3, self.now, start=node.new)
        counted = _Counted(recorder)
        node.instance.record_to(counted)
        self._recorded = node, counted
        return node

    def phase(self, title: str) -> None:
        """End the current phase, if any, and begin another."""
        _, counted = self._observed()
        if self._phases:
            self._ends.append(self.now)
        self._phases.append((title, counted.inputs))

    def replace_settings(self, name: str, ifindex: int = 1, **changes: Any) -> None:
        """Change some settings of a link of a router."""
        node = self.nodes[name]
        settings: LinkSettings = dataclasses.replace(node.links[ifindex][1], **changes)
        self.reconfigure(node, ifindex, settings)

    def counted(self, counter: str) -> int:
        """Return a counter of the recorded router."""
        node, _ = self._observed()
        return node.instance.counters()[counter]

    def sent(self) -> list[bytes]:
        """Return all datagrams that the recorded router has sent."""
        _, counted = self._observed()
        return [bytes.fromhex(each["data"]) for each in counted.outputs if "data" in each]

    def case(self, shows: str) -> Case:
        """Return the recording; its replay gives the outputs that the scene has seen."""
        node, counted = self._observed()
        node.instance.record_to(None)
        text = counted.recorder.text(node.instance, self.now)
        header, *lines = map(json.loads, text.splitlines())
        assert lines[-1]["end"] == "complete"
        inputs = [line for line in lines if "in" in line]
        starts = [first for _, first in self._phases]
        assert starts[:1] == [0], "the first phase begins before the first input"
        phases = tuple(
            Phase(title, tuple(inputs[first:after]), end)
            for (title, first), after, end in zip(
                self._phases, [*starts[1:], len(inputs)], [*self._ends, self.now], strict=True
            )
        )
        case = Case(shows, header, phases)
        self._check(case, [each for line in lines for each in line.get("out", ())])
        return case

    def _check(self, case: Case, recorded: list[dict[str, Any]]) -> None:
        """Assert that the replay of a case equals the recording."""
        came = [json.loads(line) for found in replay(case) for line in found.output]
        for each in came:
            del each["after"]
        assert without_summaries(came) == without_summaries(recorded), (
            "the replay is not the recording"
        )

    def _observed(self) -> tuple[Node, _Counted]:
        assert self._recorded is not None, "no router is observed"
        return self._recorded
