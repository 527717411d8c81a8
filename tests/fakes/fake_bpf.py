"""bpf(2) without a kernel: memory for arrays, a table of attachments, failures on demand.

Arrays are memfds, so they can be mapped like the kernel's. The same contract suite runs against it
and against the real calls (`tests/integration/test_dataplane_kernel.py`).
"""

from __future__ import annotations

import errno
import os
from collections import Counter

from routed.dataplane.kernel import AttachType, Kernel, ProgramInfo, VerifierError

__all__ = ["FakeBpf"]

_ETHERNET = 1


class FakeBpf(Kernel):
    """A kernel whose calls fail when a test says so."""

    def __init__(self) -> None:
        self.failures: dict[str, OSError] = {}
        """The next call with such a name, or with such a name and argument, fails."""
        self.links: dict[int, tuple[int, int, AttachType]] = {}
        """Descriptor of each link: program, ifindex, where."""
        self.opened: set[int] = set()
        self.calls: Counter[str] = Counter()
        self.types: dict[str, int] = {}
        """ARPHRD_* of links that are not Ethernet."""
        self.foreign: dict[int, tuple[int, ...]] = {}
        """Ids of programs of others, by ifindex."""
        self.missing: set[int] = set()
        """Ifindexes that do not exist."""

    def fail(self, call: str, number: int) -> None:
        """Have the next call of a name fail; `load_program:sent` is a call with an argument."""
        self.failures[call] = OSError(number, os.strerror(number))

    def refuse(self, program: str, reason: str) -> None:
        """Have the verifier refuse a program."""
        self.failures[f"load_program:{program}"] = VerifierError(errno.EACCES, reason)

    @property
    def leaked(self) -> set[int]:
        """Descriptors that are still open."""
        return {descriptor for descriptor in self.opened if _is_open(descriptor)}

    def _enter(self, call: str, argument: str = "") -> None:
        self.calls[call] += 1
        for name in (call, f"{call}:{argument}"):
            if name in self.failures:
                raise self.failures.pop(name)

    def _open(self, name: str, size: int) -> int:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        self.opened.add(descriptor)
        return descriptor

    def create_array(self, name: str, size: int, content: bytes | None = None) -> int:
        self._enter("create_array", name)
        descriptor = self._open(name, size)
        if content is not None:
            os.pwrite(descriptor, content, 0)
        return descriptor

    def load_program(self, name: str, code: bytes, license_text: str) -> int:
        assert len(code) % 8 == 0
        assert license_text
        self._enter("load_program", name)
        return self._open(name, 1)

    def enable_statistics(self) -> int:
        self._enter("enable_statistics")
        return self._open("statistics", 1)

    def attach(self, program: int, ifindex: int, where: AttachType) -> int:
        self._enter("attach", where.name)
        if ifindex in self.missing:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        link = self._open("link", 1)
        self.links[link] = program, ifindex, where
        return link

    def detach(self, link: int) -> None:
        self._enter("detach")
        del self.links[link]
        os.close(link)

    def attached(self, ifindex: int, where: AttachType) -> tuple[int, ...]:
        self._enter("attached")
        own = [
            1000 + program
            for program, index, place in self.links.values()
            if (index, place) == (ifindex, where)
        ]
        return (*self.foreign.get(ifindex, ()), *own)

    def program_info(self, program: int) -> ProgramInfo:
        self._enter("program_info")
        return ProgramInfo(1000 + program, 3, 300, 4096)

    def link_type(self, ifname: str) -> int:
        self._enter("link_type", ifname)
        return self.types.get(ifname, _ETHERNET)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
