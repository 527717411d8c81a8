"""The quick path prints exactly what the full one prints, or leaves the command to the full one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipc import control, framing, quick
from ipc.control import ControlType, ResultCode
from routectl import cli
from routectl import quick as routectl_quick
from routectl.command_line import SOCKET_VARIABLE
from routectl.generate import GENERATED, ROOT
from routed.control.policy import AccessList
from tests.fakes.fake_daemon import FakeDaemon, serving

QUICK_LINES = (
    "show status",
    "show neighbors",
    "show neighbors interface eth0",
    "show neighbors eth9 interface eth0",
    "show neighbors --json",
    "show interfaces eth0 -j",
    "show routes",
    "show routes 10.0.0.0/8 longer selected --no-color",
    "show routes source static",
    "show routes -6",
    "show fib -4 -j",
    "show counters",
    "show memory",
    "sh nei",
    "sho sta --json",
)
FULL_LINES = (
    "s n",
    "sh",
    "show",
    "show rout",
    "show nonsense",
    "show neighbors ?",
    "show neighbors int eth0",
    "show neighbors interface",
    "show neighbors a b",
    "show routes 10.0.0.1/8",
    "show routes source magic",
    "show routes longer longer",
    "show status --pretty",
    "show status --nonsense",
    "show status -4 -6",
    "show neighbors 192.0.2.77",
    "show config nosuch",
    "show config all all",
    "show config stat",
    "show config STATIC -j",
    "show log event nosuch",
    f"show status -t {'1' * 5_000}",
    "reload",
    "route add 10.0.0.0/8 type blackhole",
    "help show",
)


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("quick") / "routed.sock"
    with (
        closing(FakeDaemon()) as daemon,
        serving(path, daemon, AccessList(admin_uids=frozenset({os.getuid()}))),
    ):
        yield path


@pytest.mark.parametrize("line", [*QUICK_LINES, *FULL_LINES])
def test_both_paths_print_the_same(
    socket_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-s", str(socket_path), *line.split()]
    status = routectl_quick.main(arguments)
    ours = capsys.readouterr()
    assert status == cli.main(arguments)
    assert ours == capsys.readouterr()


@pytest.mark.parametrize("line", QUICK_LINES)
def test_a_plain_show_never_reaches_the_full_path(
    socket_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_here(_arguments: list[str]) -> int:
        raise AssertionError("the full way was taken")

    monkeypatch.setattr(cli, "main", not_here)
    # An address that no neighbor has is answered "not found", which the full path reports.
    if "eth9" not in line:
        assert routectl_quick.main(["-s", str(socket_path), *line.split()]) == 0


def test_the_full_path_reports_that_no_daemon_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert routectl_quick.main(["-s", str(tmp_path / "nobody"), "show", "status"]) == 3
    assert "routed is not running" in capsys.readouterr().err


def test_the_numbers_are_those_of_the_protocol() -> None:
    assert (quick.HELLO, quick.ROWS, quick.RESULT, quick.LAST_ROWS) == (
        ControlType.HELLO, ControlType.ROWS, ControlType.RESULT, ControlType.LAST_ROWS,
    )  # fmt: skip
    assert ResultCode.OK.value == quick.OK
    assert control.PROTOCOL_VERSION == quick.PROTOCOL_VERSION
    assert framing.CONTROL_FRAME_MAX_BYTES == quick.CONTROL_FRAME_MAX_BYTES
    assert control.DEFAULT_SOCKET == routectl_quick.DEFAULT_SOCKET
    assert SOCKET_VARIABLE == routectl_quick.SOCKET_VARIABLE


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), (
        "run `python -m routectl.generate`"
    )
