"""What a start goes by from an earlier life is what that life wrote, whole, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.config.load import load_text
from routed.config.state_names import PREVIOUS, REFUSED, RUNNING
from routed.parent import state_file
from routed.parent.config_history import ConfigHistory
from routed.parent.state_file import StateFileError, read_state, remove_state, write_state

TEXT = """router_id: 10.255.0.1
user: root
static:
  - {prefix: 10.9.0.0/30, type: blackhole}
  - {prefix: 10.9.0.4/30, type: blackhole}
  - {prefix: 10.9.0.8/30, type: blackhole}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "routed.pid.previous.yaml"
    write_state(path, TEXT)
    return path


def test_a_written_file_reads_back_and_is_still_yaml(path: Path) -> None:
    assert read_state(path) == TEXT
    assert load_text(path.read_text()) == load_text(TEXT)
    assert path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=30)
@given(text=st.text())
def test_every_text_reads_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
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
        last_good = ConfigHistory(str(path.parent / "routed.pid"), complaints.append)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert last_good.previous is None
    assert complaints == [f"{path} is not used: it does not fit into memory"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_state(tmp_path / "running.yaml") is None


def test_a_part_of_a_text_is_not_accepted_as_the_whole(path: Path) -> None:
    """S20: a file cut at the end of a line is a right configuration with fewer routes."""
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StateFileError):
            read_state(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda whole: whole.replace(b"10.9.0.4", b"10.8.0.4"), "the checksum differs"),
        (lambda whole: whole + b"  - {prefix: 0.0.0.0/0, type: blackhole}\n", "bytes of"),
        (lambda whole: whole.partition(b"\n")[2], "of this release of routed"),
        (lambda whole: b"", "first line is not that of this release"),
        (lambda whole: b"\xff\xfe\x00" * 40, "first line is not that of this release"),
        (lambda whole: whole.replace(b" 1 routed.pid", b" 2 routed.pid"), "first line is not that"),
    ],
)
def test_a_changed_file_is_refused(
    path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StateFileError, match=reason):
        read_state(path)


def test_one_file_cannot_stand_for_another(path: Path) -> None:
    path.rename(path.with_name("running.yaml"))
    with pytest.raises(StateFileError, match=r"it was written as routed\.pid\.previous\.yaml"):
        read_state(path.with_name("running.yaml"))


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(StateFileError, match=f"others may write it .mode 0{mode:o}"):
            read_state(path)


@pytest.mark.root
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    """S20b: a start went by a configuration that uid 65534 had planted."""
    os.chown(path, 65534, 65534)
    with pytest.raises(StateFileError, match="belongs to uid 65534"):
        read_state(path)


def test_what_is_no_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "running.yaml")
    with pytest.raises(StateFileError, match="not a plain file"):
        read_state(tmp_path / "running.yaml")
    (tmp_path / "previous.yaml").mkdir()
    with pytest.raises(StateFileError, match="not a plain file"):
        read_state(tmp_path / "previous.yaml")
    (tmp_path / "target").write_text("x")
    (tmp_path / "refused.yaml").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        read_state(tmp_path / "refused.yaml")


def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_state(path, "new")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert read_state(path) == TEXT


def test_each_change_of_a_name_is_synced_after_the_content(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may otherwise bring back what was there, or the file under its first name."""
    steps: list[str] = []
    sync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def synced(descriptor: int) -> None:
        steps.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        sync(descriptor)

    def replaced(this: Path, other: Path) -> Path:
        steps.append(f"rename to {other.name}")
        return replace(this, other)

    def unlinked(this: Path, missing_ok: bool = False) -> None:
        if this.exists():
            steps.append(f"remove {this.name}")
        unlink(this, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(Path, "unlink", unlinked)
    write_state(path, "new")
    directory = f"sync {path.parent.name}"
    assert steps == [f"sync {path.stem}.new", f"rename to {path.name}", directory]
    steps.clear()
    remove_state(path)
    assert steps == [f"remove {path.name}", directory]
    remove_state(path)
    assert len(steps) == 2, "nothing has changed"


def test_nothing_is_written_into_a_file_that_is_there(path: Path) -> None:
    planted = path.with_suffix(".new")
    planted.write_text("planted")
    with planted.open() as held:
        write_state(path, "new")
        assert held.read() == "planted"
    assert read_state(path) == "new"
    assert not planted.exists()


def test_no_start_and_no_rollback_uses_a_file_that_cannot_be_verified(tmp_path: Path) -> None:
    complaints: list[str] = []
    last_good = ConfigHistory(str(tmp_path / "routed.pid"), complaints.append)
    for text in ("a", "b"):
        last_good.put_in_force(text)
        last_good.keep()
    last_good.refuse("c")
    last_good.keep()
    last_good.report_problems()
    for name in ("running.yaml", "previous.yaml", "refused.yaml"):
        with (tmp_path / f"routed.pid.{name}").open("a") as file:
            file.write("#")
    assert complaints == []
    after = ConfigHistory(str(tmp_path / "routed.pid"), complaints.append)
    assert (after.running, after.previous, after.refused) == (None, None, None)
    assert complaints == [
        f"{tmp_path}/routed.pid.{name} is not used: it has 2 bytes of 1"
        for name in ("running.yaml", "previous.yaml", "refused.yaml")
    ]


def test_a_directory_or_link_in_the_place_of_a_state_file_is_named(tmp_path: Path) -> None:
    """It was `[Errno 21] Is a directory: 3`, with the number of a descriptor."""
    running, previous = (tmp_path / f"routed.pid.{name}.yaml" for name in ("running", "previous"))
    running.mkdir()
    previous.symlink_to("elsewhere")
    complaints: list[str] = []
    ConfigHistory(str(tmp_path / "routed.pid"), complaints.append)
    assert sorted(complaints) == [
        f"{previous}: Too many levels of symbolic links",
        f"{running} is not used: it is not a plain file",
    ]


def config_of(pid_file: Path, number: int) -> str:
    return (
        f"router_id: 10.255.0.1\nuser: root\npid_file: {pid_file}\n"
        f"static: [{{prefix: 10.9.{number}.0/24, type: blackhole}}]\n"
    )


def test_daemons_whose_pid_files_share_a_directory_have_files_of_their_own(tmp_path: Path) -> None:
    """A21: one started by the other's configuration, and rolled back to it."""
    pid_files = [tmp_path / name for name in ("a.pid", "b.pid", "b", "b.pid.lock")]
    daemons = [ConfigHistory(str(pid_file), pytest.fail) for pid_file in pid_files]
    for number in range(3):
        for daemon, pid_file in zip(daemons, pid_files, strict=True):
            daemon.put_in_force(config_of(pid_file, number))
            daemon.refuse(config_of(pid_file, 9))
            daemon.keep()
    for pid_file in pid_files:
        again = ConfigHistory(str(pid_file), pytest.fail)
        assert again.running == config_of(pid_file, 2)
        assert again.previous == config_of(pid_file, 1)
        assert again.instead_of(config_of(pid_file, 9)) == again.running


def leave_unnamed(directory: Path, running: str, previous: str, refused: str) -> None:
    for kind, text in zip((RUNNING, PREVIOUS, REFUSED), (running, previous, refused), strict=True):
        write_state(directory / kind, text)


class KilledError(BaseException):
    """The daemon ends here."""


@pytest.mark.parametrize("steps", range(12))
def test_files_of_one_daemon_in_the_directory_get_its_name_whenever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    pid_file = tmp_path / "a.pid"
    running, previous, refused = (config_of(pid_file, number) for number in range(3))
    leave_unnamed(tmp_path, running, previous, refused)
    other = ConfigHistory(str(tmp_path / "b.pid"), pytest.fail)
    assert (other.running, other.previous, other.refused) == (None, None, None), "not its own"
    first = ConfigHistory(str(pid_file), pytest.fail)
    assert first.instead_of(refused) == running
    left = iter(range(steps))

    def kill_in(patch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(Path, name)

        def killed_or_done(self: Path, *arguments: object, **options: object) -> object:
            if next(left, None) is None:
                raise KilledError
            return real(self, *arguments, **options)

        patch.setattr(Path, name, killed_or_done)

    with monkeypatch.context() as context:
        for name in ("unlink", "replace"):
            kill_in(context, name)
        first.put_in_force(running)
        with contextlib.suppress(KilledError):
            first.keep()
    second = ConfigHistory(str(pid_file), pytest.fail)
    assert second.instead_of(refused) == running
    assert second.previous == previous
    second.put_in_force(refused)
    second.keep()
    third = ConfigHistory(str(pid_file), pytest.fail)
    assert (third.running, third.previous, third.refused) == (refused, running, None)
    assert third.instead_of(refused) is None


def test_files_of_an_earlier_release_are_removed_when_they_are_written_again(
    tmp_path: Path,
) -> None:
    pid_file = tmp_path / "a.pid"
    running, refused = config_of(pid_file, 0), config_of(pid_file, 2)
    leave_unnamed(tmp_path, running, config_of(tmp_path / "b.pid", 1), refused)
    (tmp_path / "a.pid.running.new").mkdir()  # it cannot be written
    complaints: list[str] = []
    daemon = ConfigHistory(str(pid_file), complaints.append)
    assert daemon.previous is None, "another daemon's"
    daemon.put_in_force(running)
    daemon.keep()
    assert daemon.next_start(refused) == running
    assert ConfigHistory(str(pid_file), pytest.fail).instead_of(refused) == running
    (tmp_path / "a.pid.running.new").rmdir()
    daemon.keep()
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.pid.running.yaml",
        "a.pid.refused.yaml",
    }
