"""No message is too long for a frame: every class of each channel with its largest values, in
both directions.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

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
from routed import imsg
from routed.control.changes import ChangeView
from routed.control.injection import InjectionRefusal
from routed.control.rows import columns_of, pack_pages
from routed.control.session import pack_result
from routed.control.views import VIEW_CLASSES
from routed.engine.fib.desired import UPDATE_ROUTES_MAX, DesiredFib, DesiredRoute
from routed.imsg.authority import MESSAGE_CLASSES
from routed.imsg.dataplane import DataplaneChanged
from routed.imsg.frames import BODY_BYTES_MAX, Divisible, frames_of, frames_or_problem
from routed.imsg.liveness import (
    BFD_REPORTS_MAX,
    LIVENESS_CLASSES,
    BfdConfigured,
    BfdReported,
)
from routed.imsg.liveness_probes import ProbesConfigured
from routed.imsg.messages import (
    ConfSecrets,
    FibUpdate,
    LinkChanged,
    NextHopsReported,
    RoutesImported,
    RulesChanged,
)
from routed.imsg.observer import OBSERVER_CLASSES, FlowsAnswered
from routed.model.bfd import BFD_SESSIONS_MAX, BfdDrop, BfdReport
from routed.model.fib import FibCounters
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, NextHop, RouteType
from tests.fakes.worst_messages import TEXTS, worst


class Kind(NamedTuple):
    """A class of messages, and the frame types of its channel."""

    message: type
    types: Mapping[type, int]


CHANNELS: dict[str, Mapping[type, int]] = {
    "parent and engine": MESSAGE_CLASSES,
    "liveness": LIVENESS_CLASSES,
    "observer": OBSERVER_CLASSES,
}
"""The tables of all channels between the processes of the daemon."""

KEPT_SHORT_BY_THEIR_SENDER: set[type] = {FibUpdate}
"""Classes without a bound of their own; each has a test of its sender below."""

KINDS = [
    pytest.param(Kind(message, types), id=f"{channel}: {message.__name__}")
    for channel, types in CHANNELS.items()
    for message in types
    if message not in KEPT_SHORT_BY_THEIR_SENDER
]

PARTS: dict[type, tuple[str, ...]] = {
    ConfSecrets: ("secrets",),
    LinkChanged: ("link.addresses",),
    NextHopsReported: ("objects",),
    RoutesImported: ("install", "remove"),
    RulesChanged: ("rules",),
    DataplaneChanged: ("attachments",),
    BfdConfigured: ("sessions",),
    ProbesConfigured: ("probes",),
    FlowsAnswered: ("rows",),
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


def types_of(message_class: type) -> Mapping[type, int]:
    """Return the table of the channel that has a class."""
    return next(types for types in CHANNELS.values() if message_class in types)


def received(message: object, types: Mapping[type, int] | None = None) -> list[Any]:
    """Return what the other end decodes; every frame is within the limit."""
    types = types_of(type(message)) if types is None else types
    classes = {int(number): message_class for message_class, number in types.items()}
    found: list[Any] = []
    for frame in frames_of(message, 7, types):
        packed = pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)
        back = unpack_frame(packed, INTERNAL_FRAME_MAX_BYTES)
        found.append(decode(classes[back.type], back.body))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_has_a_largest_size_or_can_be_divided(kind: Kind) -> None:
    size = worst_bytes(kind.message)  # raises where a field has no bound
    assert size <= BODY_BYTES_MAX or issubclass(kind.message, Divisible)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_of_every_message_fits_its_frames(kind: Kind, text: str) -> None:
    message = worst(kind.message, TEXTS[text])
    parts = received(message, kind.types)
    assert parts
    if not isinstance(message, Divisible):
        assert len(parts) == 1
        assert len(encode(message)) <= worst_bytes(type(message))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_more_than_the_bound_raises_nothing_in_a_loop_that_sends(kind: Kind, text: str) -> None:
    """The message becomes several, or is truncated, or is left out with a reason."""
    message = worst(kind.message, TEXTS[text], beyond=1)
    frames, problem = frames_or_problem(message, types=kind.types)
    assert bool(frames) != bool(problem)
    for frame in frames:
        pack_frame(frame, INTERNAL_FRAME_MAX_BYTES)
    assert len(problem) <= 500


def declared() -> Iterator[type]:
    """Yield every class of `routed.imsg` that a message may consist of."""
    for module in pkgutil.iter_modules(imsg.__path__):
        for value in vars(importlib.import_module(f"{imsg.__name__}.{module.name}")).values():
            is_here = getattr(value, "__module__", "") == f"{imsg.__name__}.{module.name}"
            if isinstance(value, type) and is_here and dataclasses.is_dataclass(value):
                yield value


def reachable(kind: Any, known: set[Any]) -> None:
    """Add a class, and every class of its fields."""
    for member in typing.get_args(kind):
        reachable(member, known)
    if not isinstance(kind, type) or kind in known or kind.__module__ == "builtins":
        return
    known.add(kind)
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        for hint in typing.get_type_hints(kind, include_extras=True).values():
            reachable(hint, known)


def test_no_class_of_messages_is_left_out() -> None:
    """Each is a message of a channel above, or a part of one."""
    known: set[Any] = set()
    for types in CHANNELS.values():
        for message_class in types:
            reachable(message_class, known)
    assert set(declared()) - known == set()
    assert len(set(declared())) >= 50


def test_the_numbers_of_the_channels_differ() -> None:
    """A frame that comes to the wrong channel is of no type there."""
    numbers = [int(number) for types in CHANNELS.values() for number in types.values()]
    assert len(set(numbers)) == len(numbers)


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
        message_class
        for types in CHANNELS.values()
        for message_class in types
        if issubclass(message_class, Divisible)
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


@pytest.mark.parametrize("text", TEXTS)
def test_every_session_of_bfd_is_configured_whatever_it_is_named(text: str) -> None:
    """As many as a file may have, each with the longest secret."""
    (one,) = worst(BfdConfigured, TEXTS[text]).sessions[:1]
    parts = received(BfdConfigured((one,) * BFD_SESSIONS_MAX))
    assert sum(len(part.sessions) for part in parts) == BFD_SESSIONS_MAX
    assert all(part.sessions[0].key == one.key for part in parts)


def test_a_report_has_room_for_every_reason_of_a_dropped_packet() -> None:
    """Those of a session, and those of no session with what the kernel dropped."""
    reasons = {reason.value: 2**63 for reason in BfdDrop}
    report = dataclasses.replace(worst(BfdReport, "x"), dropped=reasons)
    everything = {**reasons, "by_kernel": 2**63}
    message = BfdReported(
        (report,) * BFD_REPORTS_MAX, ("x" * 64,) * BFD_REPORTS_MAX, everything, True
    )
    (back,) = received(message)
    assert back.reports[-1].dropped == reasons
    assert back.dropped == everything


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
