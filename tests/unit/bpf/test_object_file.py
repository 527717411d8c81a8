"""The reader of object files, on files that are put together here: no compiler is needed."""

from __future__ import annotations

import struct

import pytest

from bpf.object_file import Array, Reference, read_object_file

LOAD = bytes([0x18, 1, 0, 0]) + struct.pack("<i", 8) + bytes(8)
EXIT = bytes([0x95]) + bytes(7)
CODE = LOAD + EXIT


def elf(variable: str = ".bss.counts", *, machine: int = 247, symbol_section: int = 2) -> bytes:
    """An object file with one program, which refers to one variable.

    Sections: 0 none, 1 code, 2 variable, 3 constant, 4 relocations, 5 license, 6 symbols, 7 names.
    """
    names = b"\0"
    offsets = {}
    texts = ["tcx/ingress", variable, ".rodata.config", ".reltcx/ingress", "license", ".symtab",
             ".strtab", "received"]  # fmt: skip
    for text in texts:
        offsets[text] = len(names)
        names += text.encode() + b"\0"
    symbols = bytes(24)
    symbols += struct.pack("<IBBHQQ", 0, 3, 0, symbol_section, 0, 0)
    symbols += struct.pack("<IBBHQQ", offsets["received"], 2, 0, 1, 0, len(CODE))
    relocations = struct.pack("<QQ", 0, 1 << 32 | 1)
    bodies = [
        (offsets["tcx/ingress"], 1, 6, CODE, len(CODE), 0),
        (offsets[variable], 8, 3, b"", 64, 0),
        (offsets[".rodata.config"], 1, 2, bytes(20), 20, 0),
        (offsets[".reltcx/ingress"], 9, 0, relocations, 16, 6),
        (offsets["license"], 1, 2, b"GPL\0", 4, 0),
        (offsets[".symtab"], 2, 0, symbols, len(symbols), 7),
        (offsets[".strtab"], 3, 0, names, len(names), 0),
    ]
    at, content, headers = 64, b"", bytes(64)
    for name, kind, flags, body, size, link in bodies:
        headers += struct.pack("<IIQQQQIIQQ", name, kind, flags, 0, at, size, link, 0, 0, 0)
        content += body
        at += len(body)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 1, machine, 1)
    head += struct.pack("<QQQIHHHHHH", 0, 0, at, 0, 64, 0, 0, 64, 8, 7)
    return head + content + headers


def test_programs_arrays_and_references_are_found() -> None:
    found = read_object_file(elf())
    assert found.license == "GPL"
    assert found.arrays == {"counts": Array(64, False), "config": Array(20, True)}
    program = found.programs["received"]
    assert (program.section, program.code) == ("tcx/ingress", CODE)
    assert program.references == (Reference(0, "counts", 8),)


def test_a_reference_to_anything_but_a_variable_is_refused() -> None:
    with pytest.raises(ValueError, match="a reference to license, which is no variable"):
        read_object_file(elf(symbol_section=5))


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh", elf(machine=62)])
def test_another_kind_of_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="for the bpf target"):
        read_object_file(content)
