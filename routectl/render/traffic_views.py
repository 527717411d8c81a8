"""How answers about the dataplane and its traffic look to people."""

from __future__ import annotations

from routectl.render.text import Column, Row, TextTable, duration_text, plain_text, size_text
from routectl.render.values import family_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DATAPLANE_INTERFACES",
    "DATAPLANE_PROGRAMS",
    "EXPORT",
    "FLOW_TRAFFIC",
    "HOST_TRAFFIC",
    "INTERFACE_TRAFFIC",
    "PACKET_SIZES",
    "PORT_TRAFFIC",
    "PROTOCOL_TRAFFIC",
    "ROUTE_RATES",
    "ROUTE_TRAFFIC",
]


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: plain_text(row.get(name))


def _size(name: str) -> Callable[[Row], str]:
    return lambda row: size_text(row.get(name))


def _reason(row: Row) -> str:
    words = [str(row[name]) for name in ("reason", "detail") if row.get(name)]
    return ": ".join(words) or "-"


def _others(row: Row) -> str:
    others = row.get("others")
    return ", ".join(map(str, others)) if isinstance(others, list) and others else "-"


def _protocol(row: Row) -> str:
    family = row.get("family")
    name = plain_text(row.get("protocol"))
    return name if family == "none" else f"{family_text(family)} {name}"


def _prefix(row: Row) -> str:
    prefix = row.get("prefix")
    if prefix is None:
        return "(no route)"
    return str(prefix) if row.get("is_published") else f"{prefix} (former)"


def _rate(name: str) -> Callable[[Row], str]:
    """Bytes in a second of the window; nothing without a window."""

    def text(row: Row) -> str:
        size, seconds = row.get(name), row.get("seconds")
        if not isinstance(size, int) or not isinstance(seconds, float) or seconds <= 0:
            return "-"
        return f"{size_text(round(size / seconds))}/s"

    return text


def _endpoint(name: str) -> Callable[[Row], str]:
    """Address and port, as a URL has them."""

    def text(row: Row) -> str:
        address, port = plain_text(row.get(name)), row.get(f"{name}_port")
        if port is None:
            return address
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    return text


def _duration(name: str) -> Callable[[Row], str]:
    return lambda row: duration_text(row.get(name))


def _ago(row: Row) -> str:
    ago = row.get("age_s")
    return "(all)" if ago is None else duration_text(ago)


_TRAFFIC_COLUMNS = (
    Column("RX PACKETS", _plain("received_packets"), is_right=True),
    Column("RX BYTES", _size("received_bytes"), is_right=True),
    Column("TX PACKETS", _plain("sent_packets"), is_right=True),
    Column("TX BYTES", _size("sent_bytes"), is_right=True),
    Column("RX RATE", _rate("received_bytes"), is_right=True),
    Column("TX RATE", _rate("sent_bytes"), is_right=True),
)

DATAPLANE_INTERFACES = TextTable(
    (
        Column("INTERFACE", _plain("interface")),
        Column("HOOK", _plain("hook"), is_colored=True),
        Column("REASON", _reason),
        Column("OTHER PROGRAMS", _others),
    ),
    empty="no interface is configured",
)

DATAPLANE_PROGRAMS = TextTable(
    (
        Column("PROGRAM", _plain("program")),
        Column("ID", _plain("id"), is_right=True),
        Column("INTERFACES", _plain("interfaces"), is_right=True),
        Column("RUNS", _plain("runs"), is_right=True),
        Column("NS/RUN", _plain("run_ns"), is_right=True),
        Column("CODE", _size("code_bytes"), is_right=True),
        Column("COUNTERS", _size("memory_bytes"), is_right=True),
    ),
    empty="no programs are loaded; `show dataplane interfaces` has the reason",
)

EXPORT = TextTable(
    (
        Column("COLLECTOR", _plain("collector")),
        Column("PROTOCOL", _plain("protocol")),
        Column("DOMAIN", _plain("domain"), is_right=True),
        Column("STATE", _plain("state"), is_colored=True),
        Column("MESSAGES", _plain("messages"), is_right=True),
        Column("RECORDS", _plain("records"), is_right=True),
        Column("BYTES", _size("bytes"), is_right=True),
        Column("LOST", _plain("lost"), is_right=True),
        Column("PROBLEM", lambda row: plain_text(row.get("problem") or None)),
    ),
    empty="no flows are exported: there is no `dataplane.export`, or no observer",
)

INTERFACE_TRAFFIC = TextTable(
    (Column("INTERFACE", _plain("interface")), *_TRAFFIC_COLUMNS),
    empty="no interface is counted",
)

PROTOCOL_TRAFFIC = TextTable(
    (Column("PROTOCOL", _protocol), *_TRAFFIC_COLUMNS),
    empty="no traffic yet",
)

ROUTE_TRAFFIC = TextTable(
    (Column("PREFIX", _prefix), *_TRAFFIC_COLUMNS),
    empty="no traffic yet",
)

FLOW_TRAFFIC = TextTable(
    (
        Column("SOURCE", _endpoint("source")),
        Column("DESTINATION", _endpoint("destination")),
        Column("PROTOCOL", _plain("protocol")),
        Column("FROM", _plain("interface")),
        Column("TO", _plain("dev")),
        Column("ROUTE", _plain("prefix")),
        Column("VIA", _plain("via")),
        Column("PACKETS", _plain("packets"), is_right=True),
        Column("BYTES", _size("bytes"), is_right=True),
        Column("AGE", _duration("age_s"), is_right=True),
        Column("IDLE", _duration("idle_s"), is_right=True),
        Column("FLAGS", lambda row: plain_text(row.get("tcp_flags") or None)),
    ),
    empty="no flows at present",
)

_FLOW_COLUMNS = (Column("FLOWS", _plain("flows"), is_right=True), *_TRAFFIC_COLUMNS[:4])

HOST_TRAFFIC = TextTable(
    (Column("HOST", _plain("host")), *_FLOW_COLUMNS), empty="no flows at present"
)

PORT_TRAFFIC = TextTable(
    (Column("PORT", lambda row: f"{row.get('protocol')}/{row.get('port')}"), *_FLOW_COLUMNS),
    empty="no flows at present",
)

ROUTE_RATES = TextTable(
    (Column("AGO", _ago, is_right=True), *_TRAFFIC_COLUMNS),
    empty="no traffic yet",
)

PACKET_SIZES = TextTable(
    (
        Column("BYTES", _plain("size_bytes"), is_right=True),
        Column("RX PACKETS", _plain("received_packets"), is_right=True),
        Column("TX PACKETS", _plain("sent_packets"), is_right=True),
    ),
    empty="no traffic yet",
)
