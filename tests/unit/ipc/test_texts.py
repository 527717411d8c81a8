"""Text of a bounded length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.codec import encode_plain
from ipc.texts import clip_lines, clip_text


@given(st.text(alphabet=st.characters(codec=None), max_size=40), st.integers(3, 60))
def test_a_text_is_valid_and_no_longer_than_asked(text: str, limit: int) -> None:
    clipped = clip_text(text, limit)
    assert len(clipped.encode()) <= limit, "and it is UTF-8 without surrogates"
    whole = text.encode("utf-8", "backslashreplace")
    assert clipped.encode() == whole or clipped.endswith("...")
    assert (clipped.encode() == whole) == (len(whole) <= limit)


@given(
    st.lists(st.text(alphabet="x\x01\U0001f600", max_size=200), max_size=60),
    st.integers(100, 3000),
)
def test_lines_fit_and_the_last_one_counts_those_left_out(lines: list[str], limit: int) -> None:
    clipped = clip_lines(lines, limit, 150)
    assert len(encode_plain(clipped)) <= limit + 5
    if len(clipped) == len(lines) and not (clipped and clipped[-1].startswith("... and")):
        assert clipped == tuple(clip_text(line, 150) for line in lines)
    else:
        left_out = len(lines) - (len(clipped) - 1)
        assert clipped[-1] == f"... and {left_out} more lines"


@pytest.mark.parametrize("character", ["x", "\U0001f600", "\ud800"])
def test_the_length_of_what_is_cut_off_costs_nothing(character: str) -> None:
    """Only the beginning is encoded."""
    looked_at = []

    class Counted(str):
        def isascii(self) -> bool:
            return str(self).isascii()

        def __getitem__(self, key: object) -> str:
            looked_at.append(key)
            return str.__getitem__(self, key)  # type: ignore[index]

    clip_text(Counted(character * 1_000_000), 100)
    (part,) = looked_at
    assert isinstance(part, slice)
    assert part.stop <= 101
