"""The tool that counts the files of a trip finds the files that a route must pass."""

from __future__ import annotations

import pytest

from scenarios import trips
from tests.integration.conftest import LabBuilder

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_a_trip_names_the_files_that_have_the_route_in_the_order_of_their_first_call(
    build_lab: LabBuilder,
) -> None:
    found = trips.trips_in(build_lab(trips.plan()))
    static, learned = (list(found[f"a {kind} route, to the kernel"]) for kind in _KINDS)
    _assert_in_order(
        static,
        "routed/config/scalars.py",
        "routed/config/transfer.py",
        "routed/rib/table.py",
        "routed/parent/route_admission.py",
    )
    _assert_in_order(
        learned,
        "routed/nup/wire/message.py",
        "routed/nup/routes/table.py",
        "routed/engine/router.py",
        "routed/parent/route_admission.py",
    )
    for trip in (static, learned):
        assert trip[-1] == "routed/fib/routes/bulk.py", "the answer does not count"
    shown = found["`show routes`"]
    assert shown["routectl/render/text.py"].startswith("routectl ")
    assert shown["routed/control/rows.py"].startswith("engine ")
    assert "routed/nup/wire/message.py" not in static
    assert "routed/parent/reload.py" in found["a reload that changes nothing"]


_KINDS = ("static", "learned")


def _assert_in_order(trip: list[str], *files: str) -> None:
    assert [path for path in trip if path in files] == list(files)
