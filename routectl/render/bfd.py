"""How BFD sessions look to people."""

from __future__ import annotations

from routectl.render.text import Column, Record, Row, TextTable, duration_text, plain_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BFD_SESSION", "BFD_SESSIONS"]


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: plain_text(row.get(name))


def _interval(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row.get(name)
        return f"{value / 1000:g}ms" if isinstance(value, int) else plain_text(None)

    return text


def _state(row: Row) -> str:
    """The state, and the diagnostic of a session that is not up."""
    state, diagnostic = plain_text(row.get("session_state")), row.get("local_diag")
    if state in ("up", "unknown") or diagnostic in (None, "none"):
        return state
    return f"{state}: {str(diagnostic).replace('_', ' ')}"


def _users(row: Row) -> str:
    users = plain_text(row.get("users"))
    return users if row.get("used") else f"{users}, not used"


def _drops(row: Row) -> str:
    drops = row.get("drops")
    if not isinstance(drops, list) or not drops:
        return "none"
    return ", ".join(f"{drop.get('packets')} {drop.get('reason')}" for drop in drops)


BFD_SESSIONS = TextTable(
    (
        Column("NAME", _plain("name")),
        Column("PEER", _plain("peer")),
        Column("INTERFACE", _plain("interface")),
        Column("STATE", _state, is_colored=True),
        Column("SINCE", lambda row: duration_text(row.get("state_age_s")), is_right=True),
        Column("TX", _interval("transmit_interval_us"), is_right=True),
        Column("DETECTION", _interval("detection_time_us"), is_right=True),
        Column("DOWNS", _plain("times_down"), is_right=True),
        Column("USERS", _users),
    ),
    empty="no BFD sessions are configured",
)

BFD_SESSION = Record(
    (
        Column("session", _plain("name")),
        Column("peer", _plain("peer")),
        Column("source", _plain("source")),
        Column("interface", _plain("interface")),
        Column("multihop", _plain("multihop")),
        Column("passive", _plain("passive")),
        Column("SessionState", _plain("session_state"), is_colored=True),
        Column("since", lambda row: duration_text(row.get("state_age_s"))),
        Column("LocalDiag", _plain("local_diag")),
        Column("RemoteSessionState", _plain("remote_session_state")),
        Column("remote diag", _plain("remote_diag")),
        Column("LocalDiscr", _plain("local_discr")),
        Column("RemoteDiscr", _plain("remote_discr")),
        Column("DesiredMinTxInterval", _interval("desired_min_tx_us")),
        Column("RequiredMinRxInterval", _interval("required_min_rx_us")),
        Column("DetectMult", _plain("detect_mult")),
        Column("remote min tx", _interval("remote_min_tx_us")),
        Column("RemoteMinRxInterval", _interval("remote_min_rx_us")),
        Column("remote detect mult", _plain("remote_detect_mult")),
        Column("RemoteDemandMode", _plain("remote_demand_mode")),
        Column("transmit interval", _interval("transmit_interval_us")),
        Column("detection time", _interval("detection_time_us")),
        Column("poll sequence", _plain("polling")),
        Column("AuthType", _plain("auth_type")),
        Column("next hops", _users),
        Column("reason", _plain("reason")),
        Column("packets sent", _plain("packets_sent")),
        Column("packets received", _plain("packets_received")),
        Column("packets dropped", _drops),
        Column("send errors", _plain("send_errors")),
        Column("times up", _plain("times_up")),
        Column("times down", _plain("times_down")),
    )
)
