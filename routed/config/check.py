"""Semantic checks of a configuration: those that compare two or more values.

Pure: the input is a draft, the output is problems, each with the path of the key to edit. The
loader adds file, line and column.

A draft lacks the values that are wrong in themselves. The remaining values are checked all the
same, and a missing value never causes a problem.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ipc.lazy_dataclass import dataclass
from routed.config.bfd_check import bfd_key_sets, bfd_problems, static_problems
from routed.config.export_check import export_problems
from routed.config.probes_check import probe_problems, probe_user_problems
from routed.config.rule_check import rule_problems
from routed.config.schema import (
    PID_FILE,
    BfdConfig,
    DataplaneConfig,
    FibConfig,
    FilterAction,
    FiltersConfig,
    InterfaceConfig,
    KernelRule,
    KeyConfig,
    KeySetConfig,
    LearnConfig,
    ManagementConfig,
    NextHopObjects,
    ProbeConfig,
    RuleConfig,
    StaticConfig,
    StaticType,
    SummaryConfig,
)
from routed.config.state_names import is_state_file
from routed.config.tables import TableConfig, reference_problem, table_problems
from routed.model.martians import MARTIAN_BLOCKS
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NEXT_HOPS_MAX
from routed.model.route_checks import kernel_problems

__all__ = ["Draft", "find_problems"]

T = TypeVar("T")
Numbered = Sequence[tuple[int, T]]
"""Items that are valid in themselves, each with its index in the list of the file."""

Problem = tuple[str, str]
"""The path of a key, such as `static[2].via`, and a message."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The valid values of a configuration, as far as they are checked here."""

    fib: FibConfig | None
    """The section `fib`; None if it has an invalid value."""
    interfaces: Sequence[InterfaceConfig]
    keys: Sequence[tuple[str, Numbered[KeyConfig]]]
    """The name of each key set, with its keys."""
    empty_key_sets: Sequence[str]
    """Names of the key sets that have no key."""
    key_names: frozenset[str] | None
    """Names of all key sets; None if the section `keys` could not be decoded."""
    dataplane: DataplaneConfig | None
    """None if the section `dataplane` could not be decoded."""
    bfd: BfdConfig | None
    """None if the section `bfd` could not be decoded."""
    tables: Numbered[TableConfig] | None
    """None if the section `tables` has an invalid entry."""
    probes: Sequence[ProbeConfig | None] | None
    """None if the section `probes` could not be decoded."""
    static: Numbered[StaticConfig]
    summaries: Numbered[SummaryConfig]
    learn: Numbered[LearnConfig]
    rules: Numbered[RuleConfig]
    kernel_rules: Numbered[KernelRule]
    allow_martians: Numbered[Prefix]
    files: Sequence[tuple[str, str]]
    """The option and the path of each file or socket that the daemon creates."""
    file: str
    """Path of the configuration file itself."""

    @classmethod
    def of(cls, values: Mapping[str, Any], file: str) -> Draft:
        """Create a draft from decoded values.

        Args:
            values: decoded values by field of `Config`; keys that are absent from the file are
                absent here. An invalid value is None, or a sequence in which invalid items are
                None.
            file: path of the configuration file.
        """
        key_sets: Sequence[KeySetConfig] | None = values.get("keys", ())
        filters: FiltersConfig | None = values.get("filters")
        tables: Sequence[TableConfig | None] | None = values.get("tables", ())
        return cls(
            fib=values.get("fib", FibConfig()),
            interfaces=[entry for _, entry in _numbered(values.get("interfaces"))],
            keys=[(each.name, _numbered(each.keys)) for each in key_sets or ()],
            empty_key_sets=[each.name for each in key_sets or () if not each.keys],
            key_names=None if key_sets is None else frozenset(each.name for each in key_sets),
            dataplane=values.get("dataplane", DataplaneConfig()),
            bfd=values.get("bfd", BfdConfig()),
            tables=None if tables is None or None in tables else _numbered(tables),
            probes=values.get("probes", ()),
            static=_numbered(values.get("static")),
            summaries=_numbered(values.get("summaries")),
            learn=_numbered(values.get("learn")),
            rules=_numbered(values.get("rules")),
            kernel_rules=_numbered(filters.kernel if filters else ()),
            allow_martians=_numbered(values.get("allow_martians")),
            files=_files_of(values),
            file=file,
        )


def _numbered(items: Iterable[T | None] | None) -> list[tuple[int, T]]:
    return [(index, item) for index, item in enumerate(items or ()) if item is not None]


def _files_of(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    log, management = values.get("log"), values.get("management", ManagementConfig())
    metrics, pid_file = values.get("metrics"), values.get("pid_file", PID_FILE)
    named = [
        ("pid_file", pid_file),
        ("log.file", log and log.file),
        ("management.socket", management and management.socket),
        ("metrics.listen", metrics and metrics.listen and metrics.listen.path),
    ]
    return [(option, os.path.normpath(path)) for option, path in named if path]


def _file_problems(files: Sequence[tuple[str, str]], file: str) -> Iterator[Problem]:
    """Yield the options whose file would overwrite another file of the daemon."""
    taken = {os.path.abspath(file): "this configuration"}
    for option, path in files:
        if is_state_file(path):
            yield option, f"{path} has the name of a state file, which the daemon would overwrite"
        is_socket = option in ("management.socket", "metrics.listen")
        for used in (path, f"{path}.lock", f"{path}.new") if is_socket else (path,):
            if used in taken:
                yield option, f"{used} is already used by {taken[used]}"
            taken[used] = f"`{option}`"


def find_problems(draft: Draft) -> Iterator[Problem]:
    """Yield every problem of a combination of values that are valid in themselves."""
    main_id = None if draft.fib is None else draft.fib.table_id
    if draft.tables is not None:
        yield from table_problems(draft.tables, main_id)
    yield from _statics_problems(draft.static, draft.tables)
    yield from _interface_problems(draft)
    for name, keys in draft.keys:
        yield from _key_problems(name, keys)
    for name in draft.empty_key_sets:
        yield f"keys.{name}", "a set of keys needs at least one key"
    yield from _summary_problems(draft.summaries)
    yield from rule_problems(draft.rules)
    for index, rule in draft.kernel_rules:
        if rule.action is FilterAction.DENY and rule.attributes is not None:
            yield f"filters.kernel[{index}].action", "`set_...` has no effect on a denied route"
    yield from _martian_problems(draft.allow_martians)
    yield from _file_problems(draft.files, draft.file)
    if draft.dataplane is not None:
        yield from export_problems(draft.dataplane)
    if draft.bfd is not None:
        yield from bfd_problems(draft.bfd, draft.keys, draft.key_names)
        yield from static_problems(draft.bfd, draft.static)
    yield from probe_problems(draft.probes, draft.bfd)
    yield from probe_user_problems(draft.probes, draft.static)
    if draft.fib is not None:
        yield from _protocol_problems(draft.fib.protocol, draft.learn)
        if draft.fib.nexthop_objects is NextHopObjects.OFF:
            yield from _link_problems(draft.static)


def _link_problems(statics: Numbered[StaticConfig]) -> Iterator[Problem]:
    """Yield the routes that Linux accepts only through nexthop objects, for when these are off."""
    for index, static in statics:
        hops = static.next_hops or ()
        if static.prefix.family is not Family.IPV6 or len(hops) < 2:
            continue
        for position, hop in enumerate(hops):
            if hop.via is None:
                yield (
                    f"static[{index}].next_hops[{position}]",
                    "Linux accepts an IPv6 route with several next hops, one of them without "
                    "`via`, through nexthop objects only, and `fib.nexthop_objects` is off",
                )
                break


def _martian_problems(allowed: Numbered[Prefix]) -> Iterator[Problem]:
    for index, prefix in allowed:
        if not any(prefix.covers(block) or block.covers(prefix) for block, _ in MARTIAN_BLOCKS):
            yield f"allow_martians[{index}]", f"no address of {prefix} is a martian"


def _statics_problems(
    statics: Numbered[StaticConfig], tables: Numbered[TableConfig] | None
) -> Iterator[Problem]:
    seen: dict[object, int] = {}
    names = None if tables is None else {entry.name for _, entry in tables}
    for index, static in statics:
        path = f"static[{index}]"
        yield from _static_problems(path, static)
        if names is not None and static.table is not None and static.table not in names:
            yield f"{path}.table", reference_problem(static.table, tables or ())
        identity = (static.table, static.prefix, static.metric, static.distance)
        if identity in seen:
            yield (
                f"{path}.prefix",
                f"{static.prefix} is given twice with the same metric and distance (first as "
                f"static[{seen[identity]}]); write several `next_hops`, or another metric",
            )
        seen.setdefault(identity, index)


def _protocol_problems(protocol: int, learn: Numbered[LearnConfig]) -> Iterator[Problem]:
    if protocol in _FOREIGN_PROTOCOLS:
        yield (
            "fib.protocol",
            f"{protocol} is {_FOREIGN_PROTOCOLS[protocol]}'s number; "
            "two daemons with one number delete each other's routes",
        )
    for index, entry in learn:
        if entry.protocol == protocol:
            message = f"{entry.protocol} is the daemon's own protocol (fib.protocol)"
            yield f"learn[{index}].protocol", message


def _unicast_problems(path: str, neighbors: Sequence[Address]) -> Iterator[Problem]:
    """Yield the unicast neighbors that differ in family or cannot be addresses on the link."""
    for index, neighbor in enumerate(neighbors):
        where = f"{path}.neighbors[{index}]"
        if neighbor.family is not neighbors[0].family:
            yield where, "the neighbors on one interface must be all IPv4 or all IPv6"
        elif neighbor.family is Family.IPV6 and not neighbor.is_link_local:
            yield where, f"{neighbor} is not link-local; NUP over IPv6 uses fe80::/10"
        elif neighbor.is_multicast or neighbor in neighbors[:index]:
            yield where, f"{neighbor} cannot be a neighbor, or is given twice"


def _summary_problems(summaries: Numbered[SummaryConfig]) -> Iterator[Problem]:
    """Yield the summaries that are given twice or have an option without effect."""
    seen: dict[Prefix, int] = {}
    for index, summary in summaries:
        path = f"summaries[{index}]"
        if summary.prefix in seen:
            first = f"summaries[{seen[summary.prefix]}]"
            yield f"{path}.prefix", f"{summary.prefix} is given twice (first as {first})"
        seen.setdefault(summary.prefix, index)
        if summary.interface is not None and not summary.only:
            yield f"{path}.interface", "has no effect unless `only` is true"


def _interface_problems(draft: Draft) -> Iterator[Problem]:
    """Yield references to missing keys, impossible neighbors, and bounds in the wrong order."""
    names, bfd_sets = draft.key_names, bfd_key_sets(draft.keys)
    for entry in draft.interfaces:
        path = f"interfaces.{entry.pattern}"
        if entry.key is not None and names is not None and entry.key not in names:
            known = f"; there is {', '.join(sorted(names))}" if names else "; it is empty"
            yield f"{path}.key", f"`keys` has no {entry.key!r}{known}"
        if entry.key in bfd_sets:
            yield f"{path}.key", f"the keys of {entry.key!r} are for BFD, not for NUP"
        yield from _unicast_problems(path, entry.neighbors)
        if entry.rtt_max_s <= entry.rtt_min_s:
            yield f"{path}.rtt_max", "must be longer than rtt_min"
        if entry.damping is not None and entry.damping.reuse >= entry.damping.suppress:
            yield f"{path}.damping.reuse", "must be below suppress"
        if entry.accept_unsigned and entry.key is None:
            yield f"{path}.accept_unsigned", "has no effect without `key`"


def _key_problems(name: str, keys: Numbered[KeyConfig]) -> Iterator[Problem]:
    """Yield the keys whose id is not unique in the set, and the lifetimes that are empty."""
    seen: set[int] = set()
    for index, key in keys:
        path = f"keys.{name}[{index}]"
        if key.id in seen:
            yield f"{path}.id", f"{key.id} is given twice in {name!r}"
        seen.add(key.id)
        for word, start, end in (
            ("send", key.send_from, key.send_until),
            ("accept", key.accept_from, key.accept_until),
        ):
            if start is not None and end is not None and start >= end:
                yield f"{path}.{word}_until", f"must be later than {word}_from"


_FOREIGN_PROTOCOLS = {
    8: "gated", 9: "the kernel's router discovery", 11: "zebra", 12: "BIRD", 16: "DHCP",
    17: "mrouted", 18: "keepalived", 42: "babeld", 99: "Open/R", 186: "FRR BGP", 187: "FRR IS-IS",
    188: "FRR OSPF", 189: "FRR RIP", 192: "FRR EIGRP",
}  # fmt: skip
"""Numbers of other routing programs (RTPROT_* in linux/rtnetlink.h), with their names."""


def _static_problems(path: str, static: StaticConfig) -> Iterator[Problem]:
    has_one = static.via is not None or static.dev is not None
    for word, problem in kernel_problems(
        static.prefix.family, static.type.route_type, static.kernel_attributes
    ):
        yield f"{path}.{word}", problem
    if static.type.route_type.is_link_alone:
        if static.dev is None or static.via is not None or static.next_hops:
            yield f"{path}.type", f"a {static.type.value} route needs `dev`, and no other next hop"
        return
    if static.type is not StaticType.UNICAST:
        if has_one or static.next_hops:
            yield f"{path}.type", f"a {static.type.value} route has no next hop"
        return
    if static.next_hops and has_one:
        yield f"{path}.next_hops", "give `via` and `dev`, or `next_hops`, not both"
        return
    if len(static.next_hops) > NEXT_HOPS_MAX:
        yield (
            f"{path}.next_hops",
            f"{len(static.next_hops)} next hops; the maximum is {NEXT_HOPS_MAX}",
        )
        return
    if not static.next_hops and not has_one:
        yield f"{path}.prefix", "needs `via`, `dev`, `next_hops`, or a `type` such as blackhole"
        return
    hops: list[tuple[str, Address | None, str | None, bool]]
    if static.next_hops:
        hops = [
            (f"{path}.next_hops[{index}]", hop.via, hop.dev, hop.onlink)
            for index, hop in enumerate(static.next_hops)
        ]
    else:
        hops = [(path, static.via, static.dev, static.onlink)]
    seen: set[tuple[Address | None, str | None]] = set()
    for hop_path, via, dev, is_onlink in hops:
        yield from _hop_problems(hop_path, static, via, dev, is_onlink=is_onlink)
        if (via, dev) in seen:
            yield hop_path, "the same next hop is given twice; use `weight`"
        seen.add((via, dev))


def _hop_problems(
    path: str, static: StaticConfig, via: Address | None, dev: str | None, *, is_onlink: bool
) -> Iterator[Problem]:
    if via is None:
        if dev is None:
            yield path, "needs `via`, `dev` or both"
        if is_onlink:
            yield path, "`onlink` needs `via`"
        return
    if static.prefix.family is Family.IPV6 and via.family is Family.IPV4:
        yield f"{path}.via", "an IPv6 route needs an IPv6 next hop"
    if via.is_multicast or via.is_loopback or via.addr_bits == 0:
        yield f"{path}.via", f"{via} cannot be a next hop"
    if via.family is Family.IPV6 and via.is_link_local and dev is None:
        yield f"{path}.via", f"{via} is link-local: name the interface with `dev`"
    if is_onlink and dev is None:
        yield path, "`onlink` needs `dev`"
