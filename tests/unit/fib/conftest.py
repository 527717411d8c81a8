"""The FIB's unit tests run twice: with the C extension and without it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _with_either_code(kernel_tables: None) -> None:
    """See `kernel_tables`."""
