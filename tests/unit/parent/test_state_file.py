"""What a start goes by from an earlier life is what that life wrote, whole, and nobody else's."""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.config.load import load_text
from routed.parent import state_file
from routed.parent.config_history import LastGood
from routed.parent.state_file import StateFileError, read_state, write_state

TEXT = """router_id: 10.255.0.1
user: root
static:
  - {prefix: 10.9.0.0/30, type: blackhole}
  - {prefix: 10.9.0.4/30, type: blackhole}
  - {prefix: 10.9.0.8/30, type: blackhole}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "previous.yaml"
    write_state(path, TEXT)
    return path


def test_what_is_written_comes_back_and_is_yaml_still(path: Path) -> None:
    assert read_state(path) == TEXT
    assert load_text(path.read_text()) == load_text(TEXT)
    assert path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=30)
@given(text=st.text())
def test_every_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("state") / "running.yaml"
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    write_state(path, text)
    assert read_state(path) == text


def test_reading_takes_no_more_memory_than_the_file_is_long(path: Path) -> None:
    """A start under a memory limit must not fail for a small file."""
    tracemalloc.start()
    try:
        assert read_state(path) == TEXT
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_file_that_does_not_fit_into_memory_costs_that_file_only(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(state_file.STATE_MAX_BYTES)
    # Address space for this process as it is, and not for the file: the kernel's own refusal.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    complaints: list[str] = []
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), before[1]))
    try:
        last_good = LastGood(path.parent, complaints.append)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert last_good.previous is None
    assert complaints == [f"{path} is not used: it does not fit into memory"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_state(tmp_path / "running.yaml") is None


def test_no_part_of_a_text_is_taken_for_the_whole(path: Path) -> None:
    """S20: a file cut at the end of a line is a right configuration with fewer routes."""
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StateFileError):
            read_state(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda whole: whole.replace(b"10.9.0.4", b"10.8.0.4"), "the checksum is another"),
        (lambda whole: whole + b"  - {prefix: 0.0.0.0/0, type: blackhole}\n", "bytes of"),
        (lambda whole: whole.partition(b"\n")[2], "or of an earlier release"),
        (lambda whole: b"", "first line is not that of routed"),
        (lambda whole: b"\xff\xfe\x00" * 40, "first line is not that of routed"),
        (lambda whole: whole.replace(b" 1 previous", b" 2 previous"), "first line is not that"),
    ],
)
def test_what_was_changed_is_refused(
    path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StateFileError, match=reason):
        read_state(path)


def test_one_file_cannot_stand_for_another(path: Path) -> None:
    path.rename(path.with_name("running.yaml"))
    with pytest.raises(StateFileError, match=r"it was written as previous\.yaml"):
        read_state(path.with_name("running.yaml"))


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(StateFileError, match=f"others may write it .mode 0{mode:o}"):
            read_state(path)


@pytest.mark.root
def test_a_strangers_file_is_refused(path: Path) -> None:
    """S20b: a start went by a configuration that uid 65534 had planted."""
    os.chown(path, 65534, 65534)
    with pytest.raises(StateFileError, match="belongs to uid 65534"):
        read_state(path)


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "running.yaml")
    with pytest.raises(StateFileError, match="not a plain file"):
        read_state(tmp_path / "running.yaml")
    (tmp_path / "target").write_text("x")
    (tmp_path / "refused.yaml").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        read_state(tmp_path / "refused.yaml")


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_state(path, "new")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert read_state(path) == TEXT


def test_nothing_is_written_into_a_file_that_is_there(path: Path) -> None:
    planted = path.with_suffix(".new")
    planted.write_text("planted")
    with planted.open() as held:
        write_state(path, "new")
        assert held.read() == "planted"
    assert read_state(path) == "new"
    assert not planted.exists()


def test_no_start_and_no_rollback_goes_by_what_cannot_be_believed(tmp_path: Path) -> None:
    complaints: list[str] = []
    last_good = LastGood(tmp_path, complaints.append)
    for text in ("a", "b"):
        last_good.put_in_force(text)
        last_good.keep()
    last_good.refuse("c")
    last_good.keep()
    last_good.report_problems()
    for name in ("running.yaml", "previous.yaml", "refused.yaml"):
        with (tmp_path / name).open("a") as file:
            file.write("#")
    assert complaints == []
    after = LastGood(tmp_path, complaints.append)
    assert (after.running, after.previous, after.refused) == (None, None, None)
    assert complaints == [
        f"{tmp_path}/{name} is not used: it has 2 bytes of 1"
        for name in ("running.yaml", "previous.yaml", "refused.yaml")
    ]
