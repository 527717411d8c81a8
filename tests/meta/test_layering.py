"""Which module may import which. The table below is the one place where that is written down.

The first folder names the process: `routed/parent/` runs in the privileged process only,
`routed/engine/`, `routed/liveness/` and `routed/observer/` in unprivileged ones only, and none
imports another, not even for types. What several of them need is neutral, is below them in the
table, and does not know that there are processes. Inside a package, core modules import no edge and
nothing that does I/O.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ipc", "routed", "routectl")

PACKAGE_IMPORTS: dict[str, set[str]] = {
    # package: what it may import of ours, and of others
    "ipc": {"msgpack", "trio"},
    "routectl": {
        "ipc", "prompt_toolkit", "routed.config", "routed.netlink.message",
        "routed.netlink.route_message",
    },
    # neutral, from the bottom up
    "routed.clock": set(),
    "routed.model": set(),
    "routed.log": {"ipc.texts"},
    "routed.netlink": {"routed.model", "trio"},
    "routed.config": {"routed.model", "routed.netlink.message", "yaml"},
    "routed.imsg": {
        "ipc.codec", "ipc.framing", "routed", "routed.config.transfer", "routed.model",
    },
    "routed.rib": {"routed.clock", "routed.model"},
    "routed.snapshot": {"ipc.fib_layout", "ipc.extension", "routed.model", "routed.rib.table"},
    "routed.dataplane": {"routed.model"},
    "routed.udp": {"trio"},
    "routed.fib": {
        "pyroute2", "routed.clock", "routed.log", "routed.model", "routed.netlink", "trio",
    },
    "routed.nup": {"routed.model", "routed.udp", "trio"},
    "routed.bfd": {"routed.model"},
    "routed.probe": {"routed.model"},
    "routed.control": {"ipc", "routed.imsg.messages", "routed.model", "trio"},
    "routed.metrics": {"ipc.closing", "ipc.credentials", "ipc.fdpass", "trio"},
    "routed.sandbox": set(),
    # the processes
    "routed.engine": {
        "ipc", "routed", "routed.clock", "routed.config", "routed.control", "routed.dataplane",
        "routed.imsg", "routed.log", "routed.metrics", "routed.model", "routed.nup", "routed.rib",
        "routed.sandbox", "routed.snapshot", "trio",
    },
    "routed.kernel_import": {"routed.config", "routed.fib", "routed.model", "routed.netlink"},
    "routed.liveness": {
        "ipc", "routed", "routed.bfd", "routed.clock", "routed.imsg", "routed.model",
        "routed.probe", "routed.sandbox", "routed.udp", "trio",
    },
    "routed.observer": {
        "ipc", "routed", "routed.dataplane", "routed.imsg", "routed.model", "routed.sandbox",
        "trio",
    },
    "routed.parent": {
        "ipc.channel", "ipc.closing", "ipc.codec", "ipc.credentials", "ipc.fdpass", "ipc.framing",
        "ipc.standard_streams", "routed", "routed.clock", "routed.config", "routed.dataplane",
        "routed.fib", "routed.imsg", "routed.log", "routed.model", "routed.netlink",
        "routed.sandbox", "trio",
    },
    # what both start from
    "routed.cli": {
        "ipc.extension", "ipc.standard_streams", "routed", "routed.config", "routed.engine.main",
        "routed.fib.routes.extension", "routed.kernel_import", "routed.liveness.main",
        "routed.netlink", "routed.observer.main", "routed.parent", "routed.snapshot.parts",
    },
    "routed.client": {"ipc"},
    "routed.replay": {"routed.config.scalars", "routed.nup"},
    "routed.__main__": {"routed.cli"},
}  # fmt: skip

EVERYWHERE = {"ipc.lazy_dataclass"}
"""It replaces a module of the standard library, so each package may import it."""

ONLY_IMPORTERS: dict[str, set[str]] = {
    "pyroute2": {"routed.fib.rule_codec"},
    "msgpack": {"ipc.codec", "ipc.quick"},
    "yaml": {"routed.config.load"},
    "prompt_toolkit": {"routectl.completer", "routectl.shell", "routectl.top"},
}

EXTENSIONS = {
    "ipc._search": "ipc.extension",
    "routed.fib.routes._routes": "routed.fib.routes.extension",
    "routed.snapshot._writer": "routed.snapshot.extension",
}
"""The C extensions, and the only importer of each: there it is decided whether it is used."""

EDGES = {
    "ipc.blocking", "ipc.channel", "ipc.closing", "ipc.credentials", "ipc.fdpass", "ipc.snapshot",
    "routed.config.load", "routed.config.permissions", "routed.config.scalars",
    "routed.config.vrf",
    "routed.control.sending",
    "routed.control.server",
    "routed.control.session",
    "routed.dataplane.kernel", "routed.dataplane.loader",
    "routed.metrics.server",
    "routed.fib.links.codec", "routed.fib.monitor", "routed.netlink.socket", "routed.fib.rule_sync",
    "routed.fib.carrier", "routed.fib.request_socket",
    "routed.fib.compat_mode", "routed.fib.import_sync", "routed.fib.nexthop_sync",
    "routed.fib.sync",
    "routed.nup.network",
    "routed.snapshot.writer",
    "routed.udp.receiving",
}  # fmt: skip
"""Modules of a package that touch the world."""

NO_CORE_IMPORTS = {
    "trio", "_socket", "asyncio", "ctypes", "fcntl", "mmap", "os", "pathlib", "posix", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "threading",
    "time",
}  # fmt: skip
"""What a core module may not import. `random` is there for the type of the generator that
is passed in; ruff bans its module functions."""

NO_CORE_CALLS = {"input", "open", "print"}
"""Functions without an import that a core module may not use."""

PROCESSES = ("routed.parent", "routed.engine", "routed.liveness", "routed.observer")
"""The packages of which each belongs to one process."""

NO_DYNAMIC_CODE = {
    "__import__", "eval", "exec", "exec_module", "find_spec", "import_module", "load_module",
    "run_module", "run_path",
}  # fmt: skip
"""Names and attributes that load or run code which no import statement names."""

DYNAMIC_CODE = {
    # module: what it uses, and why
    "routed.client": {"import_module"},  # a library for users' programs; its table has the names
}

PRIVILEGED_CODE = {
    "routed", "routed.clock", "routed.config", "routed.dataplane", "routed.fib", "routed.imsg",
    "routed.log", "routed.model", "routed.netlink", "routed.parent", "routed.sandbox",
}  # fmt: skip
"""The packages of `routed` of which the privileged process may load modules."""

CORE_PACKAGES = (
    "routed.model", "routed.rib", "routed.snapshot", "routed.fib", "routed.nup", "routed.bfd",
    "routed.control", "routed.probe", "routed.dataplane",
)  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


class Source(NamedTuple):
    """The facts about a module that the rules use; each module is parsed once."""

    imports: tuple[str, ...]
    """Every module that is imported at run time, in functions too."""
    all_imports: tuple[str, ...]
    """The same, and those for types alone."""
    late_imports: tuple[int, ...]
    """Lines of the imports in functions."""
    names: frozenset[str]
    """Every name that it uses."""
    attributes: frozenset[str]
    """Every attribute that it uses, and the names that it imports."""


@functools.cache
def source_of(path: Path) -> Source:
    """Parse a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    type_only = {
        id(node)
        for branch in nodes
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for statement in branch.body  # the branch after `else` runs
        for node in ast.walk(statement)
    }
    late = {
        node.lineno
        for function in nodes
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    names, attributes = set(), set()
    for node in nodes:
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
        elif isinstance(node, ast.alias):
            attributes.add(node.name)
    return Source(
        tuple(_imports_in([node for node in nodes if id(node) not in type_only], path)),
        tuple(_imports_in(nodes, path)),
        tuple(sorted(late)),
        frozenset(names),
        frozenset(attributes),
    )


def imports_of(path: Path) -> tuple[str, ...]:
    """Every module that is imported at run time, in functions too."""
    return source_of(path).imports


def all_imports_of(path: Path) -> tuple[str, ...]:
    """Every module that is imported at run time or for types alone, in functions too."""
    return source_of(path).all_imports


def _imports_in(nodes: Iterable[ast.AST], path: Path) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide the package"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES or full in EXTENSIONS else node.module


def package_of(module: str) -> str:
    """The longest entry of the table that a module belongs to."""
    candidates = [
        package
        for package in PACKAGE_IMPORTS
        if module == package or module.startswith(package + ".")
    ]
    return max(candidates, key=len, default=module)


def is_within(module: str, allowed: set[str]) -> bool:
    # "routed" itself stands for its version only, not for everything below it.
    return any(
        module == entry or (entry != "routed" and module.startswith(entry + "."))
        for entry in allowed
    )


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_follow_the_table(module: str) -> None:
    if module == "routed":
        assert imports_of(MODULES[module]) == ()
        return
    package = package_of(module)
    allowed = PACKAGE_IMPORTS[package] | EVERYWHERE | {package}
    for imported in imports_of(MODULES[module]):
        if imported.split(".")[0] in sys.stdlib_module_names:
            continue
        assert is_within(imported, allowed), f"{module} may not import {imported}"


@pytest.mark.parametrize("process", PROCESSES)
def test_no_process_imports_another(process: str) -> None:
    """Not even a type: what both sides name is a message or a part of the model."""
    others = set(PROCESSES) - {process}
    for module, path in MODULES.items():
        if is_within(module, {process}):
            found = [imported for imported in all_imports_of(path) if is_within(imported, others)]
            assert not found, f"{module} imports {found}"


def test_no_module_loads_code_that_no_import_names() -> None:
    """Else the table above would not see it."""
    sources = {module: source_of(path) for module, path in MODULES.items()}
    used = {
        module: NO_DYNAMIC_CODE & (source.names | source.attributes)
        for module, source in sources.items()
    }
    assert {module: names for module, names in used.items() if names} == DYNAMIC_CODE


def test_imports_for_types_alone_are_kept_apart(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    import c\n"
    )
    assert set(imports_of(module)) == {"b", "c"}
    assert set(all_imports_of(module)) == {"a", "b", "c"}


def find_circle(arrows: dict[str, set[str]]) -> list[str]:
    """The nodes of one circle of a graph in order, the first once more at the end; empty if none.

    Nodes that lead nowhere are removed until none is left or all that remain lead to others.
    """
    left = {node: targets - {node} for node, targets in arrows.items()}
    while ends := {node for node, targets in left.items() if not targets & left.keys()}:
        left = {node: targets for node, targets in left.items() if node not in ends}
    if not left:
        return []
    way = [min(left)]
    while (following := min(left[way[-1]] & left.keys())) not in way:
        way.append(following)
    return [*way[way.index(following) :], following]


def test_no_modules_import_each_other() -> None:
    """No circle of modules, at whatever place of a module the import stands, types included."""
    arrows = {
        module: {imported for imported in all_imports_of(path) if imported in MODULES}
        for module, path in MODULES.items()
    }
    assert find_circle(arrows) == []


def test_no_packages_import_each_other() -> None:
    """No circle of packages, even where no single module takes part in one."""
    arrows: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        targets = arrows.setdefault(package_of(module), set())
        targets |= {package_of(imported) for imported in all_imports_of(path)}
    assert find_circle(arrows) == []


def test_a_circle_is_found() -> None:
    arrows = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set(), "e": {"a", "e"}}
    assert find_circle(arrows) == ["b", "c", "b"]
    assert find_circle(arrows | {"c": {"d"}}) == []


@pytest.mark.parametrize("library", sorted(ONLY_IMPORTERS))
def test_a_library_has_one_door(library: str) -> None:
    importers = {
        module
        for module, path in MODULES.items()
        if any(imported.split(".")[0] == library for imported in imports_of(path))
    }
    assert importers == ONLY_IMPORTERS[library]


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_a_c_extension_has_one_importer(extension: str) -> None:
    importers = {module for module, path in MODULES.items() if extension in imports_of(path)}
    assert importers == {EXTENSIONS[extension]}
    folder, name = extension.rsplit(".", 1)
    package = ROOT / folder.replace(".", "/")
    assert (package / f"{name}.pyi").is_file()
    sources = {path.stem for path in (package / "native").glob("*.c")}
    main = name.removeprefix("_")
    assert main in sources
    assert all(stem == main or stem.startswith(f"{main}_") for stem in sources)


@pytest.mark.parametrize(
    "module",
    sorted(
        module
        for module in MODULES
        if module not in EDGES
        and any(module.startswith(package + ".") for package in CORE_PACKAGES)
    ),
)
def test_core_modules_decide_and_touch_nothing(module: str) -> None:
    for imported in imports_of(MODULES[module]):
        # os.strerror is words, not deeds.
        if imported == "os" and module == "routed.fib.routes.plan":
            continue
        assert imported.split(".")[0] not in NO_CORE_IMPORTS, f"core {module} imports {imported}"
        if package_of(imported) == package_of(module):
            assert imported not in EDGES, f"core {module} imports the edge {imported}"
    forbidden = NO_CORE_CALLS & source_of(MODULES[module]).names
    assert not forbidden, f"core {module} uses {forbidden}"


def modules_after(statement: str) -> set[str]:
    """What a bare interpreter has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_privileged_process_loads_no_code_that_reads_unauthenticated_input() -> None:
    """The decoders of NUP, BFD and the management protocol, and what no start needs."""
    loaded = modules_after("import routed.parent.main")
    ours = {module for module in loaded if module.split(".")[0] == "routed"}
    assert "routed.parent.main" in ours
    assert {module for module in ours if not is_within(module, PRIVILEGED_CODE)} == set()
    allowed = PACKAGE_IMPORTS["routed.parent"] | PACKAGE_IMPORTS["routed.imsg"]
    allowed |= PACKAGE_IMPORTS["routed.log"] | EVERYWHERE | {"ipc", "ipc.quick"}
    clients = {module for module in loaded if module.split(".")[0] == "ipc"}
    assert {module for module in clients if module not in allowed} == set()
    assert "pyroute2" not in loaded


@pytest.mark.parametrize("module", sorted(MODULES))
def test_data_classes_are_lazy(module: str) -> None:
    """Each class of `dataclasses` costs half a millisecond in every process that imports it."""
    text = MODULES[module].read_text(encoding="utf-8")
    if module in ("ipc.lazy_dataclass", "routed.config.load"):  # the latter orders its problems
        return
    assert "from dataclasses import dataclass" not in text, "import it from ipc.lazy_dataclass"


NO_SOURCES = {".git", ".venv", "build", "dist"}
"""Folders at the top of a clone that are not part of it, or are generated."""


def test_c_code_is_where_it_is_looked_for() -> None:
    """In the folders of the extensions, the kernel's programs, an example, and the benchmarks."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in NO_SOURCES]
    files = [
        path.relative_to(ROOT)
        for path in (*ROOT.glob("*.*"), *(each for top in folders for each in top.rglob("*.*")))
        if path.suffix in (".c", ".h")
    ]
    assert files
    native = {Path(name.rpartition(".")[0].replace(".", "/"), "native") for name in EXTENSIONS}
    allowed = native | {Path("bpf"), Path("docs/examples"), Path("tests/bench")}
    assert [str(file) for file in files if file.parent not in allowed] == []


def test_setup_builds_the_extensions_of_the_table() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    built = {
        tuple(ast.literal_eval(argument) for argument in node.args)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "optional_extension"
    }
    folders = {name: name.rpartition(".")[0].replace(".", "/") for name in EXTENSIONS}
    assert built == {(name, f"{folder}/native") for name, folder in folders.items()}
