"""Types and kernel attributes of routes, as options: of static routes, and of the kernel filter.

The words and their values are those of ip-route(8); `routed/model/kernel_attributes.py` reads and
writes them. A value is kept as its canonical text, so an attribute is written as it was read.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Iterator
from typing import Any

from ipc.lazy_dataclass import dataclass
from routed.config.options import Scalar, option
from routed.config.scalars import Reader
from routed.model.kernel_attributes import KernelAttributes, attributes_of, canonical_text
from routed.model.route import RouteType

__all__ = ["AttributesConfig", "StaticType"]


class StaticType(enum.Enum):
    """The types of a static route, as `ip route` names them."""

    UNICAST = "unicast"
    LOCAL = "local"
    BROADCAST = "broadcast"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"
    THROW = "throw"

    @property
    def route_type(self) -> RouteType:
        """The kernel's number of the type."""
        return RouteType[self.name]


def _word(name: str, doc: str, *schemas: dict[str, Any]) -> Any:
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    reader = Reader(functools.partial(canonical_text, name), schema)
    return option(Scalar(reader), doc, default=None)


def _integer(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


def _metric(name: str, doc: str, low: int, high: int) -> Any:
    locked = {"type": "string", "pattern": "^lock [0-9]+$"}
    return _word(name, doc, _integer(low, high), locked)


_U32_MAX = 2**32 - 1
_TEXT = {"type": "string"}


@dataclass(frozen=True, slots=True)
class AttributesConfig:
    """Attributes of a route in the kernel, by their words; None for each that is not given."""

    src: str | None = _word(
        "src",
        "Source address of packets that this host sends along the route. While it is not an "
        "address of this host, the route waits for it.",
        _TEXT,
    )
    tos: str | None = _word(
        "tos",
        "IPv4 only: the route is for packets with this TOS (`0x10`). A prefix has one route, for "
        "all packets or for one TOS; several need policy rules.",
        # An editor reads `0x10` as a number, too.
        _integer(0, 252),
        {"type": "string", "pattern": "^0x[0-9a-fA-F]{1,2}$"},
    )
    scope: str | None = _word(
        "scope",
        "IPv4 only: the scope of the destination (`global`, `site`, `link`, `host` or a number); "
        "by default it follows from type and next hops.",
        {"enum": ["global", "site", "link", "host"]},
        _integer(0, 254),
    )
    realm: str | None = _word(
        "realm",
        "IPv4 only: realms of the route, `[FROM/]TO`. The next hops are written into the route.",
        _integer(1, 65_535),
        _TEXT,
    )
    mtu: str | None = _metric(
        "mtu",
        "MTU of the path in bytes; `lock 1400` keeps the kernel from lowering it (path MTU "
        "discovery).",
        68,
        65_520,
    )
    advmss: str | None = _metric(
        "advmss", "Largest TCP segment that this host advertises, in bytes.", 1, 65_495
    )
    window: str | None = _metric(
        "window", "Largest TCP window that this host advertises, in bytes.", 1, _U32_MAX
    )
    initcwnd: str | None = _metric(
        "initcwnd", "Initial congestion window of TCP, in segments.", 1, _U32_MAX
    )
    initrwnd: str | None = _metric(
        "initrwnd", "Initial receive window of TCP, in segments.", 1, _U32_MAX
    )
    hoplimit: str | None = _metric("hoplimit", "Hop limit (TTL) of packets.", 1, 255)
    rto_min: str | None = _word(
        "rto_min", "Shortest retransmission timeout of TCP, such as `200ms`.", _TEXT
    )
    quickack: str | None = _word(
        "quickack", "Whether TCP acknowledges at once.", {"type": "boolean"}, _integer(0, 1)
    )
    congctl: str | None = _word(
        "congctl",
        "Congestion control of TCP by its name; `lock NAME` keeps programs from changing it.",
        _TEXT,
    )
    features: str | None = _word(
        "features", "`ecn`: use explicit congestion notification.", {"enum": ["ecn"]}
    )
    pref: str | None = _word(
        "pref",
        "IPv6 only: preference among routers (RFC 4191), `low`, `medium` or `high`.",
        {"enum": ["low", "medium", "high"]},
    )

    @property
    def kernel_attributes(self) -> KernelAttributes | None:
        """The same for the RIB; None if no value differs from its default."""
        return attributes_of(tuple(self._given()))

    @property
    def words(self) -> tuple[str, ...]:
        """The words that are given, also with their default."""
        return tuple(word for word, _ in self._given())

    def _given(self) -> Iterator[tuple[str, str]]:
        for field in dataclasses.fields(self):
            text = getattr(self, field.name)
            if text is not None:
                yield field.name, text
