"""Detects whether next hops form a loop, updated with each change.

Every node has a height, and every edge leads down: from a node to strictly lower ones. While that
holds there is no loop, so a change needs a check of the node's own next hops only, unless the node
has to be lifted above one of them. Then the nodes that point to it are lifted as far as necessary,
and so on; a node that is lifted above itself is on a loop. A walk along all paths after each change
has the same result (`tests/sim/test_next_hop_graph.py` compares both) at the cost of the paths'
length.

Source: the idea is that of Marchetti-Spaccamela, Nanni and Rohnert, Maintaining a topological order
under edge insertions, Information Processing Letters 59(1), 1996.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

__all__ = ["NextHopGraph"]


class NextHopGraph:
    """Who forwards to whom, for one prefix."""

    def __init__(self) -> None:
        self._heights: defaultdict[str, int] = defaultdict(int)
        self._next: dict[str, frozenset[str]] = {}
        self._previous: defaultdict[str, set[str]] = defaultdict(set)

    def change(self, changes: Mapping[str, Iterable[str]]) -> str | None:
        """Give nodes new next hops, all at once.

        Old edges go first and then the new ones come node by node: what is there in between is a
        part of what is there in the end, and has no loop that the whole has not.

        Returns:
            A node on a loop, or None. A graph with a loop is not to be used any further.
        """
        for node in changes:
            for successor in self._next.pop(node, ()):
                self._previous[successor].discard(node)
        for node, successors in changes.items():
            self._next[node] = frozenset(successors)
            for successor in self._next[node]:
                self._previous[successor].add(node)
            if self._is_on_loop(node):
                return node
        return None

    def _is_on_loop(self, start: str) -> bool:
        """Lift a node above its next hops, and others above it. Returns whether this reaches
        the node itself.
        """
        heights = self._heights
        least = max((heights[successor] for successor in self._next[start]), default=-1) + 1
        if start in self._next[start]:
            return True
        if heights[start] >= least:
            return False
        heights[start] = least
        lifted = deque([start])
        while lifted:
            node = lifted.popleft()
            for previous in self._previous[node]:
                if heights[previous] <= heights[node]:
                    if previous == start:
                        return True
                    heights[previous] = heights[node] + 1
                    lifted.append(previous)
        return False
