"""Reader of the object files that clang makes of a `.bpf.c`. For maintainers and tests only. Pure.

    ELF sections --+-- code      --> programs: bytecode, and where it refers to an array
                   '-- variables --> arrays: size, and the contents of constants

Every variable has a section of its own, `.bss.NAME` or `.rodata.NAME`, and becomes an array of one
element with that name: those of `.bss` are mapped by user space, those of `.rodata` are constants.
No other reference is accepted, neither to a map declared for libbpf nor to a function.

Failure: `ValueError` for a file of another kind, or with a reference that cannot be carried out.

Sources: the ELF specification; the kernel's Documentation/bpf/llvm_reloc.rst.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["Array", "ObjectFile", "Program", "Reference", "read_object_file"]

_PROGBITS, _NOBITS = 1, 8
_EXECUTABLE = 4
_FUNCTION = 2
_MACHINE_BPF = 247
_VARIABLES = (".bss.", ".rodata.")


class Reference(NamedTuple):
    """A place in the bytecode that takes the address of an array."""

    at: int
    """Byte offset of a 16-byte load instruction."""
    array: str
    offset: int
    """Bytes into the array."""


class Array(NamedTuple):
    """A variable of the C file."""

    size: int
    """Bytes, as declared."""
    is_constant: bool


class Program(NamedTuple):
    """A function of the C file that the kernel can run."""

    section: str
    """Where it is attached: `tcx/ingress`, `tcx/egress`."""
    code: bytes
    references: tuple[Reference, ...]


class ObjectFile(NamedTuple):
    """The parts of an object file that the loader needs."""

    license: str
    arrays: dict[str, Array]
    programs: dict[str, Program]


class _Section(NamedTuple):
    name: str
    type: int
    flags: int
    body: bytes
    size: int
    link: int


class _Symbol(NamedTuple):
    name: str
    kind: int
    section: int
    value: int
    size: int


def read_object_file(elf: bytes) -> ObjectFile:
    """Read an object file for the bpf target, little-endian.

    Raises:
        ValueError: it is none, or refers to something that is no variable.
    """
    if elf[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", elf, 18)[0] != _MACHINE_BPF:
        raise ValueError("no 64-bit little-endian ELF file for the bpf target")
    sections = _sections(elf)
    by_name = {section.name: section for section in sections}
    symbols = _symbols(sections, by_name[".symtab"])
    arrays = {
        _variable(section.name): Array(section.size, section.name.startswith(".rodata."))
        for section in sections
        if section.name.startswith(_VARIABLES)
    }
    programs = {}
    for index, section in enumerate(sections):
        if section.type != _PROGBITS or not section.flags & _EXECUTABLE or not section.body:
            continue
        relocations = by_name.get(f".rel{section.name}")
        entries = list(struct.iter_unpack("<QQ", relocations.body)) if relocations else []
        for symbol in symbols:
            if symbol.kind == _FUNCTION and symbol.section == index:
                programs[symbol.name] = _program(sections, symbols, symbol, entries)
    license_text = by_name["license"].body.split(b"\0")[0].decode()
    return ObjectFile(license_text, arrays, programs)


def _program(
    sections: list[_Section],
    symbols: list[_Symbol],
    symbol: _Symbol,
    relocations: list[tuple[int, int]],
) -> Program:
    section = sections[symbol.section]
    first, end = symbol.value, symbol.value + symbol.size
    code = section.body[first:end]
    references = tuple(
        _reference(sections, symbols[info >> 32], code, at - first)
        for at, info in relocations
        if first <= at < end
    )
    return Program(section.name, code, references)


def _reference(sections: list[_Section], symbol: _Symbol, code: bytes, at: int) -> Reference:
    section = sections[symbol.section]
    if not section.name.startswith(_VARIABLES):
        raise ValueError(f"a reference to {symbol.name or section.name}, which is no variable")
    (addend,) = struct.unpack_from("<i", code, at + 4)
    return Reference(at, _variable(section.name), symbol.value + addend)


def _variable(section_name: str) -> str:
    return section_name.split(".", 2)[2]


def _sections(elf: bytes) -> list[_Section]:
    (offset,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, offset + i * size) for i in range(count)]
    names = elf[headers[names_index][4] :][: headers[names_index][5]]
    return [
        _Section(
            name=_text(names, header[0]),
            type=header[1],
            flags=header[2],
            body=b"" if header[1] == _NOBITS else elf[header[4] : header[4] + header[5]],
            size=header[5],
            link=header[6],
        )
        for header in headers
    ]


def _symbols(sections: list[_Section], table: _Section) -> list[_Symbol]:
    names = sections[table.link].body
    return [
        _Symbol(_text(names, name), info & 15, section, value, size)
        for name, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", table.body)
    ]


def _text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(0, at)].decode()
