"""Who may write a configuration: root, ourselves, its owner; nobody else."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

import pytest

from routed.config.load import ConfigError, read_text
from routed.config.permissions import is_of_another, problem_with

TEAM, PRIVATE, UNKNOWN = 71_000, 71_001, 71_002


def status_of(mode: int, uid: int = 0, gid: int = 0, kind: int = stat.S_IFREG) -> os.stat_result:
    return os.stat_result((kind | mode, 1, 1, 1, uid, gid, 1, 0, 0, 0))


@pytest.fixture(autouse=True)
def groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bob's own group, and one that Bob and Alice are in."""
    members = {TEAM: ["bob", "alice"], PRIVATE: ["bob"]}

    def getgrgid(gid: int) -> grp.struct_group:
        return grp.struct_group(("g", "x", gid, members[gid]))

    def getpwuid(uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd(({1000: "bob"}[uid], "x", uid, uid, "", "/", "/bin/sh"))

    monkeypatch.setattr(grp, "getgrgid", getgrgid)
    monkeypatch.setattr(pwd, "getpwuid", getpwuid)


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "problem"),
    [
        (0o644, 0, 0, ""),
        (0o600, 0, 0, ""),
        (0o664, 0, 0, ""),
        (0o644, 1000, TEAM, ""),
        (0o664, 1000, PRIVATE, ""),
        (0o664, 1000, UNKNOWN, ""),
        (0o664, 1000, TEAM, f"its group, gid {TEAM}, may write it (mode 0664): chmod g-w"),
        (0o664, 0, TEAM, f"its group, gid {TEAM}, may write it (mode 0664): chmod g-w"),
        (0o666, 0, 0, "all users may write it (mode 0666): chmod o-w"),
        (0o602, 1000, PRIVATE, "all users may write it (mode 0602): chmod o-w"),
    ],
)
def test_only_root_the_daemon_and_the_owner_may_write(
    mode: int, uid: int, gid: int, problem: str
) -> None:
    """S21."""
    assert problem_with(status_of(mode, uid, gid)) == problem


def test_a_pipe_belongs_to_the_user_that_opened_it() -> None:
    assert problem_with(status_of(0o666, kind=stat.S_IFIFO)) == ""


def test_another_owner_is_known() -> None:
    assert not is_of_another(status_of(0o644, 0))
    assert not is_of_another(status_of(0o644, os.geteuid()))
    assert is_of_another(status_of(0o644, os.geteuid() + 1))


def test_a_world_writable_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("router_id: 10.255.0.1\n")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match=r"routes\.yaml:1:1: \(file\): all users may write it"):
        read_text(path)
    path.chmod(0o644)
    assert read_text(path) == "router_id: 10.255.0.1\n"
