"""Readers of the shared-memory FIB: the Python search, the C extension, and the C header."""

from __future__ import annotations

import fcntl
import ipaddress
import mmap
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc import fib_layout as layout
from ipc.fib_layout import Header
from ipc.snapshot import FibReader, FoundNextHop, FoundRoute, SnapshotError
from routed.model.prefix import Address, Family, Prefix
from tests.fakes.fib_writer import (
    SEARCHES,
    MakeSearch,
    Writer,
    add,
    drop,
    hop,
    oracles,
    table,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.snapshot.close()


@pytest.fixture(params=SEARCHES)
def search(request: pytest.FixtureRequest) -> MakeSearch:
    """Return each implementation, one after the other."""
    make: MakeSearch | None = SEARCHES[request.param]
    if make is None:
        pytest.skip("the C extension is not built (it is where a C compiler is)")
    return make


def test_a_reader_finds_the_longest_match_with_everything_about_it(
    writer: Writer, search: MakeSearch
) -> None:
    writer.apply(
        add("0.0.0.0/0", hop("192.0.2.1")),
        add("10.0.0.0/8"),
        add("10.1.0.0/16", hop("192.0.2.2", 2, 3), hop("fe80::2", 3, 1), metric=7, tag=9),
        add("2001:db8::/32", hop(None, 3)),
    )
    with writer.reader(search=search) as reader:
        found = reader.lookup("10.1.2.3")
        assert found is not None
        assert (found.prefix, found.type, found.source) == ("10.1.0.0/16", "unicast", "static")
        assert (found.distance, found.metric, found.tag) == (1, 7, 9)
        assert found.next_hops == (
            FoundNextHop("192.0.2.2", "eth0", 2, 3, False),
            FoundNextHop("fe80::2", "a-name-of-15-ch", 3, 1, False),
        )
        ten, default = reader.lookup("10.2.0.0"), reader.lookup("192.0.2.77")
        assert ten is not None
        assert default is not None
        assert (ten.prefix, ten.type, ten.next_hops) == ("10.0.0.0/8", "blackhole", ())
        assert default.prefix == "0.0.0.0/0"
        six = reader.lookup(socket.inet_pton(socket.AF_INET6, "2001:db8::1"))
        assert six is not None
        assert six.next_hops == (FoundNextHop(None, "a-name-of-15-ch", 3, 1, False),)
        assert reader.lookup("2001:db9::1") is None
        assert len(reader) == 4
        assert reader.daemon_pid == 4711


def test_changes_reach_a_reader_that_is_mapped_already(writer: Writer, search: MakeSearch) -> None:
    with writer.reader(search=search) as reader:
        assert reader.lookup("10.1.2.3") is None
        before = reader.generation
        writer.apply(add("10.0.0.0/8"), add("::/0"))
        assert reader.lookup("10.1.2.3") is not None
        assert reader.lookup("2001:db8::1") is not None
        writer.apply(drop("10.0.0.0/8"), drop("::/0"))
        assert reader.lookup("10.1.2.3") is None
        assert reader.lookup("2001:db8::1") is None
        assert reader.generation == before + 2
        assert len(reader) == 0


def test_age_and_end_can_be_told(writer: Writer, search: MakeSearch) -> None:
    writer.snapshot.heartbeat(5 * 10**9)
    other = Writer()
    with writer.reader(clock=lambda: 8 * 10**9, search=search) as reader, other.reader() as orphan:
        assert reader.age_s == 3
        assert not reader.is_closed
        other.apply(add("10.0.0.0/8"))
        other.snapshot.close()
        assert orphan.is_closed
        assert orphan.lookup("10.0.0.1") is not None, "what was there stays"


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW])
def test_a_reader_trusts_only_what_is_sealed(seals: int) -> None:
    descriptor = os.memfd_create("fake", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 8192)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    with pytest.raises(SnapshotError, match="sealed"):
        FibReader.from_fd(descriptor)


def test_a_reader_refuses_an_invalid_snapshot(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(SnapshotError, match="memfd"):
        FibReader.from_fd(os.dup(file.fileno()))
    with pytest.raises(SnapshotError, match="magic"):
        FibReader(mmap.mmap(-1, 8192))


@pytest.mark.parametrize("seed", range(5))
def test_every_way_to_ask_agrees_with_a_linear_search(
    writer: Writer, search: MakeSearch, seed: int
) -> None:
    content = table(random.Random(seed), 300)
    writer.apply(*[add(str(prefix), metric=value) for prefix, value in content.items()])
    with writer.reader(search=search) as reader:
        for family, oracle in oracles(content).items():
            version = 4 if family is Family.IPV4 else 6
            addresses = [Address(family, bits) for bits in sorted(oracle.interesting_addresses())]
            expected = [oracle.lookup(address.addr_bits) for address in addresses]
            routes = [reader.lookup(address.packed) for address in addresses]
            assert [found.metric if found else 0 for found in routes] == expected
            find = reader.search.find4 if version == 4 else reader.search.find6
            numbers = [find(address.addr_bits) for address in addresses]
            assert [reader.route(n).metric if n else 0 for n in numbers] == expected
            assert [reader.search.find(str(address)) for address in addresses] == numbers
            packed = b"".join(address.packed for address in addresses)
            for buffer in (packed, bytearray(packed), memoryview(packed), array("B", packed)):
                assert reader.lookup_many(buffer, version).tolist() == numbers
            if version == 4:
                words = array("I", [address.addr_bits for address in addresses])
                assert reader.lookup_many(words).tolist() == numbers


def test_addresses_of_every_kind_are_taken(writer: Writer, search: MakeSearch) -> None:
    writer.apply(add("192.0.2.0/24"), add("2001:db8::/32"))
    with writer.reader(search=search) as reader:
        for text in ("192.0.2.7", "2001:db8::7"):
            parsed = ipaddress.ip_address(text)
            found = reader.lookup(text)
            assert found is not None
            assert reader.lookup(parsed) == reader.lookup(parsed.packed) == found


@pytest.mark.parametrize(
    "address", ["", "10.0.0", "10.0.0.1/32", "x", "::g", "10.0.0.1\0", "1::%lo"]
)
def test_an_invalid_address_is_refused(writer: Writer, search: MakeSearch, address: str) -> None:
    with writer.reader(search=search) as reader:
        with pytest.raises(ValueError, match="not an IP address"):
            reader.lookup(address)
        with pytest.raises(ValueError, match="not an IP address"):
            reader.search.find(address)


@pytest.mark.parametrize("addr_bits", [-1, 2**128, 2**200])
def test_a_number_outside_the_family_is_refused(
    writer: Writer, search: MakeSearch, addr_bits: int
) -> None:
    with writer.reader(search=search) as reader:
        with pytest.raises(ValueError, match="an address is 0 to"):
            reader.search.find4(addr_bits)
        with pytest.raises(ValueError, match="an address is 0 to"):
            reader.search.find6(addr_bits)
        with pytest.raises(ValueError, match="an address is 0 to"):
            reader.search.find4(2**32)
        with pytest.raises(ValueError, match="4 or 16 bytes"):
            reader.lookup(b"12345")


@pytest.mark.parametrize(
    ("addresses", "version", "why"),
    [
        (b"12345", 4, "4 bytes each"),
        (bytes(20), 6, "16 bytes each"),
        (array("I", [1]), 6, "packed bytes"),
        (array("d", [1.0]), 4, "packed bytes"),
        (b"1234", 5, "4 or 6"),
    ],
)
def test_a_buffer_without_addresses_is_refused(
    writer: Writer, search: MakeSearch, addresses: bytes, version: int, why: str
) -> None:
    with writer.reader(search=search) as reader, pytest.raises(ValueError, match=why):
        reader.lookup_many(addresses, version)


def test_a_result_that_does_not_fit_is_refused(writer: Writer, search: MakeSearch) -> None:
    with writer.reader(search=search) as reader, pytest.raises(ValueError, match="out"):
        reader.search.find_many(bytes(8), 4, array("I", [0]))


def test_a_closed_reader_raises(writer: Writer, search: MakeSearch) -> None:
    reader = writer.reader(search=search)
    found = reader.search
    reader.close()
    reader.close()
    for ask in (found.find4, found.find6):
        with pytest.raises(ValueError, match=r"released|closed"):
            ask(1)


def test_all_routes_come_once_each(writer: Writer, search: MakeSearch) -> None:
    content = table(random.Random(3), 200)
    writer.apply(*[add(str(prefix), metric=value) for prefix, value in content.items()])
    with writer.reader(search=search) as reader:
        listed = {Prefix.parse(route.prefix): route.metric for route in reader}
        assert listed == content
        assert len(reader) == len(content) == sum(1 for _ in reader.routes())


def test_a_listing_ends_when_the_reader_is_closed(writer: Writer, search: MakeSearch) -> None:
    writer.apply(add("10.0.0.0/8"), add("10.1.0.0/16"))
    reader = writer.reader(search=search)
    listing = reader.routes()
    next(listing)
    reader.close()
    with pytest.raises(SnapshotError, match="closed"):
        next(listing)


def test_what_is_remembered_of_a_route_ends_with_the_generation(
    writer: Writer, search: MakeSearch
) -> None:
    writer.apply(add("10.0.0.0/8", metric=1))
    with writer.reader(search=search) as reader:
        for metric in range(1, 50):
            found = reader.lookup("10.0.0.1")
            assert found is not None
            assert found.metric == metric
            assert reader.lookup("10.0.0.2") is found, "decoded once"
            writer.apply(add("10.0.0.0/8", metric=metric + 1))


def test_the_c_example_gives_the_same_answers(writer: Writer, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) on this machine")
    program = tmp_path / "fib_lookup"
    subprocess.run(
        [compiler, "-std=gnu99", "-O2", "-Wall", "-Wextra", "-Werror",
         "-I", str(ROOT / "ipc" / "native"),
         "-o", program, ROOT / "docs" / "examples" / "fib_lookup.c"],
        check=True,
    )  # fmt: skip
    content = table(random.Random(11), 400)
    writer.apply(
        *[
            add(str(prefix), hop("192.0.2.1", 2 + value % 2), metric=value)
            for prefix, value in content.items()
        ]
    )
    addresses = [
        str(Address(family, addr_bits))
        for family, oracle in oracles(content).items()
        for addr_bits in sorted(oracle.interesting_addresses())
    ]
    with writer.reader() as reader:
        expected = [_c_line(address, reader.lookup(address)) for address in addresses]
    descriptor = writer.snapshot.fileno()
    launcher = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
    done = subprocess.run(
        [sys.executable, "-c", launcher, str(descriptor), program, *addresses],
        capture_output=True,
        pass_fds=[descriptor],
        check=True,
    )
    assert done.stdout.decode().splitlines() == expected


def _c_line(address: str, found: FoundRoute | None) -> str:
    if found is None:
        return f"{address} no route"
    length = found.prefix.partition("/")[2]
    return f"{address} /{length} metric {found.metric} dev {found.next_hops[0].dev}"


def test_the_c_header_has_the_same_numbers() -> None:
    """Each number of the header is one of `ipc.fib_layout`: C has no other source of them."""
    text = (ROOT / "ipc" / "native" / "fib_snapshot.h").read_text(encoding="utf-8")
    definitions = re.findall(r"\bRFIB_([A-Z0-9_]+)(?: =)? (-?[0-9][0-9a-fx]*u?)\b", text)
    found = {name: int(number.removesuffix("u"), 0) for name, number in definitions}
    expected = {f"W_{word.name}": word.value for word in Header}
    expected["W_IPV6"] = Header.IPV4 + layout.FAMILY_WORDS
    expected |= {f"F_{field.name}": field.value for field in layout.FamilyHeader}
    expected["HEADER_WORDS"] = layout.HEADER_BYTES // 4
    expected["RETRIES"] = layout.SEARCH_TRIES
    statuses = {"FOUND", "NO_ROUTE", "DAMAGED", "BUSY"}
    expected |= {name: getattr(layout, name) for name in found.keys() - expected.keys() - statuses}
    assert found.keys() - statuses == expected.keys()
    assert {name: found[name] for name in expected} == expected
