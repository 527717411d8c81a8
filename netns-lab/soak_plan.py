"""The steps of a soak, drawn from a seed: decisions only, without a lab.

    Plan(seed, routers, links)  ->  round 1, round 2, ...   each with a few simultaneous steps

A plan is a pure function of its arguments and does not depend on the outcome of steps: the same
seed draws the same rounds, and `rounds(first=17)` draws the seventeenth although the sixteen before
it were not carried out (`Round.cut` is the link that they have left switched off).
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = [
    "ENGINE_KILLS_MAX", "ENGINE_KILLS_ROUNDS", "INJECTED", "MULTIPLIERS", "Action", "Plan", "Round",
    "Step",
]  # fmt: skip

INJECTED = "10.64.0.0/10"
"""Range of injected prefixes."""
MULTIPLIERS = (20, 22, 24)
"""Multipliers of the lab's hello interval of 300 ms: no packet is lost if a daemon is back within
six seconds. On two busy cores a start takes up to three."""

ENGINE_KILLS_MAX = 4
ENGINE_KILLS_ROUNDS = 90
"""In this many rounds, of at least 0.8 s each, the engine of one router is killed at most
ENGINE_KILLS_MAX times: by design a daemon gives up at the fifth death of its engine in a minute
(`routed.parent.engine_process.supervisor`)."""

_VIEWS = ("status", "neighbors", "routes", "fib", "counters", "memory", "log")


class Action(enum.Enum):
    """One kind of step; the value is its name in the output."""

    CUT = "cut"
    MEND = "mend"
    KILL_ENGINE = "kill the engine of"
    KILL_PARENT = "kill the parent of and start"
    KILL_BOTH = "kill both processes of and start"
    RESTART = "restart"
    RELOAD = "reload"
    INJECT = "inject into"
    SHOW = "show on"
    RESYNC = "resync"
    DRIFT = "delete a kernel route of"
    HANG = "stop for a moment the engine of"

    @property
    def takes_routes_away(self) -> bool:
        """Whether packets have no route until a daemon has acted."""
        return self in (Action.CUT, Action.DRIFT)

    @property
    def changes_topology(self) -> bool:
        """Whether shortest paths change."""
        return self in (Action.CUT, Action.MEND)

    @property
    def silences_a_daemon(self) -> bool:
        """Whether neighbors hear nothing from the daemon for some time."""
        return self in (
            Action.KILL_ENGINE,
            Action.KILL_PARENT,
            Action.KILL_BOTH,
            Action.RESTART,
            Action.HANG,
        )


_WEIGHTS: dict[Action, int] = {
    Action.CUT: 4,  # or MEND
    Action.KILL_ENGINE: 3,
    Action.KILL_PARENT: 1,
    Action.KILL_BOTH: 1,
    Action.RESTART: 1,
    Action.RELOAD: 3,
    Action.INJECT: 4,
    Action.SHOW: 4,
    Action.RESYNC: 1,
    Action.DRIFT: 1,
    Action.HANG: 1,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a round."""

    action: Action
    target: str
    """A router or a link."""
    words: tuple[str, ...] = ()
    """Prefixes to inject, the view to show, the multiplier to reload."""

    def __str__(self) -> str:
        return " ".join((self.action.value, self.target, *self.words))


@dataclass(frozen=True, slots=True)
class Round:
    """Simultaneous steps, after which the network must converge."""

    number: int
    cut: str | None
    """The link that is switched off when the round begins."""
    steps: tuple[Step, ...]

    @property
    def may_lose_packets(self) -> bool:
        """Whether a step removes routes, or the topology changes while a router restarts.

        A restored link and the death of daemons, however many, cost no packets.
        """
        return self.may_loop or any(step.action.takes_routes_away for step in self.steps)

    @property
    def may_loop(self) -> bool:
        """Whether the topology changes while a router restarts.

        After its restart it does not know the feasibility of its former routes, and may choose one
        that leads through itself until the next update (docs/nup.md, section 8).
        """
        return bool(self.silenced) and any(step.action.changes_topology for step in self.steps)

    @property
    def silenced(self) -> frozenset[str]:
        """Routers whose daemons neighbors do not hear for some time."""
        return frozenset(step.target for step in self.steps if step.action.silences_a_daemon)

    def __str__(self) -> str:
        return f"round {self.number}: " + ", ".join(map(str, self.steps))


class Plan:
    """All rounds of one seed."""

    def __init__(self, seed: int, routers: Sequence[str], links: Sequence[str]) -> None:
        """Prepare; nothing is drawn.

        Args:
            seed: seed of every decision.
            routers: names of the routers.
            links: names of the links; at most one is down at a time, so that every router can be
                reached.
        """
        self._seed = seed
        self._routers = list(routers)
        self._links = list(links)

    def rounds(self, first: int = 1, rest_every: int = 0) -> Iterator[Round]:
        """Yield rounds without end.

        Args:
            first: number of the first round, from 1.
            rest_every: number of rounds after which the caller restores the cut link; 0 for never.
        """
        rng = random.Random(self._seed)
        cut: str | None = None
        number = 0
        killed: deque[tuple[int, str]] = deque()
        while True:
            number += 1
            while killed and killed[0][0] <= number - ENGINE_KILLS_ROUNDS:
                killed.popleft()
            before = cut
            steps, cut = self._draw(rng, cut, [router for _, router in killed])
            killed += [(number, step.target) for step in steps if step.action is Action.KILL_ENGINE]
            if number >= first:
                yield Round(number, before, steps)
            if rest_every and number % rest_every == 0:
                cut = None

    def _draw(
        self, rng: random.Random, cut: str | None, killed: list[str]
    ) -> tuple[tuple[Step, ...], str | None]:
        """Draw one round's steps, and the link that is down after it.

        Args:
            rng: random generator of the plan.
            cut: the link that is down before it.
            killed: routers whose engines were killed recently, once per kill; extended by this
                call.
        """
        actions = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=rng.randint(1, 4))
        # A stopped engine answers no request, so that step is the last.
        actions.sort(key=lambda action: action is Action.HANG)
        steps = []
        for action in actions:
            if action is not Action.CUT:
                steps.append(self._step(rng, action, killed))
            elif cut is None:
                cut = rng.choice(self._links)
                steps.append(Step(Action.CUT, cut))
            else:
                steps.append(Step(Action.MEND, cut))
                cut = None
        return tuple(steps), cut

    def _step(self, rng: random.Random, action: Action, killed: list[str]) -> Step:
        words: tuple[str, ...] = ()
        match action:
            case Action.KILL_ENGINE:
                routers = [each for each in self._routers if killed.count(each) < ENGINE_KILLS_MAX]
                if not routers:
                    return self._step(rng, Action.RELOAD, killed)
                killed.append(router := rng.choice(routers))
                return Step(action, router)
            case Action.RELOAD:
                words = (str(rng.choice(MULTIPLIERS)),)
            case Action.SHOW:
                words = (rng.choice(_VIEWS),)
            case Action.INJECT:
                second = rng.randrange(64, 128)
                words = tuple(f"10.{second}.{n}.0/24" for n in range(rng.randint(1, 5)))
        return Step(action, rng.choice(self._routers), words)
