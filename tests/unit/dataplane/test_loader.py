"""Loading: all or nothing, and each refusal has its name."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from routed.dataplane.bytecode import Bytecode, Reference, relocate
from routed.dataplane.layout import Sizes, config_bytes, sizes_for
from routed.dataplane.loader import LoadError, load_programs, possible_processors
from routed.dataplane.programs import LICENSE, PROGRAMS
from routed.model.dataplane import DataplaneReason
from tests.fakes.fake_bpf import FakeBpf

SIZES = sizes_for(2, 1000)


def test_everything_is_created_and_closed_again() -> None:
    kernel = FakeBpf()
    loaded = load_programs(kernel, SIZES, PROGRAMS, LICENSE, has_statistics=True)
    assert set(loaded.arrays) == {*SIZES.array_bytes, "config"}
    assert set(loaded.programs) == {"received", "sent"}
    constants = os.pread(loaded.arrays["config"], 100, 0)
    seed = int.from_bytes(constants[-8:], sys.byteorder)
    assert constants == config_bytes(SIZES, seed)
    assert loaded.statistics is not None
    loaded.close()
    assert kernel.leaked == set()


@pytest.mark.parametrize(
    ("call", "number", "reason"),
    [
        ("create_array:places", errno.EPERM, DataplaneReason.NO_CAPABILITY),
        ("create_array:links", errno.ENOMEM, DataplaneReason.NO_MEMORY),
        ("create_array:words", errno.E2BIG, DataplaneReason.NO_MEMORY),
        ("create_array:config", errno.EINVAL, DataplaneReason.KERNEL_TOO_OLD),
        ("load_program:received", errno.EPERM, DataplaneReason.NO_CAPABILITY),
        ("load_program:sent", errno.ENOSYS, DataplaneReason.KERNEL_TOO_OLD),
        ("program_info", errno.EBADF, DataplaneReason.REFUSED),
        ("enable_statistics", errno.EPERM, DataplaneReason.NO_CAPABILITY),
    ],
)
def test_a_refusal_has_a_name_and_leaves_nothing_open(
    call: str, number: int, reason: DataplaneReason
) -> None:
    kernel = FakeBpf()
    kernel.fail(call, number)
    with pytest.raises(LoadError) as caught:
        load_programs(kernel, SIZES, PROGRAMS, LICENSE, has_statistics=True)
    assert caught.value.reason is reason
    assert caught.value.detail == os.strerror(number)
    assert kernel.failures == {}
    assert kernel.leaked == set()


def test_the_verifiers_words_are_kept() -> None:
    kernel = FakeBpf()
    kernel.refuse("sent", "R1 unbounded memory access")
    with pytest.raises(LoadError, match="verifier-refused: R1 unbounded memory access"):
        load_programs(kernel, SIZES, PROGRAMS, LICENSE, has_statistics=False)
    assert kernel.leaked == set()


def test_descriptors_and_offsets_go_into_the_bytecode() -> None:
    load = bytes([0x18, 0x01, 0, 0]) + bytes(12)
    program = Bytecode("tcx/ingress", bytes(8) + load, (Reference(8, "counts", 24),))
    code = relocate(program, {"counts": 7})
    assert code[:8] == bytes(8)
    assert code[8:] == bytes([0x18, 0x21, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0])


@pytest.mark.parametrize(
    ("text", "count"), [("0\n", 1), ("0-3\n", 4), ("0-3,8-11\n", 12), ("0,2\n", 3)]
)
def test_processors_are_counted_by_their_highest_number(
    tmp_path: Path, text: str, count: int
) -> None:
    file = tmp_path / "possible"
    file.write_text(text)
    assert possible_processors(str(file)) == count


def test_without_sysfs_the_configured_processors_count(tmp_path: Path) -> None:
    assert possible_processors(str(tmp_path / "none")) == os.sysconf("SC_NPROCESSORS_CONF")


@pytest.mark.parametrize(
    ("processors", "routes", "sizes"),
    [
        (1, 0, Sizes(1, 1, 0)),
        (3, 0, Sizes(4, 1, 0)),
        (64, 1, Sizes(64, 1 << 20, 2)),
        (2, 131_072, Sizes(2, 1 << 21, 131_073)),
    ],
)
def test_sizes_are_powers_of_two_where_they_are_masked(
    processors: int, routes: int, sizes: Sizes
) -> None:
    assert sizes_for(processors, routes) == sizes
