"""The form of each answer: its columns, their order, and their units.

Every form reads the columns of the daemon's views (`routed/control/views.py`) by name and shows the
most important ones; `--json` has all of them.
"""

from __future__ import annotations

from routectl.render.health import health, verdict
from routectl.render.routes import next_hops_text, prefix_with_table, route_text
from routectl.render.text import (
    Column,
    Record,
    Row,
    Sections,
    TextLines,
    TextTable,
    duration_text,
    ms_text,
    plain_text,
    size_text,
)
from routectl.render.values import family_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CHANGES",
    "CONFIG",
    "COUNTERS",
    "EXPLAIN",
    "FIB",
    "HEALTH",
    "INTERFACES",
    "LOG",
    "LOOKUP",
    "MEMORY",
    "METRICS",
    "NEIGHBORS",
    "PLAN",
    "PROTOCOL",
    "ROUTES",
    "RULES",
    "STATUS",
    "TOPOLOGY",
    "fib_counts",
]


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: plain_text(row.get(name))


def _duration(name: str) -> Callable[[Row], str]:
    return lambda row: duration_text(row.get(name))


def _ms(name: str) -> Callable[[Row], str]:
    return lambda row: ms_text(row.get(name))


def _with_reason(state: str, reason: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        words = [str(row[name]) for name in (state, reason) if row.get(name)]
        return ": ".join(words)

    return text


def _source(row: Row) -> str:
    """Return the source; for an injected route also its owner, and the time left of its lease."""
    source = plain_text(row.get("source"))
    if not row.get("owner"):
        return source
    lease = row.get("lease_s")
    left = f", {duration_text(lease)} left" if lease is not None else ""
    return f"{source} by {row['owner']}{left}"


def _metric(row: Row) -> str:
    """Return the metric; `inf` for a route of NUP that is held to reject packets for a while."""
    metric = row.get("metric")
    is_held = row.get("source") in _FROM_NUP and row.get("type") != "unicast"
    return "inf" if is_held and metric == _LARGEST else plain_text(metric)


_FROM_NUP = ("neighbor", "redistributed")
_LARGEST = 0xFFFF_FFFE
"""Largest metric of a candidate, which held routes have; a route in use may have it, too."""


def _column(title: str, name: str) -> Column:
    return Column(title, _plain(name))


def _number(title: str, name: str) -> Column:
    return Column(title, _plain(name), is_right=True)


def _active(row: Row) -> str:
    """Return which of an object's next hops the kernel uses: all, those listed, or none."""
    wanted, active = row.get("next_hops"), row.get("active")
    if not active:
        return "none"
    return "all" if active == wanted else next_hops_text("unicast", active)


def fib_counts(fib: Row) -> str:
    """Return the number of kernel routes by state: 4 desired, 3 installed, 1 failed, 0 pending;
    stale and shadowed ones if there are any."""
    words = ["desired", "installed", "failed", "pending"]
    words += [word for word in ("stale", "shadowed") if fib.get(word)]
    return ", ".join(f"{fib.get(word, 0)} {word}" for word in words)


def _fib_totals(status: Row) -> str:
    fib = status.get("fib")
    if not isinstance(fib, dict):
        return plain_text(None)
    totals = fib_counts(fib)
    return totals if fib.get("coupled", True) else f"decoupled, {totals}"


def _nexthop_totals(status: Row) -> str:
    fib = status.get("fib")
    if not isinstance(fib, dict) or not fib.get("nexthops"):
        return plain_text(None)
    count = fib.get("nexthop_objects", 0)
    words = str(fib["nexthops"])
    if count == 1 and words.startswith("objects"):
        words = words.replace("objects", "object", 1)
    return f"{count} {words}" if count else words


def _last_reload(status: Row) -> str:
    reload = status.get("last_reload")
    if not isinstance(reload, dict):
        # The engine counts the reloads, so one that was started again knows of none before.
        return "none since the engine was restarted" if status.get("engine_restarts") else "never"
    outcome = "ok" if reload.get("ok") else "failed"
    return f"{outcome}, {duration_text(reload.get('age_s'))} ago: {reload.get('text')}"


def _sandbox(status: Row) -> str:
    """Return how the engine is confined, and how many of its system calls were refused."""
    words = str(status.get("sandbox"))
    refused = status.get("sandbox_refusals", 0)
    if refused is None and "seccomp" in words:
        return f"{words}; refused system calls are not counted on this kernel"
    return f"{words}; {refused} system calls refused" if refused else words


def _configuration(status: Row) -> str:
    """Return the path of the configuration file, and the state of the configuration."""
    path, state = plain_text(status.get("config_path")), status.get("config_state", "confirmed")
    match state:
        case "confirmed":
            return path
        case "unconfirmed":
            left, token = duration_text(status.get("confirm_left_s")), status.get("confirm_token")
            return f"{path}; unconfirmed, reverted in {left} without `confirm {token}`"
    return f"{path}; {state}"


STATUS = Record(
    (
        _column("router id", "router_id"),
        Column("health", health, is_colored=True),
        _column("version", "version"),
        _column("pid", "pid"),
        Column("uptime", _duration("uptime_s")),
        Column("configuration", _configuration),
        Column("last reload", _last_reload),
        _column("neighbors up", "neighbors"),
        _column("prefixes", "routes"),
        Column("fib", _fib_totals),
        Column("next hops", _nexthop_totals),
        _column("engine restarts", "engine_restarts"),
        Column("sandbox", _sandbox),
    )
)

HEALTH = TextLines(verdict)

PLAN = TextLines(lambda row: str(row.get("text")), empty="nothing would change")

METRICS = TextLines(lambda row: str(row.get("text")))

NEIGHBORS = TextTable(
    (
        _column("ROUTER ID", "router_id"),
        _column("INTERFACE", "interface"),
        _column("ADDRESS", "address"),
        Column("STATE", _plain("state"), is_colored=True),
        Column("UPTIME", _duration("uptime_s"), is_right=True),
        Column("DEAD IN", _duration("dead_in_s"), is_right=True),
        Column("RTT", _ms("rtt_ms"), is_right=True),
        _number("COST", "cost"),
        _number("RETRANS", "retransmissions"),
        _number("PREFIXES", "prefixes"),
        Column("PROBLEM", lambda row: str(row.get("problem") or ""), is_colored=True),
    ),
    empty="no neighbors",
)

INTERFACES = TextTable(
    (
        _column("INTERFACE", "interface"),
        _number("INDEX", "ifindex"),
        Column("STATE", _plain("state"), is_colored=True),
        _number("MTU", "mtu"),
        Column("NUP", lambda row: family_text(row.get("nup_over") or bool(row.get("has_nup")))),
        _number("COST", "cost"),
        Column("HELLO", _duration("hello_interval_s"), is_right=True),
        _number("NEIGHBORS", "neighbors"),
        Column("ADDRESSES", lambda row: plain_text(row.get("addresses")).replace(" ", "\n")),
    ),
    empty="no interfaces",
)


ROUTES = TextTable(
    (
        Column("", lambda row: "*" if row.get("selected") else ""),
        Column("PREFIX", prefix_with_table),
        Column("SOURCE", _source),
        Column("DIST/METRIC", lambda row: f"{row.get('distance')}/{_metric(row)}"),
        Column("NEXT HOPS", route_text),
        Column("AGE", _duration("age_s"), is_right=True),
        Column("FIB", _with_reason("fib_state", "fib_reason"), is_colored=True),
    ),
    empty="no routes",
)

FIB = TextTable(
    (
        _column("PREFIX", "prefix"),
        Column("TABLE", lambda row: _table_name(row.get("table"))),
        Column("NEXT HOPS", route_text),
        Column("STATE", _with_reason("state", "reason"), is_colored=True),
    ),
    empty="no routes",
)

_TABLE_NAMES = {253: "default", 254: "main", 255: "local"}
"""Tables that exist on every Linux system (rtnetlink(7))."""


def _table_name(table: object) -> str:
    text = plain_text(table)
    return _TABLE_NAMES.get(table, text) if isinstance(table, int) else text


COUNTERS = TextTable(
    (
        _column("COUNTER", "name"),
        _number("VALUE", "value"),
        _column("MEANING", "help"),
    ),
    empty="no counters",
)

CONFIG = TextLines(lambda row: str(row.get("line")))

PROTOCOL = TextTable(
    (
        _column("PROTOCOL", "protocol"),
        Column("STATE", _plain("state"), is_colored=True),
        _number("DISTANCE", "distance"),
        _number("ROUTES", "routes"),
        _column("DETAIL", "detail"),
    ),
    empty="no protocols",
)

NEXTHOPS = TextTable(
    (
        _number("ID", "id"),
        Column("NEXT HOPS", lambda row: next_hops_text("unicast", row.get("next_hops"))),
        Column("ACTIVE", _active),
        Column("STATE", _with_reason("state", "reason"), is_colored=True),
    ),
    empty="no nexthop objects",
)

RULES = TextTable(
    (
        Column("FAMILY", lambda row: family_text(row.get("family"))),
        _column("RULE", "rule"),
        Column("STATE", _with_reason("state", "reason"), is_colored=True),
    ),
    empty="no policy rules are configured",
)

LOG = TextTable(
    (
        _column("TIME", "time"),
        _column("LEVEL", "level"),
        _column("PROCESS", "process"),
        _column("LINE", "text"),
    ),
    empty="no such lines among the last of the log",
)

MEMORY = TextTable(
    (
        _column("PART", "part"),
        Column("SIZE", lambda row: size_text(row.get("size_bytes")), is_right=True),
        _number("ITEMS", "items"),
        _column("MEANING", "help"),
    ),
    empty="nothing is known",
)


def _rows_of(name: str) -> Callable[[Row], list[Row]]:
    """Return a function that returns the rows in a column."""

    def select(row: Row) -> list[Row]:
        value = row.get(name)
        return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []

    return select


def _lines_of(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row.get(name)
        return "\n".join(map(str, value)) if isinstance(value, list) and value else "-"

    return text


def _kernel_text(row: Row) -> str:
    kernel = row.get("kernel")
    if not isinstance(kernel, dict):
        return plain_text(row.get("kernel_error"))
    if kernel["type"] == "none":
        return "no route"
    words = [] if kernel["type"] == "unicast" else [str(kernel["type"])]
    words += [str(kernel["prefix"])] if kernel["prefix"] else []
    if kernel["type"] == "unicast":
        words.append(next_hops_text("unicast", kernel["next_hops"]).replace("\n", ", "))
    if kernel["protocol"] is not None:
        table = kernel["table"]
        in_table = "" if table is None else f", table {_table_name(table)}"
        words.append(f"(protocol {kernel['protocol']}{in_table})")
    return " ".join(words)


def _agreement_text(row: Row) -> str:
    if row.get("agrees") is None:
        return plain_text(row.get("agreement"))
    return f"{'yes' if row['agrees'] else 'no'}: {row.get('agreement')}"


EXPLAIN = Sections(
    (
        (
            "",
            lambda row: [row],
            Record(
                (
                    _column("address", "address"),
                    Column("routed by", lambda row: str(row.get("prefix") or "no route")),
                    Column("kernel", _kernel_text),
                    Column("agrees", _agreement_text, is_colored=True),
                )
            ),
        ),
        (
            "",
            _rows_of("candidates"),
            TextTable(
                (
                    Column("", lambda row: "*" if row.get("selected") else ""),
                    Column("SOURCE", _source),
                    Column("DIST/METRIC", lambda row: f"{row.get('distance')}/{_metric(row)}"),
                    Column("NEXT HOPS", route_text),
                    Column("FIB", _with_reason("fib_state", "fib_reason"), is_colored=True),
                    _column("VERDICT", "verdict"),
                ),
                empty="",
            ),
        ),
        (
            "",
            lambda row: [row],
            Record(
                (
                    Column("more specific, unusable", _lines_of("unusable_reasons")),
                    Column("offered, not feasible", _lines_of("waiting")),
                    Column("less specific", _lines_of("shorter")),
                    Column("trie path", _lines_of("trie_path")),
                )
            ),
        ),
    )
)


def _change_text(row: Row) -> str:
    """Return one change as a line: time, kind, subject, what happened, and the present values."""
    at = str(row.get("at", ""))[11:23]
    if row.get("kind") == "lost":
        return f"{at} lost      {row.get('lost')} changes were not shown: too many at once"
    words = [at, str(row.get("kind")).ljust(9), str(row.get("change")).ljust(7)]
    words.append(str(row.get("subject")))
    if row.get("source"):
        words.append(f"{_source(row)} metric {_metric(row)}")
        words.append(route_text(row).replace("\n", ", "))
    if row.get("interface"):
        words.append(f"on {row['interface']}")
    if row.get("reason"):
        words.append(f"({row['reason']})")
    return " ".join(words)


CHANGES = TextLines(_change_text)

TOPOLOGY = TextTable(
    (
        Column("ROUTER ID", lambda row: plain_text(row.get("router_id"))),
        _column("ROLE", "role"),
        _column("INTERFACE", "interface"),
        _column("ADDRESS", "address"),
        Column("STATE", _plain("state"), is_colored=True),
        _number("COST", "cost"),
        _number("METRIC", "metric"),
        _number("PREFIXES", "prefixes"),
        Column("VIA", lambda row: plain_text(row.get("via")).replace(" ", "\n")),
    ),
    empty="no routers",
)

LOOKUP = TextTable(
    (
        _column("ADDRESS", "address"),
        Column("PREFIX", lambda row: str(row.get("prefix") or "no route")),
        Column("NEXT HOPS", route_text),
        _column("SOURCE", "source"),
        _number("METRIC", "metric"),
    ),
    empty="no addresses",
)
