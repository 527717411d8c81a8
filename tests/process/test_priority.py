"""The priority of the liveness process is permitted by the parent, used once, then given up."""

from __future__ import annotations

import subprocess
import sys

import pytest

from routed.sandbox.priority import HIGHEST_NICE

CHILD = """
import os, resource
from routed.sandbox.priority import forbid_priority, permit_priority, raise_priority
is_permitted = permit_priority()
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print(is_permitted, raise_priority(), os.nice(0))
forbid_priority()
os.nice(10)
print(raise_priority(), resource.getrlimit(resource.RLIMIT_NICE))
"""


@pytest.mark.root
def test_a_child_without_capabilities_raises_its_priority_once_if_that_is_permitted() -> None:
    """A container without CAP_SYS_RESOURCE permits nothing, and the child runs nevertheless."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=60
    )
    first, second = done.stdout.splitlines()
    expected = {f"True True {HIGHEST_NICE}", "False False 0"}
    assert first in expected
    assert second == "False (0, 0)"
