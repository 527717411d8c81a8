"""Who may import whom. The table below is the one place where that is written down.

Rooms meet only in the composition roots (`routed/parent.py`, `routed/router.py` and what they are
made of); inside a room, core modules import no edge and nothing that does I/O.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ipc", "routed", "routectl")

ROOM_IMPORTS: dict[str, set[str]] = {
    # room: what it may import of ours, and of others
    "routed.model": set(),
    "ipc": {"ipc", "routed.model", "msgpack", "trio"},
    "routed.config": {"routed.model", "yaml"},
    "routed.rib": {"routed.model", "routed.clock", "ipc.fib_layout", "ipc.fib_native"},
    "routed.fib": {"routed.model", "routed.clock", "routed.log", "trio", "pyroute2"},
    "routed.neighbor": {"routed.model", "routed.clock", "trio"},
    "routed.control": {"routed.model", "ipc", "trio"},
    "routectl": {
        "ipc", "routectl", "prompt_toolkit", "routed.config.load", "routed.keyfiles",
    },
    # single modules beside the rooms
    "routed.clock": set(),
    "routed.log": {"ipc.texts"},
    "routed.log_relay": {"ipc", "routed.log"},
    "routed.declaration": {"ipc", "routed", "routed.config.transfer"},
    "routed.code_on_disk": set(),
    "routed.daemonize": {"ipc.standard_streams", "routed", "routed.signals"},
    "routed.signals": set(),
    "routed.lockfile": set(),
    "routed.instance_lock": {"ipc.closing", "ipc.credentials", "ipc.fdpass", "trio"},
    "routed.pidfile": {"routed.lockfile"},
    "routed.notify": set(),
    "routed.privsep": {"routed.signals"},
    "routed.process_memory": set(),
    "routed.latency": {"routed.metrics"},
    "routed.metrics": {"ipc.closing", "ipc.credentials", "ipc.fdpass", "trio"},
    "routed.sandbox": set(),
    "routed.listener": {
        "ipc.closing", "ipc.fdpass", "routed.config.scalars", "routed.lockfile",
    },
    "routed.sockets": {"routed.model", "routed.neighbor.assigned"},
    "routed.wishes": {"ipc", "routed.model"},
    "routed.fib_updates": {"ipc", "routed.fib", "routed.log", "routed.model"},
    "routed.outbox": {"ipc.internal", "routed.model", "trio"},
    "routed.engine_session": {
        "ipc", "routed.config", "routed.declaration", "routed.engine_output", "routed.log",
        "routed.log_relay", "routed.outbox", "routed.privsep", "routed.sandbox.refusals", "trio",
    },
    "routed.engine_output": {"trio"},
    "routed.journals": {"ipc.internal", "routed.log"},
    "routed.supervisor": {
        "ipc", "routed", "routed.code_on_disk", "routed.config", "routed.engine_session",
        "routed.log", "routed.privsep", "trio",
    },
    "routed.injection": {"routed.model"},
    "routed.injection_journal": {"ipc", "routed.injection", "routed.model"},
    "routed.keyfiles": {"ipc", "routed.config.load", "routed.config.schema"},
    "routed.neighbor_links": {"ipc", "routed.config.schema", "routed.model", "routed.neighbor"},
    "routed.neighbor_policy": {"routed.config.schema", "routed.neighbor"},
    "routed.kernel_filter": {"routed.config.schema", "routed.model"},
    "routed.redistribution": {
        "routed.config.schema", "routed.model", "routed.neighbor", "routed.rib.table",
    },
    "routed.sources": {
        "routed.config.schema", "routed.model", "routed.neighbor.events", "routed.redistribution",
        "routed.rib.table",
    },
    "routed.injecting": {
        "ipc.columns", "routed.injection", "routed.injection_journal", "routed.log",
        "routed.model", "routed.rib.table", "trio",
    },
    "routed.fib_requests": {
        "ipc.internal", "routed.config.schema", "routed.kernel_filter", "routed.log",
        "routed.model", "routed.neighbor.events", "routed.rib.table", "routed.wishes",
    },
    "routed.kernel_news": {"routed.model", "routed.neighbor.instance", "routed.wishes"},
    "routed.router": {
        "ipc", "routed.clock", "routed.config.schema", "routed.fib_requests", "routed.injecting",
        "routed.kernel_news", "routed.latency", "routed.log", "routed.model", "routed.neighbor",
        "routed.neighbor_links", "routed.neighbor_policy", "routed.redistribution", "routed.rib",
        "routed.sources", "trio",
    },
    "routed.explain": {
        "routed.control", "routed.model", "routed.rib", "routed.router",
    },
    "routed.topology": {"routed.control", "routed.model", "routed.router"},
    "routed.watching": {"routed.control", "routed.model", "routed.neighbor", "routed.rib"},
    "routed.route_tables": {
        "routed.control", "routed.fib_requests", "routed.model", "routed.rib", "routed.router",
    },
    "routed.protocols": {"routed.config.schema", "routed.model", "routed.neighbor.events"},
    "routed.counter_words": {"routed.neighbor.events"},
    "routed.reporter": {
        "ipc", "routed", "routed.log", "routed.config.schema", "routed.config.written",
        "routed.control", "routed.counter_words", "routed.explain",
        "routed.model", "routed.neighbor", "routed.process_memory", "routed.protocols",
        "routed.rib", "routed.route_tables", "routed.router", "routed.topology", "routed.watching",
    },
    "routed.parent_watch": {"routed.log", "trio"},
    "routed.diagnosis": {"routed.reporter"},
    "routed.exporter": {
        "routed.metrics", "routed.model", "routed.reporter", "routed.router", "routed.sandbox",
    },
    "routed.engine": {
        "ipc", "routed.clock", "routed.config.schema", "routed.config.transfer",
        "routed.control", "routed.declaration", "routed.log", "routed.diagnosis",
        "routed.exporter", "routed.injection_journal", "routed.metrics", "routed.model",
        "routed.parent_watch", "routed.privsep", "routed.process_memory", "routed.reporter",
        "routed.rib.snapshot", "routed.router", "routed.sandbox", "trio",
    },
    "routed.state_file": set(),
    "routed.last_good": {"routed.state_file"},
    "routed.reload_phases": set(),
    "routed.reload_queue": {"ipc.internal"},
    "routed.file_threads": {"routed.sandbox.kernel"},
    "routed.config_reader": {
        "ipc.internal", "routed.config", "routed.file_threads", "routed.keyfiles", "trio",
    },
    "routed.config_switch": {
        "ipc.internal", "routed.config", "routed.config_reader", "routed.engine_session",
        "routed.instance_lock", "routed.keyfiles", "routed.listener", "routed.start",
        "routed.supervisor", "routed.transaction", "trio",
    },
    "routed.transaction": {
        "ipc", "routed.config", "routed.config_reader", "routed.last_good", "routed.log",
        "routed.reload_phases", "routed.reload_queue", "trio",
    },
    "routed.log_sinks": {"routed.file_threads", "routed.log"},
    "routed.orphans": {"trio"},
    "routed.daemon_log": {
        "ipc.internal", "routed.config.schema", "routed.log", "routed.log_sinks", "routed.outbox",
    },
    "routed.start": {
        "ipc", "routed.config.permissions", "routed.config.schema", "routed.daemon_log",
        "routed.instance_lock",
        "routed.keyfiles", "routed.listener", "routed.lockfile", "routed.pidfile",
        "routed.privsep", "routed.sandbox",
    },
    "routed.neighbor_sockets": {
        "ipc", "routed.config.schema", "routed.log", "routed.model", "routed.sockets", "trio",
    },
    "routed.kernel_side": {
        "ipc", "routed.config.schema", "routed.fib", "routed.fib_updates", "routed.log",
        "routed.model", "trio",
    },
    "routed.engine_desk": {
        "ipc", "routed.daemon_log", "routed.kernel_side", "routed.model", "routed.reload_queue",
        "routed.supervisor", "routed.transaction", "trio",
    },
    "routed.parent": {
        "ipc", "routed", "routed.clock", "routed.config", "routed.daemonize",
        "routed.engine_desk", "routed.engine_session", "routed.fib.links", "routed.fib.netlink",
        "routed.config_reader", "routed.config_switch", "routed.instance_lock",
        "routed.kernel_side",
        "routed.journals", "routed.last_good", "routed.signals", "routed.reload_queue",
        "routed.model", "routed.neighbor_sockets", "routed.notify", "routed.orphans",
        "routed.start",
        "routed.supervisor", "routed.transaction", "trio",
    },
    "routed.cli": {
        "ipc.fib_native", "ipc.standard_streams", "routed", "routed.config", "routed.daemonize",
        "routed.engine", "routed.fib.native", "routed.keyfiles", "routed.last_good",
        "routed.parent",
        "routed.rib.parts", "routed.signals",
    },
    "routed.replay": {
        "routed.config.scalars", "routed.neighbor.instance_state",
        "routed.neighbor.recording_format", "routed.neighbor.replay",
    },
    "routed.__main__": {"routed.cli"},
}  # fmt: skip

ONLY_IMPORTERS: dict[str, set[str]] = {
    "pyroute2": {"routed.fib.rule_codec"},
    "msgpack": {"ipc.codec", "ipc.quick"},
    "yaml": {"routed.config.load"},
    "prompt_toolkit": {"routectl.completer", "routectl.shell", "routectl.top"},
}

EDGES = {
    "ipc.blocking", "ipc.channel", "ipc.closing", "ipc.credentials", "ipc.fdpass", "ipc.snapshot",
    "routed.config.load", "routed.config.permissions", "routed.config.scalars",
    "routed.config.vrf",
    "routed.control.sending",
    "routed.control.server",
    "routed.control.session",
    "routed.metrics.server",
    "routed.fib.events", "routed.fib.monitor", "routed.fib.netlink", "routed.fib.rules",
    "routed.fib.carrier", "routed.fib.request_socket",
    "routed.fib.compat_mode", "routed.fib.learn_sync", "routed.fib.object_sync",
    "routed.fib.sync",
    "routed.neighbor.network",
    "routed.rib.snapshot",
}  # fmt: skip
"""Modules of a room that touch the world."""

NO_CORE_IMPORTS = {"trio", "socket", "os", "time", "secrets", "select", "subprocess", "threading"}
"""What a core module of a room may not import. `random` is there for the type of the generator that
is passed in; ruff bans its module functions."""

CORE_ROOMS = ("routed.model", "routed.rib", "routed.fib", "routed.neighbor", "routed.control")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports_of(path: Path) -> Iterator[str]:
    """Every module that is imported at run time, in functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    type_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in type_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide the room"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def room_of(module: str) -> str:
    """The longest entry of the table that a module belongs to."""
    candidates = [room for room in ROOM_IMPORTS if module == room or module.startswith(room + ".")]
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
        assert list(imports_of(MODULES[module])) == []
        return
    room = room_of(module)
    allowed = ROOM_IMPORTS[room] | {room}
    for imported in imports_of(MODULES[module]):
        if imported.split(".")[0] in sys.stdlib_module_names:
            continue
        assert is_within(imported, allowed), f"{module} may not import {imported}"


@pytest.mark.parametrize("library", sorted(ONLY_IMPORTERS))
def test_a_library_has_one_door(library: str) -> None:
    importers = {
        module
        for module, path in MODULES.items()
        if any(imported.split(".")[0] == library for imported in imports_of(path))
    }
    assert importers == ONLY_IMPORTERS[library]


@pytest.mark.parametrize(
    "module",
    sorted(
        module
        for module in MODULES
        if module not in EDGES and any(module.startswith(room + ".") for room in CORE_ROOMS)
    ),
)
def test_core_modules_decide_and_touch_nothing(module: str) -> None:
    for imported in imports_of(MODULES[module]):
        # os.strerror is words, not deeds.
        if imported == "os" and module == "routed.fib.plan":
            continue
        assert imported.split(".")[0] not in NO_CORE_IMPORTS, f"core {module} imports {imported}"
        if room_of(imported) == room_of(module):
            assert imported not in EDGES, f"core {module} imports the edge {imported}"


def modules_after(statement: str) -> set[str]:
    """What a bare interpreter has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_privileged_process_loads_no_code_that_reads_from_strangers() -> None:
    """NUP's decoders, the management protocol's, and what nobody needs at a start."""
    loaded = modules_after("import routed.parent")
    assert "routed.parent" in loaded
    rooms = {"routed.neighbor.wire", "routed.neighbor.tlvs", "routed.control", "ipc.control"}
    assert not loaded & (rooms | {"pyroute2"})
