"""Paths that differ and lead to one file are refused, as equal paths are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from routed.config.files import check_files
from routed.config.load import ConfigError, load_text

TEXT = """router_id: 10.255.0.1
user: root
pid_file: {directory}/routed.pid
management: {{socket: {directory}/routed.sock}}
log: {{file: {directory}/log}}
keys: {{core: [{{id: 1, secret_file: core.key}}, {{id: 2, secret_file: ./core.key}}]}}
"""


def check(directory: Path, text: str = TEXT) -> str:
    """What is wrong with it, besides the file's name and place."""
    path = directory / "routes.yaml"
    path.write_text(text.format(directory=directory))
    try:
        check_files(load_text(path.read_text(), str(path)), str(path))
    except ConfigError as error:
        return str(error).removeprefix(f"{path}:1:1: ").replace(f"{directory}/", "")
    return ""


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "symbolic": lambda link, target: link.symlink_to(target.name),
    "hard": lambda link, target: os.link(target, link),
}


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("routed.pid", "pid_file"),
        ("routed.pid.running.yaml", "a state file"),
        ("routed.sock.lock", "management.socket"),
        ("routes.yaml", "this configuration"),
        ("core.key", "a key file"),
    ],
)
def test_a_log_that_leads_to_another_file_is_refused(
    tmp_path: Path, make: Callable[[Path, Path], None], name: str, option: str
) -> None:
    """A22: the log was appended to the pid file."""
    (tmp_path / name).touch()
    make(tmp_path / "log", tmp_path / name)
    assert check(tmp_path) == f"log.file: log is the same file as {name}, which is {option}"


def test_a_link_to_what_is_not_there_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("a")
    (tmp_path / "a").symlink_to("routed.pid")
    assert check(tmp_path) == "log.file: log is the same file as routed.pid, which is pid_file"
    (tmp_path / "elsewhere").symlink_to(".")
    text = TEXT.replace("/log}", "/elsewhere/routed.pid}")
    said = "log.file: elsewhere/routed.pid is the same file as routed.pid, which is pid_file"
    assert check(tmp_path, text) == said


def test_files_of_their_own_and_what_is_no_file_are_right(tmp_path: Path) -> None:
    assert check(tmp_path) == ""
    for name in ("routed.pid", "core.key", "log", "routed.pid.running.yaml"):
        (tmp_path / name).touch()
    assert check(tmp_path) == ""
    assert check(tmp_path, TEXT.replace("{directory}/log", "/dev/null")) == ""
    assert check(tmp_path, TEXT.replace("{directory}/log", "/nowhere/log")) == ""


def test_a_state_file_may_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "routed.pid.running.yaml"
    path.write_text(TEXT.format(directory=tmp_path))
    check_files(load_text(path.read_text(), str(path)), str(path))
