"""Metric families as OpenMetrics text, or in Prometheus' older text format. Pure.

    # TYPE routed_fib_routes gauge
    # HELP routed_fib_routes Kernel routes, by state.
    routed_fib_routes{state="installed"} 7
    ...
    # EOF

The older format (0.0.4) differs: it has no type `info` (such a family is a gauge of the same sample
name), the name of a counter's family has the suffix `_total`, and no line ends the text.

Invariants:
    A family is written once, its samples together. A counter's samples end in `_total`.
    Values are finite; label values may contain anything and are escaped.

Sources: the OpenMetrics specification, version 1.0.0, sections 3 and 5; Prometheus' text-based
format, version 0.0.4; RFC 9110 section 12.5.1 (Accept).
"""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterable, Mapping, Sequence

from ipc.lazy_dataclass import dataclass, field

__all__ = ["Form", "Histogram", "Kind", "MetricFamily", "choose_form", "render"]

_OPENMETRICS = "application/openmetrics-text"

Labels = tuple[tuple[str, str], ...]


class Form(enum.Enum):
    """The format of an exposition; the value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def choose_form(accept: str) -> Form:
    """Choose OpenMetrics for a client whose Accept header names it, unless it prefers plain text.

    Args:
        accept: the header's value, any text.

    Cost: linear in its length.
    """
    weights = {_OPENMETRICS: 0.0, "text/plain": 0.0}
    for choice in accept.lower().split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        if media in weights:
            weights[media] = max(weights[media], _weight(parameters))
    is_openmetrics = 0 < weights[_OPENMETRICS] >= weights["text/plain"]
    return Form.OPENMETRICS if is_openmetrics else Form.TEXT


def _weight(parameters: Sequence[str]) -> float:
    """Return the `q` of a media range's parameters; 0 if it is not a number from 0 to 1."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0


class Kind(enum.Enum):
    """The types of OpenMetrics that are used."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """One metric: its name, help text and samples."""

    name: str
    """Without `_total`; ends in the unit, if there is one."""
    kind: Kind
    help: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)
    """(suffix, labels, value)."""

    def add(self, value: float, /, **labels: str) -> MetricFamily:
        """Add one sample. Returns the family, for use in one expression."""
        suffix = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")
        self.samples.append((suffix, tuple(labels.items()), value))
        return self

    def add_all(self, label: str, values: Mapping[str, float]) -> MetricFamily:
        """Add a sample for each value of one label, in the order of the labels."""
        for name in sorted(values):
            self.add(values[name], **{label: name})
        return self


class Histogram:
    """Counts of observations at or below each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin without observations.

        Args:
            bounds: ascending upper bounds; infinity is added.
        """
        self.count = 0
        self.sum = 0.0
        self._bounds = tuple(bounds)
        self._buckets = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one observation.

        Cost: a binary search over the bounds.
        """
        self._buckets[bisect.bisect_left(self._bounds, value)] += 1
        self.count += 1
        self.sum += value

    def family(self, name: str, help_text: str) -> MetricFamily:
        """Return the histogram as a family."""
        family = MetricFamily(name, Kind.HISTOGRAM, help_text)
        total = 0
        for bound, count in zip((*map(_bound, self._bounds), "+Inf"), self._buckets, strict=True):
            total += count
            family.samples.append(("_bucket", (("le", bound),), total))
        family.samples.append(("_count", (), self.count))
        family.samples.append(("_sum", (), self.sum))
        return family


def render(families: Iterable[MetricFamily], form: Form = Form.OPENMETRICS) -> str:
    """Render the whole exposition. A family without samples is left out."""
    is_text = form is Form.TEXT
    lines = []
    for family in families:
        if not family.samples:
            continue
        name, kind = _text_name(family) if is_text else (family.name, family.kind.value)
        lines.append(f"# TYPE {name} {kind}")
        help_text = _escaped(family.help)
        if is_text:
            help_text = help_text.replace('\\"', '"')  # quotes are not escaped in this format
        lines.append(f"# HELP {name} {help_text}")
        for suffix, labels, value in family.samples:
            lines.append(f"{family.name}{suffix}{_label_set(labels)} {_number(value)}")
    return "\n".join([*lines, "" if is_text else "# EOF\n"])


def _text_name(family: MetricFamily) -> tuple[str, str]:
    """Return the name and type of a family in the older format."""
    match family.kind:
        case Kind.INFO:
            return f"{family.name}_info", "gauge"
        case Kind.COUNTER:
            return f"{family.name}_total", "counter"
        case _:
            return family.name, family.kind.value


def _label_set(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _bound(value: float) -> str:
    """Format the bound of a bucket as the specification requires: 1.0, never 1."""
    return repr(float(value))


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)
