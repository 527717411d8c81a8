"""Text of a bounded length: cut where it is too long, with a mark at the cut. Pure.

The texts are for people. Lengths are bytes of UTF-8, because they follow from limits of messages.

Invariants:
    A result is valid UTF-8 of at most the given length: lone surrogates are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["clip_lines", "clip_text"]

_MARK = "..."
_LINE_OVERHEAD = 5
"""Bytes before a text in msgpack, at most."""
_LAST_LINE_BYTES = 64
"""Bytes reserved for the line with the number of omitted lines."""


def clip_text(text: str, max_bytes: int) -> str:
    """Cut a text to a length.

    Args:
        text: any text.
        max_bytes: of UTF-8; at least 3.

    Returns:
        The text itself when it is short enough; else its beginning and `...`.

    Cost: linear in max_bytes, whatever the length of the text.
    """
    if text.isascii():
        return text if len(text) <= max_bytes else text[: max_bytes - len(_MARK)] + _MARK
    encoded = text[: max_bytes + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - len(_MARK)].decode("utf-8", "ignore") + _MARK


def clip_lines(lines: Sequence[str], max_total_bytes: int, max_line_bytes: int) -> tuple[str, ...]:
    """Return as many lines as fit, each cut to a length.

    Args:
        lines: any number of them.
        max_total_bytes: of all returned lines, encoded as msgpack.
        max_line_bytes: of one line, in UTF-8.

    Returns:
        The first lines; if some were left out, the last one has their number.

    Cost: linear in max_total_bytes.
    """
    kept: list[str] = []
    size = 0
    for line in lines:
        kept.append(clip_text(line, max_line_bytes))
        size += len(kept[-1].encode()) + _LINE_OVERHEAD
        if size > max_total_bytes:
            break
    else:
        return tuple(kept)
    while kept and size > max_total_bytes - _LAST_LINE_BYTES:
        size -= len(kept.pop().encode()) + _LINE_OVERHEAD
    return (*kept, f"... and {len(lines) - len(kept)} more lines")
