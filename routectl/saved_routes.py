"""Routes that iproute2 saved, as lines of `ip route`: from its JSON and from its binary files.

    ip route                        text        passed through
    ip -j route show table all      JSON        an array of objects, decoded one by one
    ip route save table all         binary      a magic number, then RTM_NEWROUTE messages

Both forms become the line that `ip -o route` would print, and `routectl/iproute.py` reads that:
what a route may have is decided in one place. A binary file names links by index; the names are
those of this network namespace, as for `ip route restore`.

Failure: a route that cannot be read becomes a line that begins with UNREADABLE, so it is reported
as any other wrong line. A file that ends within a route, or is not what its first bytes promise,
ends with such a line.
Bounds: OBJECT_CHARACTERS_MAX of one JSON object, MESSAGE_BYTES_MAX of one message; the whole file
is never in memory.

Sources: iproute_dump_magic, save_route and print_route in ip/iproute.c of iproute2.
"""

from __future__ import annotations

import codecs
import itertools
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from routed.netlink.message import (
    NLMSG_HEADER,
    RTM_NEWROUTE,
    NetlinkDecodeError,
)
from routed.netlink.route_message import decode_route_message, route_words

__all__ = ["UNREADABLE", "RouteLines", "read_lines"]

OBJECT_CHARACTERS_MAX = 256 * 1024
MESSAGE_BYTES_MAX = 64 * 1024
_CHUNK_BYTES = 64 * 1024

UNREADABLE = b"?unreadable? "
"""First word of a line in place of a route that cannot be read; the reason follows."""

_MAGIC_BYTES = 4
_MAGIC = 0x4531_1224

_NAMES = {
    "gateway": "via", "protocol": "proto", "prefsrc": "src", "src": "from",
    "ttl-propogate": "ttl-propagate",
}  # fmt: skip
"""Keys of JSON that differ from the word in the text."""
_INFORMATION = {"nh_info", "cache", "deleted"}


class RouteLines(NamedTuple):
    """The routes of a file."""

    unit: str
    """What a number of a route counts: `line` or `route`."""
    lines: Iterable[bytes]


def read_lines(source: BinaryIO) -> RouteLines:
    """Detect the form of a file. Returns its routes as lines of `ip route`.

    The lines raise OSError if the file cannot be read to its end.

    Raises:
        OSError: the file cannot be read.
    """
    head = source.read(_MAGIC_BYTES)
    if len(head) == _MAGIC_BYTES and _MAGIC in (
        int.from_bytes(head, "little"), int.from_bytes(head, "big")
    ):  # fmt: skip
        if int.from_bytes(head, _BYTE_ORDER) != _MAGIC:
            return RouteLines("route", [_unreadable("a file of a machine of another byte order")])
        return RouteLines("route", _binary_lines(source, _link_name))
    if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        return RouteLines("route", _json_lines(head, source))
    first = (head + source.readline()).splitlines(keepends=True)
    return RouteLines("line", itertools.chain(first, source))


_BYTE_ORDER: Any = "little" if NLMSG_HEADER.pack(1, 0, 0, 0, 0)[0] == 1 else "big"


def _unreadable(reason: str) -> bytes:
    return UNREADABLE + " ".join(reason.split()).encode("utf-8", "backslashreplace")


def _link_name(ifindex: int) -> str:
    """Return the name of a link of this network namespace.

    Raises:
        ValueError: there is none.
    """
    try:
        return socket.if_indextoname(ifindex)
    except (OSError, OverflowError):  # a file may have a number that no index can be
        raise ValueError(f"there is no interface with the index {ifindex} here") from None


def _binary_lines(source: BinaryIO, name_of: Callable[[int], str]) -> Iterator[bytes]:
    while header := source.read(NLMSG_HEADER.size):
        if len(header) < NLMSG_HEADER.size:
            yield _unreadable("the file ends within a route")
            return
        length, kind, _, _, _ = NLMSG_HEADER.unpack(header)
        if not NLMSG_HEADER.size <= length <= MESSAGE_BYTES_MAX:
            yield _unreadable(f"a message of {length} bytes: the rest of the file is not read")
            return
        payload = source.read(length - NLMSG_HEADER.size)
        if len(payload) < length - NLMSG_HEADER.size:
            yield _unreadable("the file ends within a route")
            return
        source.read(-length % 4)
        if kind == RTM_NEWROUTE:
            yield _binary_line(payload, name_of)


def _binary_line(payload: bytes, name_of: Callable[[int], str]) -> bytes:
    try:
        route = decode_route_message(payload)
        if route is None:
            return _unreadable("a route of a family other than IPv4 and IPv6")
        return route_words(route, name_of).encode("utf-8", "backslashreplace")
    except (NetlinkDecodeError, ValueError) as error:
        return _unreadable(str(error))


def _json_lines(head: bytes, source: BinaryIO) -> Iterator[bytes]:
    try:
        for value in _json_objects(head, source):
            yield _json_line(value)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deep"
        yield _unreadable(f"{reason}: the rest of the file is not read")


def _json_objects(head: bytes, source: BinaryIO) -> Iterator[object]:
    """Iterate over the items of an array, and hold no more than one of them.

    Raises:
        ValueError: no JSON, an item that is too long, or the end within the array.
    """
    decoder = json.JSONDecoder()
    # A byte that is no UTF-8 belongs to one name: the route that has it is unreadable, no other.
    text = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    buffer, is_open = text.decode(head).lstrip()[1:], True
    while True:
        buffer = buffer.lstrip(" \t\r\n,")
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
        except json.JSONDecodeError as error:
            if not is_open:
                raise ValueError(f"no JSON of `ip -j route`: {error.msg}") from error
            if len(buffer) > OBJECT_CHARACTERS_MAX:
                raise ValueError("an item of the array is too long, or is no JSON") from error
        else:
            yield value
            buffer = buffer[end:]
            continue
        chunk = source.read(_CHUNK_BYTES)
        is_open = bool(chunk)
        buffer += text.decode(chunk, final=not chunk)


def _json_line(value: object) -> bytes:
    try:
        if not isinstance(value, dict) or not isinstance(value.get("dst"), str):
            raise ValueError("an item without `dst` is no route")
        words = [] if "type" not in value else [_word(value["type"])]
        words += [_word(value["dst"]), *_json_words(value, {"dst", "type"})]
    except ValueError as error:
        return _unreadable(str(error))
    return " ".join(words).encode("utf-8", "backslashreplace")


def _json_words(fields: dict[str, Any], apart: set[str]) -> Iterator[str]:
    """Iterate over the words of a route or of one of its next hops."""
    for key, value in fields.items():
        if key in apart or key in _INFORMATION:
            continue
        match key, value:
            case "flags", list():
                yield from map(_word, value)
            case "metrics", list():
                for metrics in value:
                    yield from _json_words(_mapping(metrics), set())
            case "nexthops", list():
                pass  # at the end, as in the text
            case ("flow", dict()):
                realms = [_word(value[name]) for name in ("from", "to") if name in value]
                yield f"realms {'/'.join(realms)}"
            case ("ecn" | "tcp_usec_ts", None):
                yield f"features {key}"
            case "via", dict():
                yield f"via {_word(value.get('family'))} {_word(value.get('host'))}"
            case _:
                word = _word(_NAMES.get(key, key))
                if isinstance(value, bool) or not isinstance(value, str | int):
                    raise ValueError(f"{word} is neither a text nor a number")
                yield f"{word} {_word(value, is_name=key == 'dev')}"
    if isinstance(fields.get("nexthops"), list):
        for hop in fields["nexthops"]:
            yield "nexthop"
            yield from _json_words(_mapping(hop), {"nexthops"})


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a list of a route has an item that is no object")
    return value


def _word(value: object, *, is_name: bool = False) -> str:
    """Convert a scalar to a word.

    Args:
        value: the scalar.
        is_name: whether it is the name of an interface, which may begin as a comment does.

    Raises:
        ValueError: it is none, such as a text with a blank in it.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("a field of a route is neither a text nor a number")
    text = str(value)
    if text.split() != [text] or not text.isprintable() or (text[0] in "#;" and not is_name):
        raise ValueError("a text of a route is empty, or has blanks or control characters")
    return text
