"""What the service manager hears, over a real socket of either kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from routed.parent.service_manager import ServiceManager


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "file" else f"\0notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.settimeout(10)
        yield listener


def environment_of(manager: socket.socket) -> dict[str, str]:
    name = manager.getsockname()
    return {"NOTIFY_SOCKET": f"@{name[1:].decode()}" if isinstance(name, bytes) else name}


def test_each_notification_is_one_datagram(manager: socket.socket) -> None:
    ours = ServiceManager(environment_of(manager))
    ours.ready("7 of 7 routes")
    ours.reloading()
    ours.status("two\nlines")
    ours.alive()
    ours.stopping("SIGTERM")
    ours.close()
    said = [manager.recv(1000).decode() for _ in range(5)]
    assert said[0] == "READY=1\nSTATUS=7 of 7 routes"
    reloading, _, moment = said[1].partition("\nMONOTONIC_USEC=")
    assert reloading == "RELOADING=1"
    assert moment.isdigit()
    assert said[2:] == [
        "STATUS=two lines",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=stopping: SIGTERM",
    ]


def test_a_status_is_sent_when_it_has_changed(manager: socket.socket) -> None:
    ours = ServiceManager(environment_of(manager))
    ours.ready("3 of 3 routes in the kernel")
    for text in ("3 of 3 routes in the kernel", "2 of 3", "2 of 3", "3 of 3 routes in the kernel"):
        ours.status(text)
    ours.alive()
    ours.close()
    said = [manager.recv(1000).decode() for _ in range(4)]
    assert said[1:] == ["STATUS=2 of 3", "STATUS=3 of 3 routes in the kernel", "WATCHDOG=1"]


def test_a_missing_service_manager_is_not_an_error(tmp_path: Path) -> None:
    for address in ("", "relative", str(tmp_path / "gone")):
        ours = ServiceManager({"NOTIFY_SOCKET": address})
        ours.ready("fine")
        ours.close()
        ours.alive()


@pytest.mark.parametrize(
    ("environment", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_petted_twice_as_often_as_it_must(
    environment: dict[str, str], period_s: float | None
) -> None:
    assert ServiceManager(environment).watchdog_period_s == period_s
