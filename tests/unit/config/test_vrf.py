"""A VRF by name, held against answers as the kernel gives them, and against this kernel."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from routed.config.load import ConfigError, load_text
from routed.config.vrf import table_of_vrf

HERE = Path(__file__)
"""A file that exists: a kernel with VRFs."""


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(name: bytes, linkinfo: bytes) -> bytes:
    """RTM_NEWLINK."""
    body = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + attribute(3, name + b"\0") + linkinfo
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 1, 4711) + body


def linkinfo(kind: bytes, data: bytes = b"") -> bytes:
    inner = attribute(1, kind + b"\0") + (attribute(2 | 0x8000, data) if data else b"")
    return attribute(18 | 0x8000, inner)


def test_the_table_is_what_the_device_says() -> None:
    asked: list[bytes] = []

    def ask(request: bytes) -> bytes:
        asked.append(request)
        return link(b"red", linkinfo(b"vrf", attribute(1, struct.pack("=I", 1001))))

    assert table_of_vrf("red", ask, HERE) == 1001
    (request,) = asked
    length, kind = struct.unpack_from("=IH", request)
    assert (length, kind) == (len(request), 18)
    assert b"red\0" in request


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -errno.ENODEV), "there is no VRF 'red'"),
        (struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -errno.EPERM), "Operation not permitted"),
        (link(b"red", linkinfo(b"veth")), "the link 'red' is not a VRF"),
        (link(b"lo", b""), "the link 'red' is not a VRF"),
    ],
)
def test_what_is_no_vrf_is_refused_with_the_reason(answer: bytes, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        table_of_vrf("red", lambda _request: answer, HERE)


def test_a_kernel_without_vrfs_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this kernel has no VRFs; use the number of a table"):
        table_of_vrf("red", lambda _request: b"", tmp_path / "none")


def test_the_error_has_its_place_in_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("router_id: 10.255.0.1\nuser: root\nfib: {table: 'vrf:no-such-vrf'}\n", "f.yaml")
    (problem,) = caught.value.problems
    assert str(problem).startswith("f.yaml:3:14: fib.table: ")
    assert "VRF" in str(problem)


def test_a_socket_that_fails_is_an_error_of_the_line() -> None:
    def fail(_request: bytes) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(ValueError, match="the kernel does not answer about 'red': Too many open"):
        table_of_vrf("red", fail, HERE)
