"""Readers of YAML scalars: each converts the text of a scalar to a value of one type.

The implicit types of YAML are not used: in YAML 1.1 `no` is False, `010` is 8 and `2001:10:20:30`
is the number 432253230. A reader gets the characters as written. It returns a value, or raises
ValueError with a message for the user who edits the file, which says what was expected.

Each reader has the JSON Schema of the values that it accepts, for editors.
"""

from __future__ import annotations

import datetime
import difflib
import enum
import grp
import os
import pwd
import re
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Family, Prefix
from routed.model.rule import ANY_MARK

__all__ = [
    "EngineUser",
    "ListenAddress",
    "PrefixMatch",
    "Principal",
    "PrincipalKind",
    "Reader",
    "absolute_path",
    "address",
    "boolean",
    "choice",
    "duration",
    "engine_user",
    "file_path",
    "gateway",
    "interface_name",
    "interface_pattern",
    "is_accepted",
    "listen_address",
    "moment",
    "next_hop_link",
    "prefix",
    "prefix_match",
    "principal",
    "router_id",
    "socket_path",
    "whole_number",
    "word",
]

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)

_IFNAME_MAX = 15
"""IFNAMSIZ - 1 of Linux."""


@dataclass(frozen=True, slots=True)
class Reader(Generic[T]):
    """A kind of scalar: how to read and write it."""

    read: Callable[[str], T]
    """Converts text to a value; raises ValueError with a message for the user."""
    schema: dict[str, Any]
    """The JSON Schema of the accepted values."""
    write: Callable[[T], str] = str
    """Converts a value to a text that `read` converts to the same value."""


class PrincipalKind(enum.Enum):
    """The kinds of principals."""

    USER = "user"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Principal:
    """A user or group with access to the management socket."""

    kind: PrincipalKind
    id: int
    """A uid or a gid."""
    name: str
    """The text in the configuration."""


@dataclass(frozen=True, slots=True)
class EngineUser:
    """The user that the engine runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address of a listening stream socket: a path, or a port of a loopback address."""

    path: str
    """Path of a Unix socket; empty for a TCP port."""
    host: str
    port: int

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """A set of prefixes: those inside `prefix` whose length is from `ge` to `le`."""

    prefix: Prefix
    ge: int
    le: int

    def matches(self, candidate: Prefix) -> bool:
        """Whether the candidate is in the set."""
        return self.ge <= candidate.prefix_len <= self.le and self.prefix.covers(candidate)

    def __str__(self) -> str:
        if self.ge == self.le == self.prefix.prefix_len:
            return str(self.prefix)
        return f"{self.prefix} ge {self.ge} le {self.le}"


def is_accepted(matches: tuple[PrefixMatch, ...], prefix: Prefix) -> bool:
    """Whether a prefix is in any set of a list; an empty list accepts every prefix."""
    return not matches or any(match.matches(prefix) for match in matches)


_DIGITS_MAX = 20
"""The most characters of a number, with its sign; `int` refuses some thousands of digits."""


def whole_number(low: int, high: int) -> Reader[int]:
    """Create a reader of decimal numbers in a range, both ends included."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[-+]?[0-9]+", text):
            raise ValueError(f"expected a whole number from {low} to {high}, got {text!r}")
        if len(text) > _DIGITS_MAX:
            raise ValueError(f"{text} is outside {low} to {high}")
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"{value} is outside {low} to {high}")
        return value

    return Reader(read, {"type": "integer", "minimum": low, "maximum": high})


def choice(kind: type[E], *, refuse: dict[str, str] | None = None) -> Reader[E]:
    """Create a reader of an enumeration's values; `refuse` maps refused values to a message."""
    members = {member.value: member for member in kind if member.value not in (refuse or {})}
    words = list(members)

    def read(text: str) -> E:
        if refuse and text in refuse:
            raise ValueError(refuse[text])
        if text not in members:
            near = difflib.get_close_matches(text, words, 1)
            if _SYNONYMS.get(text) in words:
                near = [_SYNONYMS[text]]
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"expected {_alternatives(words)}, got {text!r}{hint}")
        return members[text]

    return Reader(read, {"enum": words}, lambda member: str(member.value))


_SYNONYMS = {
    "reject": "deny", "drop": "deny", "block": "deny", "permit": "accept", "allow": "accept",
    "null": "blackhole", "Null0": "blackhole", "discard": "blackhole", "remove": "flush",
    "warn": "warning", "verbose": "debug",
}  # fmt: skip
"""Terms of other programs, with the value that has the same meaning here."""


def _alternatives(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


_DURATION_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(low_s: float, high_s: float) -> Reader[float]:
    """Create a reader of durations in seconds: a number with a unit, as 300ms, 1.5s, 5m or 1h."""

    def read(text: str) -> float:
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
        if not found:
            hint = f"; perhaps {text}s" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else ""
            raise ValueError(f"expected a duration such as 500ms, 10s or 5m, got {text!r}{hint}")
        seconds = float(found[1]) * _DURATION_UNITS[found[2]]
        if not low_s <= seconds <= high_s:
            raise ValueError(f"{text} is outside {low_s:g}s to {high_s:g}s")
        return seconds

    schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"}
    return Reader(read, schema, _write_duration)


def _write_duration(seconds: float) -> str:
    if 0 < seconds < 1:
        return f"{seconds * 1e3:.6f}".rstrip("0").rstrip(".") + "ms"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _read_boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"expected true or false, got {text!r}")
    return text == "true"


boolean = Reader(_read_boolean, {"type": "boolean"}, lambda value: "true" if value else "false")

_ADDRESS_SCHEMA = {"type": "string", "pattern": r"^[0-9a-fA-F.:]+$"}

address = Reader(Address.parse, _ADDRESS_SCHEMA)


def _read_gateway(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        hint = "; the name of a link goes into `dev`" if _LIKE_A_LINK.fullmatch(text) else ""
        raise ValueError(f"{error}{hint}") from None


_LIKE_A_LINK = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,14}")

gateway = Reader(_read_gateway, _ADDRESS_SCHEMA)
"""An address; a text that looks like the name of a link gets a hint."""


def _read_prefix(text: str) -> Prefix:
    if "/" not in text:
        hint = "like 10.0.0.0/8"
        if text in ("default", "any"):
            hint = "0.0.0.0/0, or '::/0' for IPv6"
        raise ValueError(f"{text!r} is not an IP prefix ({hint})")
    return Prefix.parse(text)


prefix = Reader(_read_prefix, {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"})


_FIRST_MULTICAST_BITS = 0xE000_0000


def _read_router_id(text: str) -> Address:
    try:
        value = Address.parse(text)
    except ValueError:
        value = None
    is_unicast = (
        value is not None
        and value.family is Family.IPV4
        and 0 < value.addr_bits < _FIRST_MULTICAST_BITS
    )
    if value is None or not is_unicast:
        raise ValueError(
            f"expected four numbers, such as 10.255.0.1 (0.0.0.0, and 224.0.0.0 and above, "
            f"are not allowed), got {text!r}"
        )
    return value


router_id = Reader(_read_router_id, {"type": "string", "format": "ipv4"})


class FirewallMark(NamedTuple):
    """A firewall mark, and the mask of the bits that are compared."""

    mark: int
    mask: int


def _read_fwmark(text: str) -> FirewallMark:
    mark_text, slash, mask_text = text.partition("/")
    try:
        mark = int(mark_text, 0)
        mask = int(mask_text, 0) if slash else ANY_MARK
    except ValueError:
        raise ValueError(f"expected a mark such as 7, 0x10 or 0x10/0xff, got {text!r}") from None
    if not 0 <= mark <= ANY_MARK or not 1 <= mask <= ANY_MARK:
        raise ValueError(f"a mark has 32 bits, and its mask must not be zero, got {text!r}")
    if mark & ~mask:
        raise ValueError(f"{text}: the mark has bits outside its mask and can never match")
    return FirewallMark(mark, mask)


fwmark = Reader(
    _read_fwmark,
    {"type": ["string", "integer"]},
    lambda mark: f"{mark.mark:#x}" + ("" if mark.mask == ANY_MARK else f"/{mark.mask:#x}"),
)


_PROTOCOLS = {
    "redirect": 1, "kernel": 2, "boot": 3, "static": 4, "ra": 9, "zebra": 11, "bird": 12,
    "dhcp": 16, "keepalived": 18, "babel": 42, "openr": 99, "bgp": 186, "isis": 187, "ospf": 188,
    "rip": 189, "eigrp": 192,
}  # fmt: skip
"""Routing protocols (RTPROT_* in linux/rtnetlink.h), by the names that `ip route` prints."""


def _read_route_protocol(text: str) -> int:
    number = _PROTOCOLS.get(text)
    if number is None and re.fullmatch(r"[0-9]{1,3}", text) and 1 <= int(text) <= 255:
        number = int(text)
    if number is None:
        known = ", ".join(_PROTOCOLS)
        raise ValueError(f"expected a number from 1 to 255 or one of {known}; got {text!r}")
    return number


route_protocol = Reader(
    _read_route_protocol,
    {"anyOf": [{"enum": list(_PROTOCOLS)}, {"type": "integer", "minimum": 1, "maximum": 255}]},
)


_NEVER_IN_A_NAME = frozenset(b"/:\0 \t\n\v\f\r\xa0")
"""Bytes that Linux allows in no interface name (dev_valid_name, net/core/dev.c). The kernel's
isspace() includes a0, which is the second byte of some letters."""


def _read_interface_name(text: str) -> str:
    if _is_address(text):
        raise ValueError(f"{text!r} is an address; expected the name of an interface")
    name = os.fsencode(text)
    if not 0 < len(name) <= _IFNAME_MAX or _NEVER_IN_A_NAME & set(name) or name in (b".", b".."):
        raise ValueError(
            f"{text!r} cannot be an interface name (1 to 15 bytes, no / or : or space)"
        )
    return text


def _is_address(text: str) -> bool:
    try:
        Address.parse(text)
    except ValueError:
        return False
    return True


def _read_next_hop_link(text: str) -> str:
    if _is_address(text):
        raise ValueError(
            f"{text!r} is an address, which belongs in `via`; `dev` names an interface"
        )
    return _read_interface_name(text)


next_hop_link = Reader(_read_next_hop_link, {"type": "string", "maxLength": _IFNAME_MAX})
"""The name of a link; an address gets a hint."""

interface_name = Reader(_read_interface_name, {"type": "string", "maxLength": _IFNAME_MAX})

interface_pattern = Reader(_read_interface_name, {"type": "string", "maxLength": _IFNAME_MAX})


def _read_path(text: str) -> str:
    if not os.path.isabs(text):
        raise ValueError(f"expected an absolute path, got {text!r}")
    if len(os.fsencode(text)) > 4000 or "\0" in text:
        raise ValueError("the path is too long, or has a zero byte")
    return os.path.normpath(text)


def _read_file_path(text: str) -> str:
    if not text or "\0" in text or len(os.fsencode(text)) > 4000:
        raise ValueError("expected a path")
    return os.path.normpath(text)


file_path = Reader(_read_file_path, {"type": "string"})


def _read_word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise ValueError(f"expected a name (letters, digits, _ . -), got {text!r}")
    return text


word = Reader(_read_word, {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"})


def _read_moment(text: str) -> float:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None  # reported below, with an example
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"expected a time with its zone such as 2027-01-31T06:00:00Z, got {text!r}"
        )
    return moment.timestamp()


def _write_moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


moment = Reader(_read_moment, {"type": "string", "format": "date-time"}, _write_moment)
"""A point in time, in seconds since 1970."""

absolute_path = Reader(_read_path, {"type": "string", "pattern": "^/"})

_UNIX_PATH_MAX = 103
"""The most bytes of a path: sizeof(sun_path) - 1 of unix(7), less the suffix of a socket while it
is created (`routed.parent.listeners`)."""


def _read_socket_path(text: str) -> str:
    path = _read_path(text)
    if len(os.fsencode(path)) > _UNIX_PATH_MAX:
        raise ValueError(f"a Unix socket path has at most {_UNIX_PATH_MAX} bytes")
    return path


socket_path = Reader(_read_socket_path, {"type": "string", "pattern": "^/"})


def _read_listen_address(text: str) -> ListenAddress:
    if text.startswith("unix:"):
        return ListenAddress(_read_socket_path(text.removeprefix("unix:")), "", 0)
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", text)
    if not found or not 1 <= int(found[3]) <= 65_535:
        raise ValueError(f"expected unix:/path, 127.0.0.1:PORT or [::1]:PORT, got {text!r}")
    host = Address.parse(found[1] or found[2])
    if not host.is_loopback:
        raise ValueError(
            f"{host} is not a loopback address, and any client that can connect may read the "
            f"metrics: listen on 127.0.0.1:{found[3]} or unix:/path, and let a proxy with access "
            "control serve other machines"
        )
    return ListenAddress("", str(host), int(found[3]))


listen_address = Reader(
    _read_listen_address,
    {"type": "string", "examples": ["unix:/run/routed/metrics.sock", "127.0.0.1:9705"]},
)


_ROOT = "root"
"""The user 0 of the kernel, accepted even without /etc/passwd (a container with routed alone)."""

_UID_MAX = 0xFFFF_FFFE
"""The highest uid; a uid with all bits set means "none" to the kernel."""


def _read_principal(text: str) -> Principal:
    kind_text, colon, name = text.rpartition(":")
    if colon and kind_text not in ("user", "group"):
        raise ValueError(f"expected NAME, user:NAME or group:NAME, got {text!r}")
    kind = PrincipalKind(kind_text or "user")
    if name.isascii() and name.isdigit():
        return Principal(kind, int(name), text)
    try:
        number = pwd.getpwnam(name).pw_uid if kind is PrincipalKind.USER else _group_id(name)
    except KeyError:
        if name == _ROOT:
            return Principal(kind, 0, text)
        hint = "" if colon or not _is_group(name) else f"; for the group write group:{name}"
        raise ValueError(f"this system has no {kind.value} {name!r}{hint}") from None
    return Principal(kind, number, text)


def _is_group(name: str) -> bool:
    try:
        _group_id(name)
    except KeyError:
        return False
    return True


def _group_id(name: str) -> int:
    return grp.getgrnam(name).gr_gid


principal = Reader(
    _read_principal,
    {"type": "string", "examples": ["root", "user:noc", "group:netdev"]},
    lambda who: who.name,
)


def _read_engine_user(text: str) -> EngineUser:
    try:
        entry = pwd.getpwnam(text)
    except KeyError:
        if text == _ROOT:
            return EngineUser(text, 0, 0)
        if text.isascii() and text.isdigit() and int(text) <= _UID_MAX:
            return _user_by_number(int(text))
        raise ValueError(
            f"this system has no user {text!r}; create it "
            f"(useradd --system --no-create-home --shell /usr/sbin/nologin {text}) "
            "or name another user that no other service runs as"
        ) from None
    return EngineUser(text, entry.pw_uid, entry.pw_gid)


def _user_by_number(uid: int) -> EngineUser:
    """Create an engine user from a uid; if the uid has no name here, the gid is the same number."""
    try:
        return EngineUser(str(uid), uid, pwd.getpwuid(uid).pw_gid)
    except KeyError:
        return EngineUser(str(uid), uid, uid)


engine_user = Reader(_read_engine_user, {"type": "string"}, lambda user: user.name)


def _read_prefix_match(text: str) -> PrefixMatch:
    words = text.split()
    if found := _BIRD_MATCH.fullmatch(text):
        raise ValueError(f"{text!r} is BIRD's notation; write {_ours(*found.groups())!r}")
    if not words or len(words) not in (1, 3, 5):
        raise ValueError(f"expected PREFIX [ge LENGTH] [le LENGTH], got {text!r}")
    base = _read_prefix(words[0])
    width = base.family.width
    bounds: dict[str, int] = {}
    for word, number in zip(words[1::2], words[2::2], strict=True):
        if word not in ("ge", "le") or word in bounds or not re.fullmatch(r"[0-9]+", number):
            raise ValueError(f"expected PREFIX [ge LENGTH] [le LENGTH], got {text!r}")
        bounds[word] = int(number)
    low = bounds.get("ge", base.prefix_len)
    # With `ge` alone there is no upper bound; without both only the prefix itself matches.
    high = bounds.get("le", width if "ge" in bounds else base.prefix_len)
    if not base.prefix_len <= low <= high <= width:
        raise ValueError(
            f"lengths must satisfy {base.prefix_len} <= ge <= le <= {width}, got {text!r}"
        )
    return PrefixMatch(base, low, high)


_BIRD_MATCH = re.compile(r"([0-9a-fA-F.:]+/[0-9]+)(?:\{([0-9]+),([0-9]+)\}|\+)")


def _ours(base: str, low: str | None, high: str | None) -> str:
    if low is None:
        return f"{base} le {128 if ':' in base else 32}"
    return f"{base} ge {low} le {high}"


prefix_match = Reader(
    _read_prefix_match,
    {"type": "string", "examples": ["10.255.0.0/16 ge 32", "2001:db8::/32 ge 48 le 64"]},
)
