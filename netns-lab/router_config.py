"""The routes.yaml that the lab writes for a router."""

from __future__ import annotations

from typing import Any

import yaml

from protocol import ENGINE_USER, RUN_DIRECTORY
from topology import LOOPBACKS_IPV4, LOOPBACKS_IPV6, Node, merge

__all__ = ["config_of", "config_path", "log_path", "pid_path", "socket_path"]


def config_path(router: str) -> str:
    """Where a router's configuration is, inside the lab; so for the others."""
    return f"{RUN_DIRECTORY}/{router}/routes.yaml"


def log_path(router: str) -> str:
    """The daemon's log."""
    return f"{RUN_DIRECTORY}/{router}/routed.log"


def pid_path(router: str) -> str:
    """The daemon's pid file."""
    return f"{RUN_DIRECTORY}/{router}/routed.pid"


def socket_path(router: str) -> str:
    """The daemon's management socket."""
    return f"{RUN_DIRECTORY}/{router}/routed.sock"


def config_of(node: Node, *, is_rootless: bool) -> str:
    """The YAML text: NUP on every link, the loopback addresses announced.

    Args:
        node: whose `config` is merged over what is generated: mappings key by key, all else whole.
        is_rootless: no uid but root exists in a single-uid user namespace, so the engine cannot
            be anybody else there.
    """
    generated: dict[str, Any] = {
        "router_id": node.router_id,
        "user": "root" if is_rootless else ENGINE_USER,
        "pid_file": pid_path(node.name),
        "log": {"level": "info", "file": log_path(node.name)},
        "interfaces": {"eth*": {"hello": "300ms", "multiplier": 3}},
        "redistribute": [
            {
                "source": "connected",
                "match": [f"{LOOPBACKS_IPV4} ge 32", f"{LOOPBACKS_IPV6} ge 128"],
            }
        ],
        "management": {"socket": socket_path(node.name)},
    }
    return yaml.safe_dump(merge(generated, node.config), sort_keys=False)
