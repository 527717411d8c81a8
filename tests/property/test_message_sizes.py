"""No message is too long for a frame: every class of both channels with its largest values, in
both directions.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import msgpack
import pytest

from ipc import control
from ipc.codec import CodecError, decode, encode, worst_bytes
from ipc.control import PAGE_BYTES, REQUEST_CLASSES, ROW_BYTES_MAX, Result, ResultCode, Rows
from ipc.framing import (
    CONTROL_FRAME_MAX_BYTES,
    FRAME_HEADER_BYTES,
    INTERNAL_FRAME_MAX_BYTES,
    pack_frame,
    unpack_frame,
)
from routed.control.changes import ChangeView
from routed.control.injection import InjectionRefusal
from routed.control.rows import columns_of, pack_pages
from routed.control.session import pack_result
from routed.control.views import VIEW_CLASSES
from routed.engine.fib.desired import UPDATE_ROUTES_MAX, DesiredFib, DesiredRoute
from routed.imsg.authority import AUTHORITY, ImsgType
from routed.imsg.dataplane import DataplaneChanged
from routed.imsg.frames import BODY_BYTES_MAX, Divisible, frames_of, frames_or_problem
from routed.imsg.messages import (
    ConfSecrets,
    FibUpdate,
    LinkChanged,
    NextHopsReported,
    RoutesImported,
    RulesChanged,
)
from routed.model.fib import FibCounters
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, NextHop, RouteType
from tests.fakes.worst_messages import TEXTS, worst

KEPT_SHORT_BY_THEIR_SENDER = {ImsgType.FIB_UPDATE}
"""Classes without a bound of their own; each has a test of its sender below."""

MESSAGE_TYPES = [kind for kind in ImsgType if kind not in KEPT_SHORT_BY_THEIR_SENDER]

PARTS: dict[type, tuple[str, ...]] = {
    ConfSecrets: ("secrets",),
    LinkChanged: ("link.addresses",),
    NextHopsReported: ("objects",),
    RoutesImported: ("install", "remove"),
    RulesChanged: ("rules",),
    DataplaneChanged: ("attachments",),
}
"""The fields that are divided when a message is."""


def lists_of(message: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for path in PARTS[type(message)]:
        value = message
        for name in path.split("."):
            value = getattr(value, name)
        found.append(value)
    return found


def received(message: object) -> list[Any]:
    """Return what the other end decodes; every frame is within the limit."""
    found: list[Any] = []
    for frame in frames_of(message, 7):
        packed = pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)
        back = unpack_frame(packed, INTERNAL_FRAME_MAX_BYTES)
        found.append(decode(AUTHORITY[ImsgType(back.type)].message, back.body))
    return found


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_every_message_has_a_largest_size_or_can_be_divided(kind: ImsgType) -> None:
    message = AUTHORITY[kind].message
    size = worst_bytes(message)  # raises where a field has no bound
    assert size <= BODY_BYTES_MAX or issubclass(message, Divisible)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_the_largest_of_every_message_fits_its_frames(kind: ImsgType, text: str) -> None:
    message = worst(AUTHORITY[kind].message, TEXTS[text])
    parts = received(message)
    assert parts
    if not isinstance(message, Divisible):
        assert len(parts) == 1
        assert len(encode(message)) <= worst_bytes(type(message))


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
@pytest.mark.parametrize("text", TEXTS)
def test_more_than_the_bound_raises_nothing_in_a_loop_that_sends(kind: ImsgType, text: str) -> None:
    """The message becomes several, or is truncated, or is left out with a reason."""
    message = worst(AUTHORITY[kind].message, TEXTS[text], beyond=1)
    frames, problem = frames_or_problem(message)
    assert bool(frames) != bool(problem)
    for frame in frames:
        pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)
    assert len(problem) <= 500


@pytest.mark.parametrize("message_class", PARTS, ids=lambda kind: kind.__name__)
def test_a_divided_message_loses_nothing(message_class: type) -> None:
    """Far more than one message holds arrives, in order, and only the last part ends it."""
    message = worst(message_class, "x")
    longer = _with_lists_times(message, 10)
    parts = received(longer)
    if message_class is NextHopsReported:  # an answer: the engine requests the rest
        (part,) = parts
        assert part.objects
        assert not part.is_last
        return
    assert len(parts) > 1
    whole = [
        sum((lists_of(part)[at] for part in parts), ()) for at in range(len(PARTS[message_class]))
    ]
    assert [len(found) for found in whole] == [len(given) for given in lists_of(longer)]
    if hasattr(message, "continues"):
        assert [part.continues for part in parts[:-1]] == [True] * (len(parts) - 1)
        assert parts[-1].continues == message.continues


def _with_lists_times(message: Any, factor: int) -> Any:
    changes: dict[str, Any] = {}
    for path, found in zip(PARTS[type(message)], lists_of(message), strict=True):
        name, _, inner = path.partition(".")
        items = tuple(found) * factor
        value = dataclasses.replace(getattr(message, name), **{inner: items}) if inner else items
        changes[name] = value
    return dataclasses.replace(message, **changes)


def test_every_class_that_can_be_divided_is_tested() -> None:
    divisible = {
        authority.message
        for authority in AUTHORITY.values()
        if issubclass(authority.message, Divisible)
    }
    assert divisible == set(PARTS)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("width", [0, 1, 64, NEXT_HOPS_MAX, 5000])
def test_desired_routes_fit_their_updates(family: Family, width: int) -> None:
    """The routes may have any size and number; all of them are sent."""
    count = 3 * UPDATE_ROUTES_MAX if width < 2 else 20
    hops = tuple(NextHop(Address.parse("ffff::1"), 2**31 - 1, 256, True) for _ in range(width))
    kind = RouteType.UNICAST if width else RouteType.BLACKHOLE
    desired = [
        DesiredRoute(kind, hops and (hops[0]._replace(ifindex=n), *hops[1:])) for n in range(count)
    ]
    keys = [Prefix.trusted(family, (n + 1) << (family.width - 32), 32).as_int for n in range(count)]
    fib = DesiredFib(254)
    fib.set_routes(family, keys, desired)
    said = 0
    for serial in range(1, count + 2):
        update = fib.pop_update()
        if update is None:
            break
        (part,) = received(update)
        assert isinstance(part, FibUpdate)
        said += sum(len(columns.values) // 4 for columns in part.install)
        fib.record_progress(serial, (), (), FibCounters())
    assert said == count


# --- the control channel


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "view", [*VIEW_CLASSES, ChangeView, InjectionRefusal], ids=lambda view: view.__name__
)
def test_the_largest_row_of_every_view_fits_its_page(view: type, text: str) -> None:
    row = worst(view, TEXTS[text])
    bodies = list(pack_pages(view, [row, row]))
    assert bodies
    for body in bodies:
        assert len(body) <= max(PAGE_BYTES, ROW_BYTES_MAX)
        assert FRAME_HEADER_BYTES + len(body) <= CONTROL_FRAME_MAX_BYTES
        page = decode(Rows, body)
        assert page.columns[: len(columns_of(view))] == columns_of(view)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("code", ResultCode)
def test_the_largest_result_fits_its_frame(code: ResultCode, text: str) -> None:
    lines = (TEXTS[text] * 100_000,) * 1000
    packed = pack_result(1, Result(code, lines))
    result = decode(Result, unpack_frame(packed, CONTROL_FRAME_MAX_BYTES).body)
    assert result.code is code
    assert result.lines[-1] == f"... and {1000 - (len(result.lines) - 1)} more lines"


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", REQUEST_CLASSES)
def test_a_request_with_the_longest_texts_is_decoded_or_refused_with_a_short_text(
    kind: control.ControlType, text: str
) -> None:
    """A client's message is bounded by its frame, and the text of a refusal by IpcError."""
    message = worst(REQUEST_CLASSES[kind], TEXTS[text])
    body = encode(message)
    with suppress(CodecError):
        decode(REQUEST_CLASSES[kind], body)
    with pytest.raises(CodecError) as caught:
        decode(REQUEST_CLASSES[kind], body[:-1] or b"x")
    assert len(str(caught.value).encode()) <= 500


def test_a_value_outside_of_an_enum_is_quoted_briefly() -> None:
    """Sixty thousand control characters are a quarter of a megabyte when they are quoted."""
    body = msgpack.packb(["\x01" * 60_000, [], [b"", b"", b""], [b"", b"", b""], [None, False], ""])
    with pytest.raises(CodecError) as caught:
        decode(control.RouteChange, body)
    assert "RouteOperation" not in str(caught.value)[500:]
    assert len(str(caught.value)) <= 500
