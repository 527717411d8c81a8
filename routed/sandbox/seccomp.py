"""The seccomp filter: an allow-list as a classic BPF program, built and permanently installed.

    wrong machine, or an x32 call -> killed
    allowed                       -> made
    allowed with conditions       -> made, or EPERM, or killed (`Condition.is_fatal`)
    fatal                         -> killed
    newer than the table, clone3  -> ENOSYS
    the rest                      -> EPERM, answered and counted by the parent (`refusals.py`)

The program is a plain sequence of comparisons. That costs nothing per call: on installation the
kernel evaluates it once for each number and keeps a bitmap of those that are allowed whatever their
arguments (Linux 5.11, seccomp_cache_prepare).

Building is pure and is tested by interpreting the program; only `install` has an effect.

Sources: seccomp(2); linux/seccomp.h, linux/filter.h, linux/audit.h.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Sequence
from typing import NamedTuple

from routed.sandbox.kernel import Machine, here, is_unknown, syscall
from routed.sandbox.syscalls import ALLOWED, CONDITIONS, FATAL, NEWEST_KNOWN, NUMBERS, Condition

__all__ = ["Installed", "Instruction", "build", "install"]

KILL_PROCESS, RETURN_ERRNO, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
REFUSE = RETURN_ERRNO | errno.EPERM
UNKNOWN = RETURN_ERRNO | errno.ENOSYS
NOTIFY = 0x7FC0_0000
"""SECCOMP_RET_USER_NOTIF."""

LOAD, AND, JUMP_IF_EQUAL, JUMP_IF_ABOVE, RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGT|BPF_K,
BPF_RET|BPF_K."""

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data; arguments are 64 bits each, little-endian on both machines."""

AUDIT_ARCHITECTURE = {Machine.X86_64: 0xC000_003E, Machine.AARCH64: 0xC000_00B7}
_X32_BIT = 0x4000_0000

_SET_MODE_FILTER = 1
_FLAG_TSYNC, _FLAG_NEW_LISTENER, _FLAG_TSYNC_ESRCH = 1, 8, 16


class Instruction(NamedTuple):
    """One struct sock_filter."""

    code: int
    if_true: int
    """Number of instructions to skip."""
    if_false: int
    operand: int


class Installed(NamedTuple):
    """Result of `install`."""

    has_filter: bool
    listener: int | None = None
    """The seccomp listener, which reports refused calls; its holder must answer them."""


def build(
    machine: Machine, own_pid: int, refuse: int = REFUSE, allowed: Sequence[str] = ALLOWED
) -> list[Instruction]:
    """Build the filter of an unprivileged process.

    Args:
        machine: the machine whose numbers are used.
        own_pid: the only process that signals may be sent to (by abort and raise).
        refuse: action for calls that are refused but not fatal: REFUSE or NOTIFY.
        allowed: the calls that are allowed whatever their arguments; default: the engine's.
    """
    numbers = NUMBERS[machine]
    program = [
        Instruction(LOAD, 0, 0, _ARCHITECTURE),
        Instruction(JUMP_IF_EQUAL, 1, 0, AUDIT_ARCHITECTURE[machine]),
        Instruction(RETURN, 0, 0, KILL_PROCESS),
        Instruction(LOAD, 0, 0, _NUMBER),
    ]
    if machine is Machine.X86_64:
        program += [
            Instruction(JUMP_IF_ABOVE, 0, 1, _X32_BIT - 1),
            Instruction(RETURN, 0, 0, KILL_PROCESS),
        ]
    for name in allowed:
        if name in numbers:
            program += _answer(numbers[name], ALLOW)
    own_process = Condition(0, 0xFFFF_FFFF, (own_pid,))
    for name, condition in {**CONDITIONS, "tgkill": own_process}.items():
        program += _condition_program(numbers[name], condition, refuse)
    for name in FATAL:
        if name in numbers:
            program += _answer(numbers[name], KILL_PROCESS)
    program += _answer(numbers["clone3"], UNKNOWN)
    return [
        *program,
        Instruction(JUMP_IF_ABOVE, 0, 1, NEWEST_KNOWN),
        Instruction(RETURN, 0, 0, UNKNOWN),
        Instruction(RETURN, 0, 0, refuse),
    ]


def _answer(number: int, action: int) -> list[Instruction]:
    return [Instruction(JUMP_IF_EQUAL, 0, 1, number), Instruction(RETURN, 0, 0, action)]


def _condition_program(number: int, condition: Condition, refuse: int) -> list[Instruction]:
    """Check the arguments of one call. Other calls skip these instructions, and only for them does
    the accumulator still hold the number afterwards."""
    tests = _tests((condition, *condition.also))
    tests.append(Instruction(RETURN, 0, 0, KILL_PROCESS if condition.is_fatal else refuse))
    return [Instruction(JUMP_IF_EQUAL, 0, len(tests), number), *tests]


def _tests(conditions: Sequence[Condition]) -> list[Instruction]:
    """Return ALLOW if all conditions are met; else fall through."""
    if not conditions:
        return [Instruction(RETURN, 0, 0, ALLOW)]
    first, others = conditions[0], _tests(conditions[1:])
    tests: list[Instruction] = []
    for value in first.values:
        tests += _test(first.argument, first.mask, value, others)
    return tests


def _test(argument: int, mask: int, value: int, then: list[Instruction]) -> list[Instruction]:
    """Execute `then` if an argument under a mask equals a value; else skip it."""
    offset = _ARGUMENTS + 8 * argument
    halves = [(offset, mask & 0xFFFF_FFFF, value & 0xFFFF_FFFF)]
    if mask >> 32:
        halves.append((offset + 4, mask >> 32, value >> 32))
    instructions: list[Instruction] = []
    for position, (where, half_mask, half_value) in enumerate(halves):
        remaining = 3 * (len(halves) - position - 1) + len(then)
        instructions += [
            Instruction(LOAD, 0, 0, where),
            Instruction(AND, 0, 0, half_mask),
            Instruction(JUMP_IF_EQUAL, 0, remaining, half_value),
        ]
    return [*instructions, *then]


def install(
    own_pid: int, *, reports_refusals: bool = False, allowed: Sequence[str] = ALLOWED
) -> Installed:
    """Install the filter on every thread of this process; no_new_privs must be set.

    Args:
        own_pid: pid of this process in its own PID namespace.
        reports_refusals: whether a listener gets refused calls, if the kernel can (Linux 5.7).
        allowed: the calls that are allowed whatever their arguments; default: the engine's.

    Returns:
        The result; without a filter if the kernel has no seccomp or this machine has no table.

    Raises:
        OSError: the kernel has seccomp but refused (EACCES without no_new_privs).
    """
    machine = here()
    if machine is None:
        return Installed(False)
    if reports_refusals:
        flags = _FLAG_TSYNC | _FLAG_TSYNC_ESRCH | _FLAG_NEW_LISTENER
        try:
            return Installed(True, _load(machine, build(machine, own_pid, NOTIFY, allowed), flags))
        except OSError as error:
            # EBUSY: a container's own filter has a listener already, and there can be one only.
            if not is_unknown(error) and error.errno != errno.EBUSY:
                raise
    try:
        _load(machine, build(machine, own_pid, allowed=allowed), _FLAG_TSYNC)
    except OSError as error:
        if is_unknown(error):
            return Installed(False)
        raise
    return Installed(True)


def _load(machine: Machine, program: list[Instruction], flags: int) -> int:
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    code = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    return syscall(NUMBERS[machine]["seccomp"], _SET_MODE_FILTER, flags, header)
