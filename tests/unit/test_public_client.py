"""`routed.client`: every name of the library, and nothing heavy before it is used."""

from __future__ import annotations

import subprocess
import sys
import typing

import pytest

import ipc.client
import ipc.rows
import ipc.snapshot
import ipc.trio_client
import routed.client


def test_every_public_name_is_there() -> None:
    for name in routed.client.__all__:
        assert getattr(routed.client, name) is not None
    assert routed.client.Client is ipc.client.Client
    assert routed.client.TrioClient is ipc.trio_client.TrioClient
    assert routed.client.FibReader is ipc.snapshot.FibReader


def test_rows_have_types() -> None:
    hints = typing.get_type_hints(routed.client.NeighborRow)
    assert hints["rtt_ms"] == float | None
    assert (
        typing.get_type_hints(routed.client.Client.neighbors, vars(ipc.rows))["return"]
        == list[routed.client.NeighborRow]
    )


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        routed.client.Klient  # noqa: B018


def test_the_import_loads_neither_trio_nor_the_daemon() -> None:
    program = (
        "import sys, routed.client\n"
        "heavy = {'trio', 'ipc.snapshot', 'routed.engine', 'routed.parent', 'yaml'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
