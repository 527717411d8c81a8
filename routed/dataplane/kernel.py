"""bpf(2) without a library: arrays, programs, links to interfaces, test runs.

    Kernel         the calls, on integers and bytes; `tests/fakes/fake_bpf.py` has the same ones
    MappedArray    an array that is mapped into this process

Every descriptor is closed on exec, and belongs to the caller. A link holds its program at the
interface: when its last descriptor is closed, by us or by the end of this process, the program
is no longer attached.

Failure: `OSError` with the kernel's errno; `VerifierError` also has what the verifier wrote.

Sources: bpf(2); include/uapi/linux/bpf.h of Linux 6.6.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import fcntl
import mmap
import os
import platform
import socket
import struct
from typing import NamedTuple

__all__ = ["AttachType", "Kernel", "MappedArray", "ProgramInfo", "RunResult", "VerifierError"]

_CALL_NUMBERS = {"x86_64": 321, "aarch64": 280}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value

_LOG_BYTES = 1 << 20
"""Longest text that is read of the verifier."""
_LOG_SHOWN = 400
"""Characters of it that an error has: the last ones, which have the reason."""


class _Command(enum.IntEnum):
    MAP_CREATE = 0
    MAP_UPDATE = 2
    PROG_LOAD = 5
    PROG_TEST_RUN = 10
    OBJ_GET_INFO = 15
    PROG_QUERY = 16
    MAP_FREEZE = 22
    LINK_CREATE = 28
    ENABLE_STATS = 32
    LINK_DETACH = 34


_ARRAY = 2
_F_RDONLY_PROG, _F_MMAPABLE = 1 << 7, 1 << 10
_SCHED_CLS = 3
_SIOCGIFHWADDR = 0x8927


class AttachType(enum.IntEnum):
    """Where a program is attached to an interface."""

    TCX_INGRESS = 46
    TCX_EGRESS = 47


class VerifierError(OSError):
    """The kernel's verifier refused a program; the message ends with the verifier's reason."""


class ProgramInfo(NamedTuple):
    """What the kernel knows of a loaded program."""

    id: int
    runs: int
    """Since statistics were enabled; 0 without."""
    run_ns: int
    code_bytes: int
    """Machine code; 0 for a process without CAP_BPF."""


class RunResult(NamedTuple):
    """The outcome of a program that was run on a made-up frame."""

    verdict: int
    ns: int
    """Of one run, on average."""
    frame: bytes
    """As it is afterwards."""


class MappedArray:
    """An array of the kernel's, mapped into this process."""

    def __init__(self, descriptor: int, size: int, *, is_writable: bool) -> None:
        """Map an array.

        The module `mmap` asks for the status of the descriptor, which the sandbox of an engine
        refuses; so the C library is called directly.

        Args:
            descriptor: of the array; it may be closed afterwards.
            size: bytes; rounded up to pages.
            is_writable: whether this process may write it, too.

        Raises:
            OSError: the kernel refuses.
        """
        access = mmap.PROT_READ | (mmap.PROT_WRITE if is_writable else 0)
        self._size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        address = _libc.mmap(None, self._size, access, mmap.MAP_SHARED, descriptor, 0)
        if address is None or address == _MAP_FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._address: int = address
        content = (ctypes.c_char * size).from_address(address)
        view = memoryview(content).cast("B")
        self.memory = view if is_writable else view.toreadonly()
        """All of it, format "B"."""

    def close(self) -> None:
        """Unmap the array. Nothing may use `memory`, or a view of it, afterwards."""
        self.memory.release()
        _libc.munmap(self._address, self._size)


class Kernel:
    """The calls of bpf(2) that the dataplane needs."""

    def create_array(self, name: str, size: int, content: bytes | None = None) -> int:
        """Create an array of one element, and return its descriptor.

        Args:
            name: for people; up to 15 characters.
            size: bytes of the element.
            content: of a constant, which can be neither changed nor mapped; None for memory that
                both sides write.

        Raises:
            OSError: EPERM without CAP_BPF, ENOMEM, or EINVAL where the kernel is too old.
        """
        flags = _F_MMAPABLE if content is None else _F_RDONLY_PROG
        attributes = struct.pack(
            "=7I16s5IQ",
            _ARRAY, 4, size, 1, flags, 0, 0, name.encode()[:15], 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        descriptor = _call(_Command.MAP_CREATE, attributes)
        if content is not None:
            try:
                self._fill(descriptor, content)
            except OSError:
                os.close(descriptor)
                raise
        return descriptor

    def _fill(self, descriptor: int, content: bytes) -> None:
        key, value = _buffer(bytes(4)), _buffer(content)
        _call(
            _Command.MAP_UPDATE,
            struct.pack("=I4xQQQ", descriptor, ctypes.addressof(key), ctypes.addressof(value), 0),
        )
        _call(_Command.MAP_FREEZE, struct.pack("=I", descriptor))

    def load_program(self, name: str, code: bytes, license_text: str) -> int:
        """Load a program for frames (BPF_PROG_TYPE_SCHED_CLS), and return its descriptor.

        Args:
            name: for people; up to 15 characters.
            code: with the descriptors of its arrays (`bytecode.relocate`).
            license_text: which decides what helpers it may call.

        Raises:
            VerifierError: the verifier refused it.
            OSError: EPERM without CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.
        """
        instructions, license_bytes = _buffer(code), _buffer(license_text.encode() + b"\0")
        head = struct.pack(
            "=IIQQ",
            _SCHED_CLS, len(code) // 8,
            ctypes.addressof(instructions), ctypes.addressof(license_bytes),
        )  # fmt: skip
        tail = struct.pack("=II16sII", 0, 0, name.encode()[:15], 0, 0)
        try:
            return _call(_Command.PROG_LOAD, head + struct.pack("=IIQ", 0, 0, 0) + tail)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise
        log = ctypes.create_string_buffer(_LOG_BYTES)
        words = struct.pack("=IIQ", 1, len(log), ctypes.addressof(log))
        try:
            return _call(_Command.PROG_LOAD, head + words + tail)
        except OSError as error:
            text = " ".join(log.value.decode(errors="replace").split())[-_LOG_SHOWN:]
            raise VerifierError(error.errno, text or error.strerror) from None

    def attach(self, program: int, ifindex: int, where: AttachType) -> int:
        """Attach a program to an interface after those that are there; return the link.

        Needs no capability but the descriptor of a program.

        Raises:
            OSError: ENODEV, or EINVAL where the kernel has no tcx (before Linux 6.6).
        """
        return _call(_Command.LINK_CREATE, struct.pack("=IIII16x16x", program, ifindex, where, 0))

    def detach(self, link: int) -> None:
        """Detach a program, and close its link. When this returns, no run of it is under way.

        Source: tcx_link_detach and tcx_entry_sync of Linux, which waits for readers.
        """
        try:
            _call(_Command.LINK_DETACH, struct.pack("=I", link))
        except OSError:
            pass  # the interface is gone, and the program with it
        finally:
            os.close(link)

    def attached(self, ifindex: int, where: AttachType) -> tuple[int, ...]:
        """List the ids of the programs at an interface, in the order in which they run.

        Raises:
            OSError: ENODEV, EINVAL where the kernel has no tcx, or EPERM.
        """
        ids = ctypes.create_string_buffer(4 * 64)
        attributes = ctypes.create_string_buffer(
            struct.pack("=IIIIQII32x", ifindex, where, 0, 0, ctypes.addressof(ids), 64, 0), 64
        )
        _call(_Command.PROG_QUERY, attributes)
        (count,) = struct.unpack_from("=I", attributes, 24)
        return struct.unpack_from(f"={min(count, 64)}I", ids)

    def program_info(self, program: int) -> ProgramInfo:
        """Ask for the id, the runs and the size of a program that this process has loaded.

        Raises:
            OSError: the descriptor is no program.
        """
        info = ctypes.create_string_buffer(232)
        attributes = struct.pack("=IIQ", program, len(info), ctypes.addressof(info))
        _call(_Command.OBJ_GET_INFO, attributes)
        _, number, _, jited = struct.unpack_from("=II8sI", info)
        run_ns, runs = struct.unpack_from("=QQ", info, 192)
        return ProgramInfo(number, runs, run_ns, jited)

    def enable_statistics(self) -> int:
        """Have the kernel count and time the runs of all programs until the descriptor is closed.

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN.
        """
        return _call(_Command.ENABLE_STATS, struct.pack("=I", 0))

    def test_run(
        self, program: int, frame: bytes, *, ifindex: int = 0, repeat: int = 1
    ) -> RunResult:
        """Run a program on a made-up frame, which goes nowhere.

        Args:
            program: its descriptor.
            frame: from the Ethernet header on, 14 bytes at least.
            ifindex: of the interface that the program sees; 0: the loopback interface.
            repeat: how often.

        Raises:
            OSError: the kernel refuses the frame.
        """
        before, after = _buffer(frame), ctypes.create_string_buffer(len(frame) + 256)
        context = ctypes.create_string_buffer(192)
        struct.pack_into("=I", context, 40, ifindex)  # __sk_buff.ifindex
        attributes = ctypes.create_string_buffer(80)
        struct.pack_into(
            "=IIIIQQIIIIQQ", attributes, 0,
            program, 0, len(frame), len(after), ctypes.addressof(before), ctypes.addressof(after),
            repeat, 0, len(context) if ifindex else 0, 0,
            ctypes.addressof(context) if ifindex else 0, 0,
        )  # fmt: skip
        _call(_Command.PROG_TEST_RUN, attributes)
        _, verdict, _, size, _, _, _, ns = struct.unpack_from("=IiIIQQII", attributes)
        return RunResult(verdict, ns, after.raw[:size])

    def link_type(self, ifname: str) -> int:
        """Ask for the type of a link, ARPHRD_*.

        Raises:
            OSError: there is no such link.

        Source: netdevice(7), SIOCGIFHWADDR.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            request = struct.pack("16s24x", ifname.encode())
            answer = fcntl.ioctl(asker.fileno(), _SIOCGIFHWADDR, request)
        return int(struct.unpack_from("=H", answer, 16)[0])


def _call(command: _Command, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Call bpf(2).

    Raises:
        OSError: the kernel refuses, or this machine's number of the call is not known.
    """
    number = _CALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if isinstance(attributes, bytes):
        attributes = ctypes.create_string_buffer(attributes, len(attributes))
    result = _libc.syscall(
        ctypes.c_long(number), ctypes.c_long(command), attributes, ctypes.c_long(len(attributes))
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def _buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, max(len(content), 1))
