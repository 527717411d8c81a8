"""The files that describe rows are as the views are, and a row of a daemon is as they say."""

from __future__ import annotations

import json
import typing
from types import UnionType
from typing import Any, Literal

import pytest

import ipc.rows
from routed.control.rows import columns_of, to_row
from tests.fakes import fake_views
from tests.meta.row_types import COMMANDS, GENERATED, ROOT, all_classes, row_name


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_up_to_date(name: str, request: pytest.FixtureRequest) -> None:
    text = GENERATED[name]()
    if request.config.getoption("--update-golden", default=False):
        (ROOT / name).write_text(text, encoding="utf-8")
    assert text == (ROOT / name).read_text(encoding="utf-8"), "run it with --update-golden"


def test_every_view_has_a_command_and_a_type() -> None:
    assert {row_name(view_class) for view_class in all_classes()} == set(ipc.rows.__all__)
    assert set(COMMANDS) <= {view_class.__name__ for view_class in all_classes()}


VIEWS = [
    view
    for value in vars(fake_views).values()
    for view in (value if isinstance(value, tuple) else (value,))
    if type(view) in all_classes()
]


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_a_row_has_the_types_that_are_promised(number: int) -> None:
    view = VIEWS[number]
    row = dict(zip(columns_of(type(view)), to_row(view), strict=True))
    check(json.loads(json.dumps(row)), getattr(ipc.rows, row_name(type(view))))


def check(value: Any, kind: Any) -> None:
    """Compare a value with a type of ipc/rows.py."""
    if typing.get_origin(kind) in (UnionType, typing.Union):
        if value is not None:
            check(value, typing.get_args(kind)[0])
    elif typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        assert list(value) == list(hints)
        for key, hint in hints.items():
            check(value[key], hint)
    elif typing.get_origin(kind) is Literal:
        assert value in typing.get_args(kind)
    elif typing.get_origin(kind) is list:
        for item in value:
            check(item, typing.get_args(kind)[0])
    elif typing.get_origin(kind) is dict:
        assert isinstance(value, dict)
    elif kind is float:
        assert isinstance(value, (int, float))
    elif kind is not object:
        assert type(value) is kind


def test_the_views_of_the_fake_daemon_are_of_many_kinds() -> None:
    assert len({type(view) for view in VIEWS}) > 12
