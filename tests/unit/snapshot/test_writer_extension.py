"""The C extension of the writer: Python code that it calls cannot free what it works on."""

from __future__ import annotations

import pytest

from ipc.fib_layout import HEADER_BYTES, RECORD_WORDS
from routed.snapshot.extension import native

pytestmark = pytest.mark.skipif(native is None, reason="the C extension is not built")


def test_lists_that_are_emptied_meanwhile_are_written_as_they_were() -> None:
    assert native is not None
    words = memoryview(bytearray(2 * HEADER_BYTES)).cast("I")
    arena = native.Arena(HEADER_BYTES // 4, 2 * HEADER_BYTES // 4)
    keys = [(10 << 24 | number << 16) << 8 | 16 for number in range(20)]
    best_paths: list[object] = [object() for _ in keys]

    def head_of(_best_path: object) -> bytes:
        keys.clear()
        best_paths.clear()
        return bytes(32)

    numbers, users = native.write_records(words, arena, False, keys, best_paths, head_of)
    assert list(numbers) == list(range(1, 21))
    assert users == [1] * 20
    networks = [words[HEADER_BYTES // 4 + n * RECORD_WORDS + 8] for n in range(20)]
    assert networks == [10 << 24 | number << 16 for number in range(20)]
