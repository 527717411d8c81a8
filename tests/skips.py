"""Why a test may be left out, and how to know whether that is so here.

A reason that says nothing which can be checked would keep a test asleep for ever. Each of ours is
matched by one rule below, and the rule looks at the machine: where it finds what the test needs,
the test was due.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable

from routed.sandbox.kernel import here

__all__ = ["EXCUSES", "KERNEL_LACKS", "is_excused"]

KERNEL_LACKS = "this kernel lacks"


def _is_absent(tools: str) -> bool:
    """Whether one of some programs, `tmux or less`, is not installed."""
    return any(shutil.which(tool) is None for tool in re.split(r" or |, ", tools))


EXCUSES: dict[str, Callable[[re.Match[str]], bool]] = {
    # what the reason looks like -> whether it holds here
    rf"{KERNEL_LACKS} .+": lambda _: True,
    r"no system call table for this machine": lambda _: here() is None,
    r"an x86-64 header": lambda _: platform.machine() != "x86_64",
    r"needs root\b.*": lambda _: os.geteuid() != 0,
    r"the fake daemon's admin is root": lambda _: os.geteuid() != 0,
    r"no C compiler \((\w+)\) on this machine": lambda found: _is_absent(found[1]),
    r"no (\S+) on this machine": lambda found: _is_absent(found[1]),
    r"needs a C preprocessor": lambda _: _is_absent("cc"),
    r"the C extension is not built.*": lambda _: _is_absent("cc"),
    r"needs (systemd-analyze)": lambda found: _is_absent(found[1]),
    r"([\w, -]+?) (?:is|are) not installed.*": lambda found: _is_absent(found[1]),
}


def is_excused(reason: str) -> bool:
    """Whether a reason is one of ours, and holds on this machine."""
    for pattern, holds in EXCUSES.items():
        found = re.fullmatch(pattern, reason)
        if found is not None:
            return holds(found)
    return False
