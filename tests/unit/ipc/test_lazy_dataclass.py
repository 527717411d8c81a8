"""Lazy data classes behave as those of the standard library, from the first use on."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from ipc import lazy_dataclass
from ipc.lazy_dataclass import field

Decorator = Callable[..., Callable[[type], Any]]


def make(decorator: Decorator, **options: bool) -> Any:
    """A class with every kind of field that ours have."""

    @decorator(**options)
    class Sample:
        a: int
        b: str = "x"
        c: list[int] = field(default_factory=list, compare=False)
        d: int = field(default=4, kw_only=True, repr=False)

    return Sample


def make_pair(**options: bool) -> list[Any]:
    pair = [make(lazy_dataclass.dataclass, **options), make(dataclasses.dataclass, **options)]
    for each in pair:
        each.__qualname__ = "Sample"
    return pair


OPTIONS = [
    {"frozen": True, "slots": True},
    {"slots": True},
    {"slots": True, "eq": False},
    {"frozen": True},
    {},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_objects_are_made_shown_and_compared_alike(options: dict[str, bool]) -> None:
    answers = []
    for sample in make_pair(**options):
        one, same, other = sample(1, "y", [2], d=5), sample(1, "y", [3], d=5), sample(2)
        shown = "Sample" if options.get("eq", True) else None
        answers.append(
            (
                repr(one).split(".")[-1] if shown else None,
                one == same,
                one == other,
                one == 7,
                (other.b, other.c, other.d),
                [each.name for each in dataclasses.fields(sample)],
                dataclasses.asdict(one),
                dataclasses.replace(one, a=9).a,
                sample.__match_args__,
                getattr(sample, "__slots__", None),
                (sample.__hash__ is None),
            )
        )
    assert answers[0] == answers[1]


def test_the_decorator_needs_no_options() -> None:
    @lazy_dataclass.dataclass
    class Plain:
        a: int = 1

    assert Plain() == Plain(1)
    assert repr(Plain(2)).endswith("Plain(a=2)")


def test_equal_frozen_objects_have_equal_hashes() -> None:
    for sample in make_pair(frozen=True, slots=True):
        assert hash(sample(1)) == hash(sample(1, c=[7]))
        assert len({sample(1), sample(1), sample(2)}) == 2


@pytest.mark.parametrize("is_used", [False, True])
def test_a_frozen_object_refuses_assignment_and_deletion(*, is_used: bool) -> None:
    for sample in make_pair(frozen=True, slots=True):
        one = sample(1)
        if is_used:
            assert one == sample(1)
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'a'"):
            one.a = 2
        with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'a'"):
            del one.a


def test_a_wrong_call_is_refused_with_the_name_of_the_class() -> None:
    messages = []
    for sample in make_pair(frozen=True, slots=True):
        with pytest.raises(TypeError) as caught:
            sample()
        messages.append(str(caught.value).removeprefix("make.<locals>."))
    assert messages[0] == messages[1]


@lazy_dataclass.dataclass(frozen=True, slots=True)
class Base:
    """A class that others extend."""

    a: int


@lazy_dataclass.dataclass(frozen=True, slots=True)
class Extended(Base):
    """Fields of both, and a check."""

    b: int = 2

    def __post_init__(self) -> None:
        if self.b < 0:
            raise ValueError("b")


def test_a_class_extends_another_whichever_is_used_first() -> None:
    extended = Extended(1)
    assert (extended.a, extended.b, Base(1) == Base(1)) == (1, 2, True)
    assert extended != Base(1)
    with pytest.raises(ValueError, match="b"):
        Extended(1, -1)


def test_lazy_classes_and_those_of_the_standard_library_extend_each_other() -> None:
    @dataclasses.dataclass(frozen=True)
    class Below(Base):
        c: int = 3

    @lazy_dataclass.dataclass(frozen=True, slots=True)
    class Last(Below):
        d: int = 4

    assert dataclasses.astuple(Last(1)) == (1, 3, 4)
    with pytest.raises(TypeError, match="frozen"):

        @lazy_dataclass.dataclass(slots=True)
        class Open(Base):  # type: ignore[misc]
            e: int = 5


@pytest.mark.parametrize("value", [Extended(1, 5), Base(3)])
def test_a_frozen_object_with_slots_is_copied_and_pickled(value: object) -> None:
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value


def test_own_methods_stay() -> None:
    @lazy_dataclass.dataclass(frozen=True, slots=True)
    class Own:
        a: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

        def __repr__(self) -> str:
            return "own"

    assert Own(1) == Own(2)
    assert repr(Own(1)) == "own"
    assert hash(Own(1)) == hash((1,))


def test_nothing_is_generated_for_a_class_that_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generated: list[str] = []
    original = lazy_dataclass._generated  # type: ignore[attr-defined]

    def count(cls: type, name: str, **options: bool) -> object:
        generated.append(name)
        return original(cls, name, **options)

    monkeypatch.setattr(lazy_dataclass, "_generated", count)
    sample = make(lazy_dataclass.dataclass, frozen=True, slots=True)
    assert generated == []
    assert sample(1) == sample(1) != sample(2)
    assert generated == ["__init__", "__eq__"], "once each"
