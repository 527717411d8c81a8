"""What a kernel route has besides its destination, type and next hops: one value, shared. Pure.

    `src 192.0.2.1`, `mtu lock 1400`, ... --read--> KernelAttributes --words--> the same, canonical

A configuration, `routectl route add`, a line of `ip route` and a client library write an attribute
with the same word and the same text, which are those of ip-route(8). This module is the only place
that knows the words, their ranges, and the families and route types that have them.

Attributes belong to a path: a route without any has None, so that a plain route costs nothing.
Equal attributes are one object (`attributes_of`), as far as its cache reaches.

    src         source address of the host's own packets      RTA_PREFSRC
    tos         IPv4: only for packets with this TOS          rtm_tos, a part of the kernel's key
    scope       IPv4: the scope of the destination            rtm_scope
    realm       IPv4: [FROM/]TO                               RTA_FLOW
    pref        IPv6: low, medium or high (RFC 4191)          RTA_PREF
    all others  metrics of TCP and of the path                RTA_METRICS, RTAX_*

`expires` is not among them: the kernel would remove the route, and it would be restored. A lease of
an injected route has that effect.

Failure: `ValueError` with a sentence for people, which names the word.

Sources: ip-route(8); linux/rtnetlink.h; ip_metrics_convert of Linux (net/ipv4/metrics.c), which
clamps `mtu`, `advmss` and `hoplimit` to the ranges below and knows `congctl` by its name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, NamedTuple

from routed.model.bounds import TextBytes
from routed.model.prefix import Address, Family

__all__ = [
    "ATTRIBUTE_WORDS",
    "SCOPES",
    "KernelAttributes",
    "Rtax",
    "attributes_of",
    "canonical_text",
    "written",
]

AttributeWords = tuple[tuple[str, str], ...]
"""Words and texts, such as (("src", "192.0.2.1"), ("mtu", "lock 1400"))."""


class Rtax:
    """Metrics of a route (RTAX_*); the lock of metric n is bit n of LOCK."""

    LOCK = 1
    MTU = 2
    WINDOW = 3
    ADVMSS = 8
    HOPLIMIT = 10
    INITCWND = 11
    FEATURES = 12
    RTO_MIN = 13
    INITRWND = 14
    QUICKACK = 15
    CC_ALGO = 16


SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254}
"""Scopes by name (RT_SCOPE_*)."""
_SCOPE_NOWHERE = 255
_PREFERENCES = {"medium": 0, "high": 1, "low": 3}
"""RFC 4191 section 2.1, as the kernel numbers them (ICMPV6_ROUTER_PREF_*)."""
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,2}", re.ASCII)
_CONGCTL = re.compile(r"[A-Za-z0-9_-]{1,15}", re.ASCII)
"""Names of TCP congestion control: TCP_CA_NAME_MAX with its final zero byte is 16."""
_DIGITS_MAX = 10
_BROADCAST = 0xFFFFFFFF
"""255.255.255.255; as an IPv6 address, ::255.255.255.255, it is no address of a host either."""
_U32_MAX = (1 << 32) - 1


class KernelAttributes(NamedTuple):
    """The attributes of a kernel route. A field at its default is an attribute that it lacks."""

    src: Address | None = None
    """Of the family of the route."""
    mtu: int = 0
    """Bytes; 0 for none, as for all metrics."""
    advmss: int = 0
    """Bytes."""
    window: int = 0
    """Bytes."""
    initcwnd: int = 0
    """Segments, as `initrwnd`."""
    initrwnd: int = 0
    hoplimit: int = 0
    rto_min_ms: int = 0
    quickack: int = 0
    """1: acknowledge at once."""
    congctl: Annotated[str, TextBytes(15)] = ""
    features: int = 0
    """1: ECN."""
    locked: int = 0
    """Metrics that the kernel may not change: 1 << RTAX_*."""
    scope: int | None = None
    """None: the scope that follows from type and next hops."""
    realm: int = 0
    """From << 16 | to."""
    pref: int = 0
    """As the kernel numbers them; 0 is medium."""
    tos: int = 0
    """Packets that the route is for; 0 for all."""

    @property
    def words(self) -> AttributeWords:
        """The same as words and texts, in the order of ATTRIBUTE_WORDS."""
        pairs = [(word, kind.write(self)) for word, kind in _KINDS.items()]
        return tuple((word, text) for word, text in pairs if text)

    def __str__(self) -> str:
        return " ".join(f"{word} {text}" for word, text in self.words)

    @property
    def has_metrics(self) -> bool:
        """Whether there is any of those that the kernel keeps as metrics of the route (RTAX_*)."""
        return any(getattr(self, field) for field in _RTAX_OF_FIELD)

    def problems_for(self, family: Family) -> Iterator[tuple[str, str]]:
        """Iterate over the words that a route of a family cannot have, and why."""
        if self.src is not None and self.src.family is not family:
            yield "src", f"{self.src} is not of the family of the prefix"
        for word, (only, fields) in _OF_ONE_FAMILY.items():
            if only is not family and any(getattr(self, name) != fields[name] for name in fields):
                yield word, f"is for {only.name.replace('IPV', 'IPv')} routes only"

    def overlaid(self, over: KernelAttributes, words: Iterable[str]) -> KernelAttributes:
        """Return these attributes with those of some words as `over` has them.

        Args:
            over: what replaces these attributes.
            words: the attributes that are replaced, also where `over` has the default.
        """
        changed = {name: getattr(over, name) for name in map(_field_of, words)}
        mask = sum(1 << _RTAX_OF_FIELD[name] for name in changed if name in _RTAX_OF_FIELD)
        locked = self.locked & ~mask | over.locked & mask
        return _changed(self, {**changed, "locked": locked})


def _field_of(word: str) -> str:
    return "rto_min_ms" if word == "rto_min" else word


def _changed(attributes: KernelAttributes, fields: Mapping[str, object]) -> KernelAttributes:
    return KernelAttributes(**{**attributes._asdict(), **fields})


NONE = KernelAttributes()
"""No attributes; a route has None instead."""

_RTAX_OF_FIELD = {
    "mtu": Rtax.MTU, "advmss": Rtax.ADVMSS, "window": Rtax.WINDOW, "initcwnd": Rtax.INITCWND,
    "initrwnd": Rtax.INITRWND, "hoplimit": Rtax.HOPLIMIT, "rto_min_ms": Rtax.RTO_MIN,
    "quickack": Rtax.QUICKACK, "congctl": Rtax.CC_ALGO, "features": Rtax.FEATURES,
}  # fmt: skip
_OF_ONE_FAMILY: dict[str, tuple[Family, dict[str, int | None]]] = {
    "tos": (Family.IPV4, {"tos": 0}),
    "scope": (Family.IPV4, {"scope": None}),
    "realm": (Family.IPV4, {"realm": 0}),
    "pref": (Family.IPV6, {"pref": 0}),
}
"""The family that has an attribute, and the fields of a route that lacks it."""


class _Kind(NamedTuple):
    """How an attribute is read and written."""

    read: Callable[[str], dict[str, object]]
    """Text to fields; ValueError says what is expected."""
    write: Callable[[KernelAttributes], str]
    """Its text; empty if there is no such attribute."""


def _number(text: str, low: int, high: int) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    if not is_number or not low <= int(text) <= high:
        raise ValueError(f"{low} to {high} is expected, not {text[:40]!r}")
    return int(text)


def _metric(
    field: str,
    read: Callable[[str], object],
    write: Callable[[int], str] = str,
    *,
    is_always_locked: bool = False,
) -> _Kind:
    """A metric that may be locked: `1400`, `lock 1400`."""
    bit = 1 << _RTAX_OF_FIELD[field]

    def read_text(text: str) -> dict[str, object]:
        word, _, rest = text.partition(" ")
        is_locked = word == "lock"
        if is_locked and not rest.strip():
            raise ValueError("a value after `lock` is expected, not the end")
        value = read(rest.strip() if is_locked else text)
        return {field: value, "locked": bit if value and (is_locked or is_always_locked) else 0}

    def write_text(attributes: KernelAttributes) -> str:
        value = getattr(attributes, field)
        is_shown = bool(attributes.locked & bit) and not is_always_locked
        return f"{'lock ' if is_shown else ''}{write(value)}" if value else ""

    return _Kind(read_text, write_text)


def _counted(field: str, low: int, high: int) -> _Kind:
    return _metric(field, lambda text: _number(text, low, high))


def _read_src(text: str) -> dict[str, object]:
    try:
        src = Address.parse(text)
    except ValueError:
        raise ValueError(f"an address of this host is expected, not {text[:40]!r}") from None
    if src.is_multicast or src.addr_bits in (0, _BROADCAST):
        raise ValueError(f"{src} cannot be the source of a packet")
    return {"src": src}


def _read_tos(text: str) -> dict[str, object]:
    # ip-route(8) reads `20` as 0x20, and YAML as 0x14: so the prefix is required.
    if (text != "0" and not _HEXADECIMAL.fullmatch(text)) or int(text, 16) & 3:
        raise ValueError(
            "0x00 to 0xfc in steps of 4 (the other bits are ECN), in hexadecimal with 0x, is "
            f"expected, not {text[:40]!r}"
        )
    return {"tos": int(text, 16)}


def _read_scope(text: str) -> dict[str, object]:
    scope = SCOPES.get(text)
    if scope is None:
        try:
            scope = _number(text, 0, _SCOPE_NOWHERE - 1)
        except ValueError:
            raise ValueError(
                f"{', '.join(SCOPES)} or 0 to 254 is expected, not {text[:40]!r}"
            ) from None
    return {"scope": scope}


def _write_scope(attributes: KernelAttributes) -> str:
    names = {number: name for name, number in SCOPES.items()}
    scope = attributes.scope
    return "" if scope is None else names.get(scope, str(scope))


def _read_realm(text: str) -> dict[str, object]:
    source, slash, destination = text.rpartition("/")
    try:
        numbers = [_number(part, 0, 0xFFFF) for part in ([source] if slash else []) + [destination]]
    except ValueError:
        numbers = []
    if not numbers or not any(numbers):
        raise ValueError(
            f"[FROM/]TO, each 0 to 65535 and not both 0, is expected, not {text[:40]!r}"
        )
    return {"realm": numbers[0] << 16 | numbers[-1] if slash else numbers[0]}


def _write_realm(attributes: KernelAttributes) -> str:
    source, destination = attributes.realm >> 16, attributes.realm & 0xFFFF
    return f"{source}/{destination}" if source else str(destination or "")


def _read_pref(text: str) -> dict[str, object]:
    if text not in _PREFERENCES:
        raise ValueError(f"low, medium or high is expected, not {text[:40]!r}")
    return {"pref": _PREFERENCES[text]}


def _write_pref(attributes: KernelAttributes) -> str:
    return {number: word for word, number in _PREFERENCES.items() if number}.get(
        attributes.pref, ""
    )


_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|)", re.ASCII)
_RTO_MIN_MS_MAX = 120_000
"""TCP_RTO_MAX of Linux."""


def _read_rto_min(text: str) -> int:
    match = _DURATION.fullmatch(text)
    # Without a unit: milliseconds, as ip-route(8) reads it.
    milliseconds = float(match[1]) * (1000 if match[2] == "s" else 1) if match else 0.0
    if not 1 <= milliseconds <= _RTO_MIN_MS_MAX or milliseconds % 1:
        raise ValueError(f"1ms to 120s, in whole ms, is expected, not {text[:40]!r}")
    return int(milliseconds)


def _read_quickack(text: str) -> int:
    if text not in _FLAGS:
        raise ValueError(f"true or false (1 or 0) is expected, not {text[:40]!r}")
    return _FLAGS[text]


_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}


def _read_congctl(text: str) -> str:
    if not _CONGCTL.fullmatch(text):
        raise ValueError(f"the name of a TCP congestion control is expected, not {text[:40]!r}")
    return text


def _read_features(text: str) -> int:
    if text != "ecn":
        raise ValueError(f"ecn is expected, not {text[:40]!r}")
    return 1


_KINDS: dict[str, _Kind] = {
    "src": _Kind(_read_src, lambda attributes: str(attributes.src or "")),
    "tos": _Kind(_read_tos, lambda attributes: f"{attributes.tos:#04x}" if attributes.tos else ""),
    "scope": _Kind(_read_scope, _write_scope),
    "realm": _Kind(_read_realm, _write_realm),
    "mtu": _counted("mtu", 68, 65_520),
    "advmss": _counted("advmss", 1, 65_495),
    "window": _counted("window", 1, _U32_MAX),
    "initcwnd": _counted("initcwnd", 1, _U32_MAX),
    "initrwnd": _counted("initrwnd", 1, _U32_MAX),
    "hoplimit": _counted("hoplimit", 1, 255),
    # The kernel uses the minimum only if it is locked (tcp_rto_min); `ip route` locks it, too.
    "rto_min": _metric("rto_min_ms", _read_rto_min, lambda ms: f"{ms}ms", is_always_locked=True),
    "quickack": _metric("quickack", _read_quickack),
    "congctl": _metric("congctl", _read_congctl),
    "features": _metric("features", _read_features, lambda _bits: "ecn"),
    "pref": _Kind(_read_pref, _write_pref),
}

ATTRIBUTE_WORDS: tuple[str, ...] = tuple(_KINDS)
"""Every word, in the order in which they are shown."""


@functools.lru_cache(maxsize=4096)
def attributes_of(words: AttributeWords) -> KernelAttributes | None:
    """Return the attributes that words and texts stand for; None if there are none.

    Args:
        words: each word once.

    Raises:
        ValueError: a word that is not known, is given twice, or has a text out of its range.

    Cost: 2 us for each word the first time, then a look-up.
    """
    found = NONE
    seen: set[str] = set()
    for word, text in words:
        if word not in _KINDS:
            raise ValueError(f"{word[:40]!r} is no attribute of a route")
        if word in seen:
            raise ValueError(f"`{word}` is given twice")
        seen.add(word)
        fields = _fields(word, text)
        locked = fields.pop("locked", 0)
        assert isinstance(locked, int)
        found = _changed(found, {**fields, "locked": found.locked | locked})
    return None if found == NONE else found


def _fields(word: str, text: str) -> dict[str, object]:
    try:
        return _KINDS[word].read(text)
    except ValueError as error:
        raise ValueError(f"{word}: {error}") from None


def canonical_text(word: str, text: str) -> str:
    """Return the text of one attribute as `words` writes it; itself if it stands for none.

    Raises:
        ValueError: what is expected; the word is not named.
    """
    found = _changed(NONE, _KINDS[word].read(text))
    return _KINDS[word].write(found) or text


def written(attributes: KernelAttributes | None) -> Iterable[tuple[str, str]]:
    """Return words and texts; none for None."""
    return () if attributes is None else attributes.words
