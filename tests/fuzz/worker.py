"""One target under atheris: `python -m tests.fuzz.worker TARGET [libFuzzer's options]`."""

from __future__ import annotations

import resource
import sys

import atheris

with atheris.instrument_imports(include=["ipc", "routed", "routectl"]):
    from tests.fuzz.targets import TARGETS

MEMORY_BYTES_MAX = 1 << 30
"""Less than libFuzzer's limit for a finding: an allocation beyond it raises MemoryError."""


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    # libFuzzer starts this command, by a shell, for a part of its work (-merge=1).
    command = f"{sys.executable} -m tests.fuzz.worker {name}"
    atheris.Setup([command, *options], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
