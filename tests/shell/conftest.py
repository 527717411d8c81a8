"""Fixtures that several tests of the shell use."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Turn the garbage collector off, for tests that press Ctrl-C in this very process.

    The thread of the fake daemon runs in the same process, and its garbage is collected in
    whichever thread allocates next. A KeyboardInterrupt that is raised inside a weak reference's
    callback is lost.
    """
    gc.disable()
    yield
    gc.enable()
