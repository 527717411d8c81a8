"""After each fault no packet is lost and the former state returns.

The faults are those of netns-lab/faults.py; the promises are those of docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults import FAULTS, Fault
from scenarios import crash_matrix
from tests.integration.conftest import LabBuilder

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.quiet]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_survived_without_a_lost_packet(
    build_lab: LabBuilder, fault: Fault, record_property: Callable[[str, object], None]
) -> None:
    if reason := fault.missing():
        pytest.skip(reason)
    lab = build_lab(crash_matrix.plan_for(fault))
    survival = crash_matrix.survive_in(lab, fault)
    record_property("recovery_s", survival.recovery_s)
    assert survival.sent > 0
    assert survival.lost == 0
