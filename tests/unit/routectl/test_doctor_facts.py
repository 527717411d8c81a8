"""Where `doctor` has its facts from: files of a host that a test writes, and messages."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from routectl.doctor.facts import Interrupt, LinkFacts, NeighborTable
from routectl.doctor.files import Files, cpu_list
from routectl.doctor.gather import read_clock
from routectl.doctor.link_facts import decode_link, read_links
from routed.netlink.message import (
    IFINFOMSG,
    RTM_NEWLINK,
    NetlinkDecodeError,
    NetlinkMessage,
    pack_attribute,
    pack_u32_attribute,
)


def host(root: Path, **files: str) -> Files:
    """A host with these files; `__` in a name is a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Files(root)


def test_an_empty_host_has_no_facts(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.sysctls(["net/ipv4/ip_forward"]) == {}
    assert files.backlog_drops() is None
    assert files.neighbor_tables() == {}
    assert files.programs() is None
    assert files.networkd().foreign == {}
    assert files.interrupts() == set()
    assert files.inode("proc/self/ns/net") is None


def test_kernel_tables_are_read(tmp_path: Path) -> None:
    files = host(
        tmp_path,
        proc__sys__net__ipv4__ip_forward="1\n",
        proc__net__softnet_stat="00008d43 00000002 00000001\n0000b643 0000000a 00000001\n",
        proc__interrupts=(
            "           CPU0       CPU1\n"
            " 24:          0          0  IO-APIC   5-edge      ACPI:Ged\n"
            " 30:          7          0  PCI-MSIX-0000:00:01.0   1-edge  eth0-rx-0\n"
            "NMI:          1          1   Non-maskable interrupts\n"
        ),
        sys__devices__system__cpu__online="0-1,8\n",
    )
    (tmp_path / "proc/net/stat").mkdir()
    (tmp_path / "proc/net/stat/arp_cache").write_text(
        "entries  allocs   table_fulls\n0000001f 0000003b 00000001\n0000001f 0000004b 00000002\n"
    )
    assert files.sysctls(["net/ipv4/ip_forward", "net/none"]) == {"net/ipv4/ip_forward": "1"}
    assert files.backlog_drops() == 12
    assert files.interrupts() == {30}
    assert files.cpus() == {0, 1, 8}
    assert files.neighbor_tables() == {"ipv4": NeighborTable(31, 3)}


@pytest.mark.parametrize("text", ["", "x y\nz", "one\n", "\0\xff"])
def test_malformed_files_are_not_known(tmp_path: Path, text: str) -> None:
    names = ("softnet_stat", "stat/arp_cache", "stat/ndisc_cache")
    (tmp_path / "proc/net/stat").mkdir(parents=True)
    for name in names:
        (tmp_path / "proc/net" / name).write_text(text)
    (tmp_path / "proc/interrupts").write_text(text)
    files = Files(tmp_path)
    assert (files.backlog_drops(), files.neighbor_tables()) == (None, {})
    assert files.interrupts() == set()


def test_programs_of_another_network_namespace_are_left_out(tmp_path: Path) -> None:
    for pid, name, namespace in (
        (1, "init", "a"),
        (20, "bird", "a"),
        (21, "bird", "a"),
        (30, "zebra", "b"),
    ):
        folder = tmp_path / f"proc/{pid}/ns"
        folder.mkdir(parents=True)
        (folder.parent / "comm").write_text(name + "\n")
        (tmp_path / namespace).touch()
        (folder / "net").symlink_to(tmp_path / namespace)
    (tmp_path / "proc/40").mkdir()
    (tmp_path / "proc/40/comm").write_text("ospfd\n")  # its namespace is not shown
    (tmp_path / "proc/self").symlink_to(tmp_path / "proc/1")
    assert Files(tmp_path).programs() == {"init": (1,), "bird": (20, 21), "ospfd": (40,)}


def test_the_last_value_of_networkds_options_counts(tmp_path: Path) -> None:
    etc, run = tmp_path / "etc/systemd", tmp_path / "run/systemd"
    for folder in (etc, run):
        (folder / "networkd.conf.d").mkdir(parents=True)
    (etc / "networkd.conf").write_text(
        "[Network]\n#ManageForeignNextHops=no\nManageForeignRoutes=yes\n"
    )
    (run / "networkd.conf.d/20.conf").write_text("[Network]\nManageForeignRoutes = no\n")
    (run / "networkd.conf.d/10.conf").write_text("[Network]\nManageForeignRoutingPolicyRules=no\n")
    (etc / "networkd.conf.d/10.conf").write_text("[Network]\nManageForeignRoutes=yes\n")
    (etc / "networkd.conf.d/ignored.txt").write_text("ManageForeignRoutes=yes\n")
    assert Files(tmp_path).networkd().foreign == {"ManageForeignRoutes": "no"}


def link_message(flags: int, *more: bytes, name: bytes = b"veth0") -> NetlinkMessage:
    header = IFINFOMSG.pack(0, 1, 7, flags, 0)
    name_and_mtu = pack_attribute(3, name + b"\0") + pack_u32_attribute(4, 1400)
    return NetlinkMessage(RTM_NEWLINK, 0, 0, 0, header + name_and_mtu + b"".join(more))


def test_a_link_message_becomes_facts() -> None:
    kind = pack_attribute(18, pack_attribute(1, b"veth\0"))
    stats = pack_attribute(23, struct.pack("=25Q", *range(25)))
    message = link_message(1, kind, stats, pack_u32_attribute(5, 8), pack_u32_attribute(32, 4))
    assert decode_link(message) == LinkFacts(
        "veth0", 7, 1400, "veth", link=8, ring_losses=11 + 14 + 15, queues=4
    )


def test_the_other_end_in_another_namespace_is_not_one_of_these_links() -> None:
    message = link_message(1, pack_u32_attribute(5, 8), pack_u32_attribute(37, 0))
    found = decode_link(message)
    assert found is not None
    assert found.link is None


def test_loopbacks_and_links_that_are_down_are_left_out() -> None:
    assert decode_link(link_message(0)) is None
    assert decode_link(link_message(0x9)) is None


def test_a_short_link_message_is_an_error() -> None:
    with pytest.raises(NetlinkDecodeError):
        decode_link(NetlinkMessage(RTM_NEWLINK, 0, 0, 0, b"\0" * 8))


def test_the_links_of_this_host_are_read_without_its_sys(tmp_path: Path) -> None:
    for link in read_links(Files(tmp_path)):
        assert (link.has_device, link.interrupts, link.has_rps) == (False, (), None)
        assert link.mtu > 0


def test_the_device_of_a_link_is_that_of_its_index(tmp_path: Path) -> None:
    links = read_links(Files())
    for link in links:
        folder = tmp_path / "sys/class/net" / link.name
        (folder / "device/msi_irqs").mkdir(parents=True)
        (folder / "queues/rx-0").mkdir(parents=True)
        (folder / "queues/rx-0/rps_cpus").write_text("00000000,00000003\n")
        (folder / "ifindex").write_text(f"{link.ifindex}\n")
        (folder / "device/local_cpulist").write_text("0\n")
        for number in (30, 31, 101):
            (folder / f"device/msi_irqs/{number}").touch()
    host(
        tmp_path,
        proc__interrupts="  CPU0\n 30: 1 a\n 101: 1 b\n 31: 0 c\n",
        proc__irq__30__effective_affinity_list="2-3\n",
        proc__irq__101__smp_affinity_list="1\n",
        sys__devices__system__cpu__online="0-3\n",
    )
    for link in read_links(Files(tmp_path)):
        assert (link.has_device, link.has_rps) == (True, True)
        assert link.interrupts == (Interrupt(30, frozenset({2, 3})), Interrupt(101, frozenset({1})))
        assert link.numa_cpus == frozenset({0})
        (tmp_path / "sys/class/net" / link.name / "ifindex").write_text("999999\n")
    assert not any(link.has_device for link in read_links(Files(tmp_path)))


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-2,8", {0, 1, 2, 8}), ("3", {3}), ("", set()), (None, set()), ("x-y", set())],
)
def test_a_list_of_processors(text: str | None, cpus: set[int]) -> None:
    assert cpu_list(text) == cpus


def test_the_clock_is_read_without_a_privilege() -> None:
    clock = read_clock()
    assert clock is None or 0 <= clock.error_s < 1000
