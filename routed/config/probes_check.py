"""Checks of `probes` that need several values: options of other kinds, members, users. Pure.

See `check` for how a problem is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from routed.config.bfd import BfdConfig
from routed.config.options import options_of
from routed.config.probes import ProbeConfig
from routed.config.route_options import StaticType
from routed.config.static import StaticConfig
from routed.model.prefix import Family
from routed.model.probe import MEMBERS_MAX, PROBES_MAX, RCODES, ProbeKind, RecordType

__all__ = ["probe_problems", "probe_user_problems"]

Problem = tuple[str, str]

_TIMED = ("interval", "jitter", "rise", "fall", "invert", "on_error", "initial")
_MEASURED = ("rtt_max", "loss_max", "window")
_SENT = ("target", "source", "interface", "mark", "timeout", *_MEASURED, *_TIMED)
_COMBINED = ("of", "invert", "initial")
_OPTIONS: dict[ProbeKind, tuple[str, ...]] = {
    ProbeKind.ICMP: _SENT,
    ProbeKind.TCP: ("port", *_SENT),
    ProbeKind.DNS: ("port", "query", "type", "rcode", "answer", *_SENT),
    ProbeKind.CARRIER: ("interface", *_TIMED),
    ProbeKind.BFD: ("session", *_TIMED),
    ProbeKind.ALL: _COMBINED,
    ProbeKind.ANY: _COMBINED,
    ProbeKind.AT_LEAST: ("least", *_COMBINED),
}
"""The options that each kind has, besides `kind`."""

_REQUIRED: dict[ProbeKind, tuple[str, ...]] = {
    ProbeKind.ICMP: ("target",),
    ProbeKind.TCP: ("target", "port"),
    ProbeKind.DNS: ("target", "query"),
    ProbeKind.CARRIER: ("interface",),
    ProbeKind.BFD: ("session",),
    ProbeKind.ALL: ("of",),
    ProbeKind.ANY: ("of",),
    ProbeKind.AT_LEAST: ("of", "least"),
}


def probe_problems(
    probes: Sequence[ProbeConfig | None] | None, bfd: BfdConfig | None
) -> Iterator[Problem]:
    """Find probes that cannot be.

    Args:
        probes: the section; an item that could not be read is None, or the whole is.
        bfd: the section `bfd`; None if it could not be read.
    """
    found = [probe for probe in probes or () if probe is not None]
    if len(found) > PROBES_MAX:
        yield "probes", f"{len(found)} probes; the maximum is {PROBES_MAX}"
    names = {probe.name for probe in found}
    for probe in found:
        path = f"probes.{probe.name}"
        yield from _option_problems(path, probe)
        yield from _address_problems(path, probe)
        yield from _time_problems(path, probe)
        yield from _answer_problems(path, probe)
        if probe.session is not None and bfd is not None:
            sessions = {each.name for each in bfd.sessions or () if each is not None}
            if probe.session not in sessions:
                yield f"{path}.session", _unknown("`bfd.sessions`", probe.session, sessions)
        if probes is not None and None not in probes:
            for position, member in enumerate(probe.members or ()):
                if member is not None and member not in names:
                    yield f"{path}.of[{position}]", _unknown("`probes`", member, names)
    yield from _circle_problems({probe.name: probe.members or () for probe in found})


def _option_problems(path: str, probe: ProbeConfig) -> Iterator[Problem]:
    """Yield options that the kind does not have, and those that it lacks."""
    plain = ProbeConfig("", probe.kind)
    for option in options_of(ProbeConfig):
        key = option.key
        if key == "kind":
            continue
        is_given = getattr(probe, option.field) != getattr(plain, option.field)
        if is_given and key not in _OPTIONS[probe.kind]:
            yield f"{path}.{key}", f"a probe of kind {probe.kind.value} has no `{key}`"
        if not is_given and key in _REQUIRED[probe.kind]:
            yield f"{path}.kind", f"a probe of kind {probe.kind.value} needs `{key}`"
    members = probe.members or ()
    if len(members) > MEMBERS_MAX:
        yield f"{path}.of", f"{len(members)} probes; the maximum is {MEMBERS_MAX}"
    if len(set(members)) < len(members):
        yield f"{path}.of", "names a probe twice"
    if probe.least is not None and members and probe.least > len(members):
        yield f"{path}.least", f"`of` has {len(members)} only"


def _address_problems(path: str, probe: ProbeConfig) -> Iterator[Problem]:
    target, source = probe.target, probe.source
    if target is None:
        return
    if target.is_multicast or target.addr_bits == 0:
        yield f"{path}.target", f"{target} cannot be a system's address"
    if source is not None and source.family is not target.family:
        yield f"{path}.source", "is of another family than `target`"
    if target.family is Family.IPV6 and target.is_link_local and probe.interface is None:
        yield f"{path}.target", f"{target} is link-local: name the `interface`"


def _time_problems(path: str, probe: ProbeConfig) -> Iterator[Problem]:
    if probe.timeout_s is not None and probe.timeout_s > probe.interval_s:
        yield f"{path}.timeout", "is longer than `interval`"
    if probe.jitter_s is not None and probe.jitter_s >= probe.interval_s:
        yield f"{path}.jitter", "must be shorter than `interval`"


def _answer_problems(path: str, probe: ProbeConfig) -> Iterator[Problem]:
    """Yield an expected address that no answer can have."""
    if probe.answer is None:
        return
    wanted = RecordType.A if probe.answer.family is Family.IPV4 else RecordType.AAAA
    if probe.query_type is not wanted:
        yield f"{path}.answer", f"needs `type: {wanted.value}`"
    elif probe.rcode != 0:
        yield f"{path}.answer", f"an answer with the code {RCODES[probe.rcode]} has none"


def _circle_problems(members: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """Yield the combinations that follow themselves."""
    for name in members:
        seen: set[str] = set()
        waiting = list(members[name])
        while waiting:
            member = waiting.pop()
            if member not in seen:
                seen.add(member)
                waiting += members.get(member, ())
        if name in seen:
            yield f"probes.{name}.of", "the probe follows itself"


def probe_user_problems(
    probes: Sequence[ProbeConfig | None] | None, statics: Iterable[tuple[int, StaticConfig]]
) -> Iterator[Problem]:
    """Find static routes and next hops that name a probe which is not there, or needlessly."""
    if probes is None:
        return
    names = {probe.name for probe in probes if probe is not None}
    for index, static in statics:
        path = f"static[{index}]"
        users = [(path, static.probe, static.bfd)]
        users += [
            (f"{path}.next_hops[{position}]", hop.probe, hop.bfd)
            for position, hop in enumerate(static.next_hops or ())
            if hop is not None
        ]
        for where, name, session in users:
            if name is None:
                continue
            if name not in names and None not in probes:
                yield f"{where}.probe", _unknown("`probes`", name, names)
            if session is not None:
                yield (
                    f"{where}.probe",
                    "a next hop follows `bfd` or `probe`; for both name a probe of kind all, with "
                    "one of kind bfd",
                )
        if static.probe is None:
            continue
        if static.next_hops:
            yield f"{path}.probe", "name the probe at each of `next_hops`"
        elif static.type is not StaticType.UNICAST:
            yield f"{path}.probe", f"a {static.type.value} route has no next hop"


def _unknown(where: str, name: str, names: Collection[str]) -> str:
    known = f"; there is {', '.join(sorted(names)[:10])}" if names else "; it is empty"
    return f"{where} has no {name!r}{known}"
