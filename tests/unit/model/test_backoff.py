"""The pause between attempts."""

from __future__ import annotations

import pytest

from routed.model.backoff import Backoff


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(1, 0.5), (2, 1.0), (7, 32.0), (8, 60.0), (2_000, 60.0)]
)
def test_the_pause_doubles_up_to_the_limit_however_often_an_attempt_fails(
    failures: int, pause_s: float
) -> None:
    assert Backoff(first_s=0.5, limit_s=60.0).pause_s(failures) == pause_s
