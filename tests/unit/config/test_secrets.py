"""Secrets from files: taken when only their owner can read them, else refused with a reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from routed.config.load import load_text
from routed.config.secrets import KeyFileError, read_secrets

SECRET = "correct horse battery staple"


def written(directory: Path, content: str = SECRET + "\n", mode: int = 0o600) -> Path:
    path = directory / "core.key"
    path.write_text(content)
    path.chmod(mode)
    return path


def secrets_of(directory: Path, algorithm: str = "hmac-sha256") -> list[tuple[str, int, bytes]]:
    text = (
        "router_id: 10.255.0.1\nuser: root\n"
        f"keys: {{core: [{{id: 3, algorithm: {algorithm}, secret_file: core.key}}]}}\n"
    )
    found = read_secrets(load_text(text), str(directory / "routes.yaml"))
    return [(secret.key_set, secret.id, secret.value) for secret in found]


def test_a_secret_is_the_content_without_the_end_of_the_line(tmp_path: Path) -> None:
    written(tmp_path)
    assert secrets_of(tmp_path) == [("core", 3, SECRET.encode())]


@pytest.mark.parametrize(
    ("content", "mode", "algorithm", "reason"),
    [
        (SECRET, 0o660, "hmac-sha256", "is open to others (mode 0660)"),
        (SECRET, 0o450, "hmac-sha256", "is open to others (mode 0450)"),
        (SECRET, 0o444, "hmac-sha256", "is open to others (mode 0444)"),
        (SECRET, 0o604, "hmac-sha256", "is open to others (mode 0604)"),
        ("too short", 0o600, "hmac-sha256", "has a secret of 9 bytes; hmac-sha256 requires 16 to"),
        ("x" * 33, 0o600, "blake2s", "has a secret of 33 bytes; blake2s requires 16 to 32"),
        ("x" * 5000, 0o600, "hmac-sha256", "requires 16 to 1024"),
    ],
)
def test_an_invalid_secret_is_refused(
    tmp_path: Path, content: str, mode: int, algorithm: str, reason: str
) -> None:
    written(tmp_path, content, mode)
    with pytest.raises(KeyFileError) as caught:
        secrets_of(tmp_path, algorithm)
    (problem,) = caught.value.problems
    assert "keys.core[0].secret_file" in problem
    assert reason in problem
    assert content not in problem


def test_the_place_is_that_of_the_files_name_in_the_configuration(tmp_path: Path) -> None:
    """Where there is one: a configuration may have come by a pipe."""
    path = tmp_path / "routes.yaml"
    text = (
        "router_id: 10.255.0.1\nuser: root\nkeys:\n  core:\n    - {id: 1, secret_file: /no/such}\n"
        "    - id: 2\n      secret_file: '/no/such.key'\n"
    )
    path.write_text(text)
    with pytest.raises(KeyFileError) as caught:
        read_secrets(load_text(text), str(path))
    assert caught.value.problems == [
        f"{path}:5:28: keys.core[0].secret_file: /no/such: No such file or directory",
        f"{path}:7:21: keys.core[1].secret_file: /no/such.key: No such file or directory",
    ]
    path.unlink()
    with pytest.raises(KeyFileError) as caught:
        read_secrets(load_text(text), str(path))
    assert caught.value.problems[0] == (
        f"{path}: keys.core[0].secret_file: /no/such: No such file or directory"
    )


OURS, SUPPLEMENTARY, STRANGERS = 501, 502, 503


@pytest.mark.parametrize(
    ("gid", "mode", "is_taken"),
    [
        (0, 0o440, True),
        (OURS, 0o440, True),
        (OURS, 0o640, True),
        (SUPPLEMENTARY, 0o440, True),
        (STRANGERS, 0o440, False),
        (STRANGERS, 0o400, True),
        (SUPPLEMENTARY, 0o460, False),
        (SUPPLEMENTARY, 0o444, False),
    ],
)
def test_a_group_of_the_daemons_own_may_read_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gid: int, mode: int, is_taken: bool
) -> None:
    """Kubernetes with fsGroup makes files of root, 0440, in a group that the process has."""
    written(tmp_path)
    fstat = os.fstat

    def of_root(descriptor: int) -> os.stat_result:
        found = fstat(descriptor)
        return os.stat_result((stat.S_IFMT(found.st_mode) | mode, *found[1:4], 0, gid, *found[6:]))

    monkeypatch.setattr(os, "fstat", of_root)
    monkeypatch.setattr(os, "getegid", lambda: OURS)
    monkeypatch.setattr(os, "getgroups", lambda: [SUPPLEMENTARY])
    if is_taken:
        assert len(secrets_of(tmp_path)) == 1
    else:
        with pytest.raises(KeyFileError, match="is open to others"):
            secrets_of(tmp_path)


def test_a_missing_file_and_one_that_is_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        secrets_of(tmp_path)
    os.mkfifo(tmp_path / "core.key", 0o600)
    with pytest.raises(KeyFileError, match="is not a plain file"):
        secrets_of(tmp_path)


def test_no_representation_shows_a_secret(tmp_path: Path) -> None:
    written(tmp_path)
    text = "router_id: 10.255.0.1\nuser: root\nkeys: {core: [{id: 3, secret_file: core.key}]}\n"
    found = read_secrets(load_text(text), str(tmp_path / "routes.yaml"))
    assert SECRET not in repr(found)
