"""Values as text for people: durations, sizes, next hops, and what must not reach a terminal.

Plain functions, and nothing imported: a one-shot command spends its milliseconds here.
"""

from __future__ import annotations

__all__ = [
    "duration_text",
    "family_text",
    "ms_text",
    "plain_text",
    "printable",
    "size_text",
]

_NOTHING = "-"


def plain_text(value: object) -> str:
    """Return a value as text; "-" for an empty value, yes or no for a boolean."""
    match value:
        case None | "" | []:
            return _NOTHING
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(map(str, value))
    return str(value)


def duration_text(seconds: object) -> str:
    """Format seconds with the two largest units: 45s, 12m05s, 1h02m, 3d04h."""
    if not isinstance(seconds, (int, float)):
        return _NOTHING
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    if hours:
        return f"{hours}h{minute:02}m"
    return f"{minutes}m{second:02}s" if minutes else f"{second}s"


_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}


def family_text(family: object) -> str:
    """Return an address family (`ipv4`) as text for people spells it (`IPv4`)."""
    text = plain_text(family)
    return _FAMILIES.get(text, text)


def ms_text(milliseconds: object) -> str:
    """Format milliseconds, with one decimal below ten: 0.3ms, 12ms."""
    if not isinstance(milliseconds, (int, float)):
        return _NOTHING
    return f"{milliseconds:.1f}ms" if milliseconds < 10 else f"{milliseconds:.0f}ms"


def size_text(size_bytes: object) -> str:
    """Format bytes with the largest fitting unit: 512B, 3.2MiB."""
    if not isinstance(size_bytes, int):
        return _NOTHING
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f}B" if unit == "B" else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}GiB"


def printable(text: str) -> str:
    """Escape every character that is not printable: control characters, line breaks."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
