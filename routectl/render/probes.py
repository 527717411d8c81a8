"""How probes look to people."""

from __future__ import annotations

from routectl.render.text import Column, Record, Row, TextTable, duration_text, plain_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PROBE", "PROBES", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"
_FAILED = "x"
_SHOWN = 20
"""Results in a table."""


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: plain_text(row.get(name))


def _ms(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row.get(name)
        return f"{value:.3g}ms" if isinstance(value, (int, float)) else plain_text(None)

    return text


def _seconds(name: str) -> Callable[[Row], str]:
    return lambda row: duration_text(row.get(name))


def _percent(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row.get(name)
        return f"{value:g}%" if isinstance(value, (int, float)) else plain_text(None)

    return text


def _query(row: Row) -> str:
    if row.get("query") is None:
        return plain_text(None)
    return f"{row['query']} {row.get('type')}"


def _expected(row: Row) -> str:
    if row.get("query") is None:
        return plain_text(None)
    return str(row.get("answer") or row.get("rcode"))


def _target(row: Row) -> str:
    """What is probed, in one word of its kind."""
    members = row.get("of")
    if isinstance(members, (list, tuple)) and members:
        return ",".join(map(str, members))
    target, port = row.get("target"), row.get("port")
    if target is None:
        return plain_text(row.get("session") or row.get("interface"))
    if port is None:
        return str(target)
    return f"[{target}]:{port}" if ":" in str(target) else f"{target}:{port}"


def _interface(row: Row) -> str:
    return plain_text(row.get("interface") if row.get("target") is not None else None)


def _users(row: Row) -> str:
    users = plain_text(row.get("users"))
    return users if row.get("used") else f"{users}, not used"


def _reason(row: Row) -> str:
    return str(row.get("last_reason") or "")


def sparkline(history: object, most: int) -> str:
    """Draw the last round-trip times as bars, failures as `x`.

    Args:
        history: milliseconds, oldest first; None: the attempt failed.
        most: characters.
    """
    if not isinstance(history, (list, tuple)):
        return ""
    shown = history[-most:]
    times = [rtt for rtt in shown if isinstance(rtt, (int, float))]
    highest = max(times, default=0)
    bars = []
    for rtt in shown:
        if not isinstance(rtt, (int, float)):
            bars.append(_FAILED)
        elif highest <= 0:
            bars.append(_BARS[0])
        else:
            bars.append(_BARS[min(int(rtt / highest * len(_BARS)), len(_BARS) - 1)])
    return "".join(bars)


PROBES = TextTable(
    (
        Column("NAME", _plain("name")),
        Column("KIND", _plain("kind")),
        Column("TARGET", _target),
        Column("INTERFACE", _interface),
        Column("STATE", _plain("state"), is_colored=True),
        Column("SINCE", _seconds("state_age_s"), is_right=True),
        Column("LOSS", _percent("loss_percent"), is_right=True),
        Column("RTT", _ms("rtt_ms"), is_right=True),
        Column("USERS", _users),
        Column("HISTORY", lambda row: sparkline(row.get("history_ms"), _SHOWN)),
        Column("LAST FAILURE", _reason),
    ),
    empty="no probes are configured",
)

PROBE = Record(
    (
        Column("probe", _plain("name")),
        Column("kind", _plain("kind")),
        Column("target", _target),
        Column("interface", _plain("interface")),
        Column("source", _plain("source")),
        Column("mark", _plain("mark")),
        Column("query", _query),
        Column("expected answer", _expected),
        Column("needed of these", _plain("least")),
        Column("state", _plain("state"), is_colored=True),
        Column("since", _seconds("state_age_s")),
        Column("came up or went down", _plain("change_reason")),
        Column("last failure", _plain("last_reason")),
        Column("in a row", _plain("in_a_row")),
        Column("next hops", _users),
        Column("reason", _plain("reason")),
        Column("interval", _seconds("interval_s")),
        Column("timeout", _seconds("timeout_s")),
        Column("jitter", _seconds("jitter_s")),
        Column("round trip limit", _ms("rtt_max_ms")),
        Column("loss limit", _percent("loss_max_percent")),
        Column("window", _plain("window")),
        Column("rise", _plain("rise")),
        Column("fall", _plain("fall")),
        Column("invert", _plain("invert")),
        Column("on error", _plain("on_error")),
        Column("initial", _plain("initial")),
        Column("loss", _percent("loss_percent")),
        Column("mean round trip", _ms("rtt_ms")),
        Column("last round trip", _ms("rtt_last_ms")),
        Column("history", lambda row: sparkline(row.get("history_ms"), 60)),
        Column("attempts", _plain("attempts")),
        Column("failures", _plain("failures")),
        Column("errors", _plain("errors")),
        Column("times up", _plain("times_up")),
        Column("times down", _plain("times_down")),
    )
)
