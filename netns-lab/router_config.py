"""The routes.yaml of a router, as the lab generates it."""

from __future__ import annotations

from typing import Any

import yaml

from protocol import ENGINE_USER, RUN_DIRECTORY
from topology import HELLO, LOOPBACKS_IPV4, LOOPBACKS_IPV6, MULTIPLIER, Node, merge

__all__ = ["config_of", "config_path", "log_path", "pid_path", "socket_path"]


def config_path(router: str) -> str:
    """Return the path of a router's configuration, inside the lab; so for the other functions."""
    return f"{RUN_DIRECTORY}/{router}/routes.yaml"


def log_path(router: str) -> str:
    """Return the path of the daemon's log."""
    return f"{RUN_DIRECTORY}/{router}/routed.log"


def pid_path(router: str) -> str:
    """Return the path of the daemon's pid file."""
    return f"{RUN_DIRECTORY}/{router}/routed.pid"


def socket_path(router: str) -> str:
    """Return the path of the daemon's management socket."""
    return f"{RUN_DIRECTORY}/{router}/routed.sock"


def config_of(node: Node, *, is_rootless: bool) -> str:
    """Return the YAML text: NUP on every link, the loopback addresses announced.

    Args:
        node: its `config` is merged over the generated configuration: mappings key by key, other
            values as a whole.
        is_rootless: whether the lab has a user namespace with a single uid, root: the engine cannot
            run as another user there.
    """
    generated: dict[str, Any] = {
        "router_id": node.router_id,
        "user": "root" if is_rootless else ENGINE_USER,
        "pid_file": pid_path(node.name),
        "log": {"level": "info", "file": log_path(node.name)},
        "interfaces": {"eth*": {"hello": HELLO, "multiplier": MULTIPLIER}},
        "redistribute": [
            {
                "source": "connected",
                "match": [f"{LOOPBACKS_IPV4} ge 32", f"{LOOPBACKS_IPV6} ge 128"],
            }
        ],
        "management": {"socket": socket_path(node.name)},
    }
    return yaml.safe_dump(merge(generated, node.config), sort_keys=False)
