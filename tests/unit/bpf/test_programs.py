"""The committed bytecode is what the C files say."""

from __future__ import annotations

import shutil

import pytest

from bpf.__main__ import MODULE, compile_programs, compiler_version, module_text
from routed.dataplane import programs
from routed.dataplane.layout import (
    RECORDS_MAX,
    ROUTE_BYTES,
    Sizes,
    config_bytes,
    sizes_for,
)


def test_the_committed_module_is_what_the_compiler_makes_of_the_sources() -> None:
    """The bytes are compared where the compiler is the same, the shape wherever there is one."""
    if shutil.which("clang") is None:
        pytest.skip("no clang on this machine")
    compiled = compile_programs()
    assert {name: array.size for name, array in compiled.arrays.items()} == programs.ARRAYS
    assert {
        name: program.section for name, program in compiled.programs.items()
    } == {name: program.section for name, program in programs.PROGRAMS.items()}  # fmt: skip
    if compiler_version() == programs.COMPILER:
        assert module_text(compiled, compiler_version()) == MODULE.read_text("utf-8")


def test_the_layout_of_this_process_is_that_of_the_programs() -> None:
    largest = Sizes(processors=1024, words=1 << 26, records=RECORDS_MAX, flow_sets=512).array_bytes
    declared = dict(programs.ARRAYS)
    assert declared.pop("config") == len(config_bytes(sizes_for(1, 0), 0))
    assert declared == largest
    assert declared["routes"] == RECORDS_MAX * ROUTE_BYTES


def test_each_reference_names_an_array_and_lies_inside_it() -> None:
    for program in programs.PROGRAMS.values():
        assert program.references
        for reference in program.references:
            assert 0 <= reference.offset < programs.ARRAYS[reference.array]
            assert program.code[reference.at] == 0x18  # a load of 64 bits
