"""The filter, by interpreting it as the kernel does: every call gets the answer it should."""

from __future__ import annotations

import errno
import platform
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.sandbox.kernel import Machine
from routed.sandbox.refusals import name_of
from routed.sandbox.seccomp import (
    ALLOW,
    AND,
    AUDIT_ARCHITECTURE,
    JUMP_IF_ABOVE,
    JUMP_IF_EQUAL,
    KILL_PROCESS,
    LOAD,
    NOTIFY,
    REFUSE,
    RETURN,
    UNKNOWN,
    Instruction,
    build,
)
from routed.sandbox.syscalls import (
    ALLOWED,
    COMMON_REFUSALS,
    CONDITIONS,
    FATAL,
    NEWEST_KNOWN,
    NUMBERS,
)

PID = 4711
MACHINES = list(Machine)
PROGRAMS = {machine: build(machine, PID) for machine in MACHINES}
WORD = 0xFFFF_FFFF


def run(program: list[Instruction], architecture: int, number: int, *arguments: int) -> int:
    """Interpret classic BPF over struct seccomp_data. Returns the answer of the kernel."""
    data = number.to_bytes(4, "little") + architecture.to_bytes(4, "little") + bytes(8)
    for argument in (*arguments, *[0] * 6)[:6]:
        data += argument.to_bytes(8, "little")
    accumulator, position = 0, 0
    while True:
        code, if_true, if_false, operand = program[position]
        position += 1
        match code:
            case _ if code == LOAD:
                assert operand % 4 == 0
                accumulator = int.from_bytes(data[operand : operand + 4], "little")
            case _ if code == AND:
                accumulator &= operand
            case _ if code == JUMP_IF_EQUAL:
                position += if_true if accumulator == operand else if_false
            case _ if code == JUMP_IF_ABOVE:
                position += if_true if accumulator > operand else if_false
            case _ if code == RETURN:
                return operand
            case _:
                raise AssertionError(f"instruction {code:#x}")


def ask(machine: Machine, name: str, *arguments: int) -> int:
    return run(PROGRAMS[machine], AUDIT_ARCHITECTURE[machine], NUMBERS[machine][name], *arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_jump_stays_inside_and_the_program_is_short_enough(machine: Machine) -> None:
    program = PROGRAMS[machine]
    assert len(program) < 4096  # BPF_MAXINSNS
    for position, (code, if_true, if_false, _) in enumerate(program):
        if code in (JUMP_IF_EQUAL, JUMP_IF_ABOVE):
            assert max(if_true, if_false) < 256
            assert position + 1 + max(if_true, if_false) < len(program)
    assert program[-1].code == RETURN


@pytest.mark.parametrize("machine", MACHINES)
def test_each_list_gets_its_answer(machine: Machine) -> None:
    names = NUMBERS[machine]
    for name in set(ALLOWED) & names.keys():
        assert ask(machine, name) == ALLOW, name
    for name in set(FATAL) & names.keys():
        assert ask(machine, name) == KILL_PROCESS, name
    assert ask(machine, "clone3") == UNKNOWN
    assert ask(machine, "seccomp") == REFUSE, "no filter of one's own on top"


@pytest.mark.parametrize("machine", MACHINES)
def test_with_a_listener_only_the_refusals_are_other_answers(machine: Machine) -> None:
    told = build(machine, PID, NOTIFY)
    assert len(told) == len(PROGRAMS[machine])
    for without, within in zip(PROGRAMS[machine], told, strict=True):
        answer = without.operand if without.code == RETURN else None
        assert within == (without._replace(operand=NOTIFY) if answer == REFUSE else without)


@pytest.mark.parametrize("machine", MACHINES)
def test_names_of_refused_calls_are_of_refused_calls(machine: Machine) -> None:
    for name, number in COMMON_REFUSALS[machine].items():
        answer = run(PROGRAMS[machine], AUDIT_ARCHITECTURE[machine], number, *[0] * 6)
        assert answer == REFUSE, name
        assert name_of(number, machine) == name
    assert name_of(NUMBERS[machine]["ptrace"], machine) == "ptrace"
    assert name_of(9999, machine) == name_of(9999, None) == "call-9999"


@pytest.mark.parametrize("machine", MACHINES)
def test_an_argument_decides_where_it_should(machine: Machine) -> None:
    read_write, with_exec = 0x3, 0x7
    assert ask(machine, "mmap", 0, 4096, read_write) == ALLOW
    assert ask(machine, "mmap", 0, 4096, with_exec) == REFUSE
    assert ask(machine, "mprotect", 0, 4096, with_exec) == REFUSE
    thread = 0x3D0F00
    assert ask(machine, "clone", thread) == ALLOW
    assert ask(machine, "clone", 17) == KILL_PROCESS, "SIGCHLD alone is a fork"
    assert ask(machine, "tgkill", PID) == ALLOW
    assert ask(machine, "tgkill", 1) == REFUSE
    assert ask(machine, "fcntl", 5, 1033) == ALLOW
    assert ask(machine, "fcntl", 5, 8) == REFUSE, "F_SETOWN sends signals"
    assert ask(machine, "shutdown", 5, 1) == ALLOW
    assert ask(machine, "shutdown", 5, 0) == ask(machine, "shutdown", 5, 2) == REFUSE
    assert ask(machine, "ioctl", 5, 0x5421) == ALLOW
    assert ask(machine, "ioctl", 5, 0x8B00) == REFUSE
    stream, datagram, seqpacket, close_on_exec = 1, 2, 5, 0o2000000
    assert ask(machine, "socketpair", 1, stream | close_on_exec) == ALLOW
    assert ask(machine, "socketpair", 1, seqpacket) == ALLOW
    assert ask(machine, "socketpair", 1, datagram) == REFUSE, "it could send to any path"
    for family in (2, 10, 16, 17, 40):
        assert ask(machine, "socketpair", family, stream) == REFUSE
    sol_socket, tcp, ip, udp, ipv6 = 1, 6, 0, 17, 41
    assert ask(machine, "setsockopt", 5, sol_socket, 8) == ALLOW
    assert ask(machine, "setsockopt", 5, tcp, 1) == ALLOW
    assert ask(machine, "setsockopt", 5, sol_socket, 25) == REFUSE, "SO_BINDTODEVICE"
    for level in (ip, udp, ipv6):
        assert ask(machine, "setsockopt", 5, level, 1) == REFUSE


PATH_TAKING = ("stat", "lstat", "newfstatat", "statx", "open", "openat", "readlink", "access")


@pytest.mark.parametrize("machine", MACHINES)
@given(name=st.sampled_from(PATH_TAKING), arguments=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6))
def test_no_call_that_takes_a_path_is_allowed_whatever_its_flags(
    machine: Machine, name: str, arguments: tuple[int, ...]
) -> None:
    """AT_EMPTY_PATH beside a path is a stat of the path, if the path is not empty."""
    number = COMMON_REFUSALS[machine].get(name)
    if number is not None:
        answer = run(PROGRAMS[machine], AUDIT_ARCHITECTURE[machine], number, *arguments)
        assert answer == REFUSE


@pytest.mark.parametrize("machine", MACHINES)
@given(pointer=st.integers(1, (1 << 64) - 1))
def test_a_limit_cannot_be_set_through_any_pointer(machine: Machine, pointer: int) -> None:
    assert ask(machine, "prlimit64", 0, 7, pointer) == REFUSE
    assert ask(machine, "prlimit64", 0, 7, 0) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, WORD), arguments=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6))
def test_nothing_is_allowed_that_is_not_listed(
    machine: Machine, number: int, arguments: tuple[int, ...]
) -> None:
    listed = {NUMBERS[machine].get(name) for name in (*ALLOWED, *CONDITIONS, "tgkill")}
    answer = run(PROGRAMS[machine], AUDIT_ARCHITECTURE[machine], number, *arguments)
    if number not in listed:
        assert answer != ALLOW
    if number > NEWEST_KNOWN and (machine is Machine.AARCH64 or number < 0x4000_0000):
        assert answer == UNKNOWN


def test_another_architecture_and_x32_are_killed() -> None:
    for machine in MACHINES:
        for foreign in (
            0x4000_0003,
            *(set(AUDIT_ARCHITECTURE.values()) - {AUDIT_ARCHITECTURE[machine]}),
        ):
            assert run(PROGRAMS[machine], foreign, NUMBERS[machine]["read"]) == KILL_PROCESS
    x32_read = 0x4000_0000
    assert run(PROGRAMS[Machine.X86_64], 0xC000_003E, x32_read) == KILL_PROCESS


def test_refusals_carry_an_errno_that_python_understands() -> None:
    assert REFUSE & 0xFFFF == errno.EPERM
    assert UNKNOWN & 0xFFFF == errno.ENOSYS


def _defined(header: str, *flags: str) -> dict[str, int]:
    """Return the numbers in the system's own header, from the C preprocessor."""
    asked = subprocess.run(
        ["cc", "-E", "-dM", *flags, "-"],
        input=f"#include <{header}>\n",
        capture_output=True,
        text=True,
        check=True,
    )
    words = dict(re.findall(r"#define (\w+) +(\w+)", asked.stdout))
    found = {}
    for name, value in words.items():
        if name.startswith("__NR_"):
            while value in words:
                value = words[value]
            if value.isdigit():
                found[name.removeprefix("__NR_")] = int(value)
    return found


HEADERS = [
    pytest.param(
        Machine.X86_64,
        "asm/unistd_64.h",
        (),
        marks=pytest.mark.skipif(platform.machine() != "x86_64", reason="an x86-64 header"),
    ),
    # arm64 is the generic table.
    pytest.param(Machine.AARCH64, "asm-generic/unistd.h", ("-D__BITS_PER_LONG=64",)),
]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C preprocessor")
@pytest.mark.parametrize(("machine", "header", "flags"), HEADERS)
def test_the_numbers_are_those_of_the_system_header(
    machine: Machine, header: str, flags: tuple[str, ...]
) -> None:
    defined = _defined(header, *flags)
    known = {**NUMBERS[machine], **COMMON_REFUSALS[machine]}
    checked = {name: number for name, number in known.items() if name in defined}
    assert len(checked) > len(known) * 0.9
    assert checked == {name: defined[name] for name in checked}
