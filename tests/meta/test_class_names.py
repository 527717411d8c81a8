"""A public class has one name, and the name has one class, except where the list says why not."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.meta.test_layering import MODULES

SHARED = {
    # name: (the modules, the reason)
    "Dataplane": (
        {"routed.engine.dataplane", "routed.parent.dataplane"},
        "the two sides of one thing, each in its process",
    ),
    "DecodeError": (
        {"routed.bfd.wire", "routed.nup.wire.message"},
        "each protocol has one, and none decodes for another",
    ),
    "NextHop": (
        {"ipc.requests", "routed.model.route"},
        "the client library has its own words for a route and imports nothing of the daemon",
    ),
    "Route": (
        {"ipc.requests", "routed.model.route"},
        "the client library has its own words for a route and imports nothing of the daemon",
    ),
    "SendQueue": (
        {"routed.engine.send_queue", "routed.parent.engine_process.send_queue"},
        "the two ends of one channel, each in its process",
    ),
    "Session": (
        {"routed.bfd.session", "routed.control.session"},
        "RFC 5880 has the word for BFD; of the control socket it is the connection of a client",
    ),
}


def test_no_two_classes_share_a_name() -> None:
    modules: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].add(module)
    shared = {name: found for name, found in modules.items() if len(found) > 1}
    assert shared == {name: found for name, (found, _) in SHARED.items()}
