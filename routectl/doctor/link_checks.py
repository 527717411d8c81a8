"""Checks of interfaces: MTU, offloads, rings, queues, interrupts."""

from __future__ import annotations

from collections.abc import Iterator

from routectl.doctor.facts import Facts, LinkFacts
from routectl.doctor.findings import Finding, Grade

__all__ = ["checksums", "interrupts", "mtu", "numa", "offloads", "queues", "rings"]

_WITHIN_LOWER = ("vlan", "macvlan", "ipvlan", "macsec")
"""Kinds of interfaces whose packets leave through the interface below without becoming smaller."""


def _devices(facts: Facts) -> list[LinkFacts]:
    return [link for link in facts.links if link.has_device]


def _no_device(facts: Facts, why: str) -> Finding:
    seen = "no device of the machine is visible here (a container, or virtual interfaces only)"
    return Finding("interfaces", Grade.UNKNOWN, facts.links_problem or seen, why)


def mtu(facts: Facts) -> Iterator[Finding]:
    """Both ends of a link, where the other one is known, accept packets of the same size."""
    why = "the end with the smaller MTU drops larger packets, so large transfers stop"
    found = [*_mtus_of_pairs(facts, why), *_mtus_of_ports(facts, why), *_mtus_of_neighbors(facts)]
    if not found:
        seen = facts.links_problem or "no two known ends of a link differ"
        grade = Grade.UNKNOWN if facts.links_problem else Grade.OK
        found = [Finding("interfaces", grade, seen, why)]
    yield from found


def _mtus_of_pairs(facts: Facts, why: str) -> Iterator[Finding]:
    by_index = {link.ifindex: link for link in facts.links}
    for link in facts.links:
        other = by_index.get(link.link or 0)
        if other is None:
            continue
        if link.kind == "veth" and link.mtu < other.mtu:
            seen = f"MTU {link.mtu}; its other end {other.name} has {other.mtu}"
            yield Finding(link.name, Grade.PROBLEM, seen, why, _set_mtu(link, other.mtu))
        elif link.kind in _WITHIN_LOWER and link.mtu > other.mtu:
            seen = f"MTU {link.mtu}; {other.name} below it has {other.mtu}"
            yield Finding(link.name, Grade.PROBLEM, seen, why, _set_mtu(link, other.mtu))


def _mtus_of_ports(facts: Facts, why: str) -> Iterator[Finding]:
    for bridge in facts.links:
        ports = [link for link in facts.links if link.master == bridge.ifindex]
        if bridge.kind == "bridge" and len({port.mtu for port in ports}) > 1:
            least = min(ports, key=lambda port: port.mtu)
            seen = f"its ports have MTUs from {least.mtu} ({least.name}) to " + str(
                max(port.mtu for port in ports)
            )
            most = max(port.mtu for port in ports)
            yield Finding(bridge.name, Grade.PROBLEM, seen, why, _set_mtu(least, most))


def _mtus_of_neighbors(facts: Facts) -> Iterator[Finding]:
    mtus = {link.name: link.mtu for link in facts.links}
    why = "the end with the smaller MTU drops larger packets, though the adjacency is up"
    for neighbor in facts.daemon.neighbor_mtus:
        own = mtus.get(neighbor.interface)
        if own is None or own == neighbor.mtu:
            continue
        seen = f"MTU {own}; neighbor {neighbor.neighbor} has {neighbor.mtu} on this link"
        command = f"ip link set dev {neighbor.interface} mtu {min(own, neighbor.mtu)}"
        if own < neighbor.mtu:
            command += f"   # on the neighbor, or {neighbor.mtu} here"
        yield Finding(neighbor.interface, Grade.PROBLEM, seen, why, command)


def _set_mtu(link: LinkFacts, bytes_: int) -> str:
    return f"ip link set dev {link.name} mtu {bytes_}"


def offloads(facts: Facts) -> Iterator[Finding]:
    """Received packets are merged in a way that can be undone, and no other."""
    lro_why = "a merged packet cannot be split again as it was, so forwarded ones are damaged"
    gro_why = "without it the kernel forwards every packet on its own: several times the work"
    known = [link for link in facts.links if link.has_lro is not None]
    found = [
        Finding(
            link.name,
            Grade.PROBLEM,
            "large receive offload (LRO) is on",
            lro_why,
            f"ethtool -K {link.name} lro off",
        )
        for link in known
        if link.has_lro
    ]
    found += [
        Finding(
            link.name,
            Grade.NOTE,
            "generic receive offload (GRO) is off",
            gro_why,
            f"ethtool -K {link.name} gro on",
        )
        for link in _devices(facts)
        if link.has_gro is False
    ]
    if not known:
        seen = facts.links_problem or "no interface shows its offloads"
        yield Finding("interfaces", Grade.UNKNOWN, seen, lro_why)
    elif not found:
        yield Finding("interfaces", Grade.OK, "LRO is off, and GRO is on where it counts", lro_why)
    yield from found


def checksums(facts: Facts) -> Iterator[Finding]:
    """A program that reads packets from a veth sees complete checksums."""
    why = (
        "packets cross a veth with an unfinished checksum: a program that reads or forwards them "
        "by XDP or a packet socket (DHCP, a tunnel, a capture) finds it wrong"
    )
    veths = [link for link in facts.links if link.kind == "veth"]
    found = [link for link in veths if link.has_checksum_offload]
    for link in found:
        seen = "a veth leaves checksums to the device"
        yield Finding(link.name, Grade.NOTE, seen, why, f"ethtool -K {link.name} tx off")
    if not found:
        seen = "no veth, or none that leaves checksums to the device"
        yield Finding("interfaces", Grade.OK, seen, why)


def rings(facts: Facts) -> Iterator[Finding]:
    """No device has lost packets because its receive ring was full."""
    why = "packets that arrive while the receive ring is full are lost in the device"
    devices = _devices(facts)
    if not devices:
        yield _no_device(facts, why)
    for link in devices:
        length = f", ring of {link.ring.received}" if link.ring else ""
        seen = f"{link.ring_losses} packets lost since boot{length}"
        if not link.ring_losses:
            yield Finding(link.name, Grade.OK, seen, why)
        elif link.ring and link.ring.received < link.ring.received_max:
            command = f"ethtool -G {link.name} rx {link.ring.received_max}"
            yield Finding(link.name, Grade.WARNING, seen, why, command)
        else:
            seen += ", which is the longest" if link.ring else ""
            yield Finding(link.name, Grade.WARNING, seen, why, f"ethtool -S {link.name}")


def queues(facts: Facts) -> Iterator[Finding]:
    """The packets that a device receives are distributed to several processors."""
    why = "the packets of one receive queue are handled by one processor"
    devices = _devices(facts)
    if not devices:
        yield _no_device(facts, why)
    for link in devices:
        most = min(link.queues_max or link.queues, facts.cpus)
        seen = f"{_queues(link.queues)}, {_processors(facts.cpus)}"
        if link.queues < most:
            command = f"ethtool -L {link.name} combined {most}"
            yield Finding(link.name, Grade.NOTE, f"{seen}, {most} possible", why, command)
        elif link.queues == 1 and facts.cpus > 1 and link.has_rps is False:
            mask = f"{(1 << facts.cpus) - 1:x}" if facts.cpus <= 32 else "ffffffff"
            command = f"echo {mask} > /sys/class/net/{link.name}/queues/rx-0/rps_cpus"
            yield Finding(link.name, Grade.NOTE, f"{seen}, no RPS", why, command)
        else:
            yield Finding(link.name, Grade.OK, seen, why)


def _queues(count: int) -> str:
    return "1 receive queue" if count == 1 else f"{count} receive queues"


def _processors(count: int) -> str:
    return "1 processor" if count == 1 else f"{count} processors"


def interrupts(facts: Facts) -> Iterator[Finding]:
    """The interrupts of a device's queues are served by different processors."""
    why = "one processor then handles the packets of all queues, while the others are idle"
    devices = [link for link in _devices(facts) if link.interrupts]
    if not devices:
        yield _no_device(facts, why)
    for link in devices:
        cpus = frozenset[int]().union(*(each.cpus for each in link.interrupts))
        seen = f"{len(link.interrupts)} interrupts, served by {_processors(len(cpus))}"
        if min(link.queues, len(link.interrupts), facts.cpus) > 1 and len(cpus) == 1:
            commands = [
                f"echo {place % facts.cpus} > /proc/irq/{each.number}/smp_affinity_list"
                for place, each in enumerate(link.interrupts)
            ]
            yield Finding(link.name, Grade.WARNING, seen, why, "; ".join(commands))
        else:
            yield Finding(link.name, Grade.OK, seen, why)


def numa(facts: Facts) -> Iterator[Finding]:
    """A device's interrupts are served by processors near its memory."""
    why = "each packet then crosses the connection between two processor sockets"
    devices = [link for link in _devices(facts) if link.numa_cpus and link.interrupts]
    if not devices:
        seen = facts.links_problem or "one NUMA node, or no device that belongs to one"
        yield Finding("interfaces", Grade.OK, seen, why)
    for link in devices:
        near = link.numa_cpus or frozenset()
        far = [each for each in link.interrupts if not each.cpus & near]
        if far:
            commands = [
                f"echo {cpu} > /proc/irq/{each.number}/smp_affinity_list"
                for each, cpu in zip(far, _repeated(sorted(near), len(far)), strict=True)
            ]
            seen = f"{len(far)} of {len(link.interrupts)} interrupts on another NUMA node"
            yield Finding(link.name, Grade.NOTE, seen, why, "; ".join(commands))
        else:
            yield Finding(link.name, Grade.OK, "interrupts on the NUMA node of the device", why)


def _repeated(cpus: list[int], count: int) -> list[int]:
    return [cpus[place % len(cpus)] for place in range(count)]
