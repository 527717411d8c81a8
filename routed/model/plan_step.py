"""One consequence of a reload, as the parent computes it and a client shows it.

It travels as a line of text in the answer of the parent, so it has a packed form: a JSON list of
[action, object, before, after], and the text if it does not follow from these.
"""

from __future__ import annotations

import json

from ipc.lazy_dataclass import dataclass

__all__ = ["PlanStep", "route_step"]

_VALUE_MAX = 200
_TEXT_MAX = 300
"""Characters; a packed step fits into a line of an answer."""

_ROUTE = "route "


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One consequence."""

    action: str
    """install, replace, remove, add, begin, end, change, open, close, move or restart."""
    object: str
    """The thing and its name: `route 10.0.0.0/8`, `adjacency eth0`, `keys core`, `log`."""
    before: str | None
    after: str | None
    text: str
    """For people."""

    def packed(self) -> str:
        """Return the step as one line."""
        fields = [self.action, self.object[:_VALUE_MAX]]
        values = [None if value is None else value[:_VALUE_MAX] for value in _values(self)]
        is_route = self == route_step(self.action, self.object, self.before, self.after)
        return json.dumps(
            [*fields, *values, *([] if is_route else [self.text[:_TEXT_MAX]])],
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def unpacked(cls, line: str) -> PlanStep:
        """Make a step of its line; a line that is none, as "and 7 more", becomes its text."""
        try:
            action, subject, before, after, *text = json.loads(line)
        except ValueError:
            return cls("", "", None, None, line)
        if text:
            return cls(action, subject, before, after, text[0])
        return route_step(action, subject, before, after)


def route_step(action: str, subject: str, before: str | None, after: str | None) -> PlanStep:
    """Return the step of a route in the kernel.

    Args:
        action: install, replace or remove.
        subject: `route PREFIX`.
        before: the present target; None if the kernel does not have the route.
        after: the next one; None if the route goes.
    """
    target = after if after is not None else before
    text = f"kernel      {action} {subject.removeprefix(_ROUTE)} {target}"
    return PlanStep(action, subject, before, after, text)


def _values(step: PlanStep) -> tuple[str | None, str | None]:
    return step.before, step.after
