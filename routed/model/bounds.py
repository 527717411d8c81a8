"""Bounds of the fields of messages, declared as metadata of the type of each field.

    problem: Annotated[str, TextBytes(1000)]
    next hops: Annotated[tuple[NextHop, ...], Items(1000)]
    lines: Annotated[tuple[str, ...], Lines(60_000, 1000)]

`ipc.codec` reads the metadata by its attributes. From it follow the worst size of a message, what
the encoder cuts or refuses, and what the decoder refuses.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Items", "Lines", "TextBytes"]


class TextBytes(NamedTuple):
    """The longest text, in UTF-8, or the longest bytes. The encoder cuts a longer text and marks
    the cut; it refuses longer bytes. The decoder refuses both."""

    max_bytes: int


class Items(NamedTuple):
    """The most items of an array or a map. Encoder and decoder refuse more."""

    max_items: int


class Lines(NamedTuple):
    """Lines of text for people. The encoder cuts long lines, and leaves out the last lines when
    there are too many; the last line then says how many."""

    max_total_bytes: int
    """Of all lines, encoded."""
    max_line_bytes: int
