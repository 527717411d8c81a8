"""The commands of the command tree that concern the configuration file."""

from __future__ import annotations

from ipc.control import Configure, Reload, Request, Role
from routectl.grammar import (
    Check,
    Command,
    Fields,
    Flag,
    Invocation,
    Keyword,
    Leaf,
    Positional,
    ValueKind,
)

__all__ = ["CONFIGURATION"]


def _reload(invocation: Invocation) -> Request:
    confirm = invocation.value("confirm")
    if "plan" in invocation.values:
        return Configure("plan", None if confirm is None else float(confirm))
    return Reload() if confirm is None else Configure("reload", float(confirm))


def _confirm(invocation: Invocation) -> Request:
    return Configure("confirm", token=str(invocation.value("token") or ""))


CONFIGURATION = (
    Leaf(
        "reload",
        "Read the configuration file again and apply the difference",
        "reload",
        Role.ADMIN,
        Command(_reload),
        (
            Flag("plan", "Only show what would change in the kernel, adjacencies and sockets"),
            Keyword(
                "confirm",
                ValueKind.DURATION,
                "Roll back unless `confirm` is given within this time",
            ),
        ),
    ),
    Leaf(
        "confirm",
        "Keep the configuration that was loaded with `reload confirm`",
        "confirm",
        Role.ADMIN,
        Command(_confirm),
        (
            Positional(
                "token",
                ValueKind.NAME,
                "Only this configuration, by the name that `reload confirm` gave",
            ),
        ),
    ),
    Leaf(
        "rollback",
        "Return to the previous configuration",
        "rollback",
        Role.ADMIN,
        Command(Fields(Configure, ("=rollback",))),
    ),
    Leaf(
        "diff",
        "Differences between the configuration file and the running configuration",
        "diff",
        Role.ADMIN,
        Command(Fields(Configure, ("=diff",))),
    ),
    Leaf(
        "check",
        "Check the daemon's configuration file, or another one, and list all errors",
        "check",
        Role.ADMIN,
        Check(Fields(Configure, ("=check",))),
        (
            Positional(
                "file",
                ValueKind.FILE,
                "Another file, read and checked by routectl itself, without a daemon or a role",
            ),
            Keyword(
                "base",
                ValueKind.FILE,
                "With a file: the directory where relative paths of key files start",
            ),
        ),
    ),
)
