"""Creation of the arrays and loading of the programs: once, while the daemon may still do that.

    sizes --> arrays --> constants --> programs, with the arrays' descriptors in their bytecode

The parent loads at its start and gives up CAP_BPF and CAP_PERFMON with the rest of root's power.
What it does afterwards (attach, replace, detach, map) needs none of them. So a change of the sizes
takes a restart.

Failure: `LoadError` names the reason; nothing is left open.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Mapping
from typing import Protocol

from ipc.lazy_dataclass import dataclass
from routed.dataplane.bytecode import Bytecode, relocate
from routed.dataplane.kernel import ProgramInfo, VerifierError
from routed.dataplane.layout import Sizes, config_bytes
from routed.model.dataplane import DataplaneReason

__all__ = ["LoadError", "LoadedPrograms", "load_programs", "possible_processors"]

_POSSIBLE = "/sys/devices/system/cpu/possible"


class Loader(Protocol):
    """The calls of `routed.dataplane.kernel.Kernel` that loading takes."""

    def create_array(self, name: str, size: int, content: bytes | None = None) -> int: ...
    def load_program(self, name: str, code: bytes, license_text: str) -> int: ...
    def program_info(self, program: int) -> ProgramInfo: ...
    def enable_statistics(self) -> int: ...


class LoadError(Exception):
    """The programs cannot be loaded; the rest of the daemon runs without them."""

    def __init__(self, reason: DataplaneReason, detail: str) -> None:
        """Args:
        reason: one of the names that `show dataplane` has.
        detail: the kernel's words.
        """
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class LoadedPrograms:
    """Descriptors of everything that was loaded; a program's never leaves the parent, because
    its holder could attach it anywhere without a capability."""

    sizes: Sizes
    arrays: Mapping[str, int]
    programs: Mapping[str, int]
    statistics: int | None
    """While it is open, the kernel times the runs of all programs of the machine."""
    code_bytes: Mapping[str, int]
    """Machine code of each program; the kernel says it to a process with CAP_BPF only."""

    def close(self) -> None:
        """Close all descriptors; programs that are attached nowhere end with them."""
        for descriptor in (*self.arrays.values(), *self.programs.values()):
            os.close(descriptor)
        if self.statistics is not None:
            os.close(self.statistics)


def load_programs(
    kernel: Loader,
    sizes: Sizes,
    programs: Mapping[str, Bytecode],
    license_text: str,
    *,
    has_statistics: bool,
) -> LoadedPrograms:
    """Create the arrays and load the programs.

    Args:
        kernel: the calls of bpf(2).
        sizes: of the arrays.
        programs: as compiled (`routed.dataplane.programs`).
        license_text: theirs.
        has_statistics: whether the kernel is to time their runs.

    Raises:
        LoadError: the kernel refuses.

    Cost: about 50 ms a program, for the verifier.
    """
    arrays: dict[str, int] = {}
    loaded: dict[str, int] = {}
    code_bytes: dict[str, int] = {}
    statistics: int | None = None
    try:
        for name, size in sizes.array_bytes.items():
            arrays[name] = kernel.create_array(name, size)
        constants = config_bytes(sizes, secrets.randbits(64))
        arrays["config"] = kernel.create_array("config", len(constants), constants)
        for name, program in programs.items():
            loaded[name] = kernel.load_program(name, relocate(program, arrays), license_text)
            code_bytes[name] = kernel.program_info(loaded[name]).code_bytes
        if has_statistics:
            statistics = kernel.enable_statistics()
    except OSError as error:
        LoadedPrograms(sizes, arrays, loaded, statistics, code_bytes).close()
        raise LoadError(_reason_of(error), error.strerror or str(error)) from error
    return LoadedPrograms(sizes, arrays, loaded, statistics, code_bytes)


def _reason_of(error: OSError) -> DataplaneReason:
    if isinstance(error, VerifierError):
        return DataplaneReason.VERIFIER_REFUSED
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return DataplaneReason.NO_CAPABILITY
        case errno.ENOSYS | errno.EINVAL:
            return DataplaneReason.KERNEL_TOO_OLD
        case errno.ENOMEM | errno.E2BIG:
            return DataplaneReason.NO_MEMORY
        case _:
            return DataplaneReason.REFUSED


def possible_processors(path: str = _POSSIBLE) -> int:
    """Return one more than the highest processor number that this machine may ever have.

    Args:
        path: file of the kernel's with ranges, such as `0-3,8-11`. Where it cannot be read, the
            processors that are configured count.
    """
    try:
        with open(path, encoding="ascii") as file:
            return 1 + max(int(part.split("-")[-1]) for part in file.read().strip().split(","))
    except (OSError, ValueError):
        return os.sysconf("SC_NPROCESSORS_CONF")
