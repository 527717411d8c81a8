"""`make bpf`: compile the C files and write `routed/dataplane/programs.py`.

The module that is written is part of the repository, so that users need neither a compiler nor
kernel headers. A test builds it again where clang is installed, and compares the two.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bpf.object_file import ObjectFile, read_object_file

__all__ = ["compile_programs", "compiler_version", "main", "module_text"]

HERE = Path(__file__).parent
MODULE = HERE.parent / "routed" / "dataplane" / "programs.py"
SOURCE = HERE / "traffic.bpf.c"

_FLAGS = ("-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v3",
          "-fno-strict-aliasing")  # fmt: skip

_HEAD = '''"""The programs for the kernel, compiled: written by `make bpf` from `bpf/*.bpf.c`.

Do not edit. Each array is one variable of the C files, with its size as declared there; each
program has its bytecode, 8 bytes an instruction, and the places in it that take the address of an
array.
"""

from __future__ import annotations

from routed.dataplane.bytecode import Bytecode, Reference

__all__ = ["ARRAYS", "COMPILER", "LICENSE", "PROGRAMS"]
'''


def compile_programs(source: Path = SOURCE, clang: str = "clang") -> ObjectFile:
    """Compile one C file.

    Raises:
        OSError: clang is not installed.
        subprocess.CalledProcessError: the file has errors, which clang has printed.
        ValueError: the file refers to something that the loader cannot resolve.
    """
    include = f"/usr/include/{platform.machine()}-linux-gnu"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "object.o"
        command = [clang, *_FLAGS, "-I", include, "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        return read_object_file(target.read_bytes())


def compiler_version(clang: str = "clang") -> str:
    """Return the version of the compiler, such as `14.0.6`.

    Raises:
        OSError: it is not installed.
    """
    said = subprocess.run([clang, "--version"], check=True, capture_output=True, text=True).stdout
    return said.split("version ", 1)[1].split()[0]


def module_text(compiled: ObjectFile, compiler: str) -> str:
    """Write the module's text; the same for the same object file and compiler."""
    lines = [_HEAD, f'COMPILER = "{compiler}"', f'LICENSE = "{compiled.license}"', "", "ARRAYS = {"]
    lines += [f'    "{name}": {array.size},' for name, array in sorted(compiled.arrays.items())]
    lines += ["}", '"""Size of each array in bytes, as declared."""', "", "PROGRAMS = {"]
    for name, program in sorted(compiled.programs.items()):
        lines += [
            f'    "{name}": Bytecode(',
            f'        "{program.section}",',
            "        bytes.fromhex(",
        ]
        lines += [
            f'            "{program.code[at : at + 160].hex(" ", 8)} "'
            for at in range(0, len(program.code), 160)
        ]
        lines += ["        ),", "        ("]
        lines += [
            f'            Reference({reference.at}, "{reference.array}", {reference.offset}),'
            for reference in program.references
        ]
        lines += ["        ),", "    ),"]
    return "\n".join([*lines, "}", ""])


def main() -> int:
    """Write the module; returns the exit status."""
    if shutil.which("clang") is None:
        sys.stderr.write("make bpf: clang is not installed (apt-get install clang)\n")
        return 1
    MODULE.write_text(module_text(compile_programs(), compiler_version()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
