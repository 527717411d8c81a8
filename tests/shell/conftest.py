"""What tests of the shell share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_collections() -> Iterator[None]:
    """No garbage is collected meanwhile, for tests that press Ctrl-C in this very process.

    The server's thread is in it, too, and what it leaves is collected in whichever thread comes to
    it: a KeyboardInterrupt that comes up inside a weak reference's callback is lost.
    """
    gc.disable()
    yield
    gc.enable()
