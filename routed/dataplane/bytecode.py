"""The shape of a compiled program, for the generated module `programs.py` and the loader. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Bytecode", "Reference", "relocate"]

_PSEUDO_MAP_VALUE = 2
"""BPF_PSEUDO_MAP_VALUE: the instruction loads the address of a place in an array."""


class Reference(NamedTuple):
    """A place in the bytecode that takes the address of an array."""

    at: int
    """Byte offset of a 16-byte load instruction."""
    array: str
    offset: int
    """Bytes into the array."""


class Bytecode(NamedTuple):
    """A program before it is loaded."""

    section: str
    """Where it is attached: `tcx/ingress` or `tcx/egress`."""
    code: bytes
    """Instructions of 8 bytes."""
    references: tuple[Reference, ...]


def relocate(program: Bytecode, descriptors: Mapping[str, int]) -> bytes:
    """Put the descriptors of arrays into the bytecode.

    Args:
        program: as compiled.
        descriptors: of each array that it refers to, by name.

    Raises:
        KeyError: an array is missing (a defect of the caller).

    Source: the kernel's Documentation/bpf/llvm_reloc.rst; `struct bpf_insn` and BPF_LD_IMM64 in
    include/uapi/linux/bpf.h.
    """
    code = bytearray(program.code)
    for at, array, offset in program.references:
        code[at + 1] = code[at + 1] & 0x0F | _PSEUDO_MAP_VALUE << 4
        struct.pack_into("=i", code, at + 4, descriptors[array])
        struct.pack_into("=i", code, at + 12, offset)
    return bytes(code)
