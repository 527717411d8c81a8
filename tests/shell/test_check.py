"""`check FILE` validates a configuration with the daemon's code, without a running daemon."""

from __future__ import annotations

import io
from pathlib import Path

from ipc.blocking import ExitStatus
from routectl.command_line import command_line_for


def run(line: str) -> tuple[ExitStatus | None, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with command_line_for(["--socket", "/nobody/there"], out, errors) as command_line:
        status = command_line.run_line(line)
    return status, out.getvalue(), errors.getvalue()


def test_a_valid_file_needs_no_daemon(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("router_id: 10.255.0.1\nuser: root\n")
    assert run(f"check {path}") == (ExitStatus.DONE, f"{path} is valid\n", "")


def test_every_mistake_is_reported_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("router_id: 10.255.0.1\nuser: root\nfib: {resink: 10s}\nstatic: 7\n")
    status, out, errors = run(f"check {path}")
    assert (status, out) == (ExitStatus.REFUSED, "")
    assert errors == (
        f"routectl: {path}:3:7: fib.resink: unknown key; did you mean 'resync'?\n"
        f"routectl: {path}:4:9: static: expected a list, even for one item: [7]\n"
    )


def test_key_files_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(
        "router_id: 10.255.0.1\nuser: root\nkeys:\n  core: [{id: 1, secret_file: no.key}]\n"
    )
    status, _, errors = run(f"check {path}")
    assert status is ExitStatus.REFUSED
    assert "no.key" in errors


def test_a_copy_elsewhere_is_checked_as_if_it_were_in_the_place_of_the_original(
    tmp_path: Path,
) -> None:
    place, elsewhere = tmp_path / "etc", tmp_path / "tmp"
    place.mkdir()
    elsewhere.mkdir()
    (place / "core.key").write_bytes(b"0123456789abcdef")
    (place / "core.key").chmod(0o600)
    copy = elsewhere / "routes.yaml"
    copy.write_text(
        "router_id: 10.255.0.1\nuser: root\nkeys:\n  core: [{id: 1, secret_file: core.key}]\n"
    )
    status, _, errors = run(f"check {copy}")
    assert (status, "core.key" in errors) == (ExitStatus.REFUSED, True)
    for line in (f"check {copy} base {place}", f"check {copy} --base {place}"):
        assert run(line) == (ExitStatus.DONE, f"{copy} is valid\n", "")


def test_two_options_that_lead_to_one_file_are_an_error_as_for_the_daemon(tmp_path: Path) -> None:
    file, log = tmp_path / "routes.yaml", tmp_path / "log"
    file.write_text(
        f"router_id: 10.255.0.1\nuser: root\nlog: {{file: {log}}}\npid_file: {tmp_path}/pid\n"
    )
    log.symlink_to(tmp_path / "pid")
    status, _, errors = run(f"check {file}")
    assert status is ExitStatus.REFUSED
    assert "log.file" in errors
    assert "pid_file" in errors


def test_a_base_needs_a_file() -> None:
    status, _, errors = run("check base /etc/routed")
    assert status is ExitStatus.USAGE
    assert "`base` belongs to a file: check FILE base DIR" in errors


def test_without_a_file_the_daemon_checks_its_own() -> None:
    status, _, errors = run("check")
    assert status is ExitStatus.UNREACHABLE
    assert "routed is not running" in errors
