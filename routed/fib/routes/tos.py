"""Desired routes for a TOS: which part of an update belongs under which key of the kernel. Pure.

The TOS is a part of the kernel's key of an IPv4 route. The engine desires one route for each
prefix, for all packets or for those of one TOS, so a prefix moves to another FIB table when its TOS
changes. Only prefixes with a TOS are recorded here.

Cost: nothing per route while no route has a TOS; one look at each distinct value of an update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from routed.fib.routes.ownership import RouteValue
from routed.model.columns import ValueColumn
from routed.model.kernel_attributes import NONE
from routed.model.prefix import Family

__all__ = ["TosPart", "TosRoutes"]


class TosPart(NamedTuple):
    """The part of an update that concerns the routes of one TOS."""

    tos: int
    keys: Sequence[int]
    """`Prefix.as_int`, which are desired."""
    values: Sequence[RouteValue]
    """Without the TOS: it is in the key."""
    gone: Sequence[int] = ()
    """Keys that are no longer desired under this TOS."""


class TosRoutes:
    """The prefixes whose desired route is for a TOS."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, Family], dict[int, int]] = {}
        """By table and family: the TOS of each prefix that has one."""

    def split(
        self, table_id: int, family: Family, keys: Sequence[int], values: Sequence[RouteValue]
    ) -> Iterable[TosPart]:
        """Split desired routes by their TOS.

        Args:
            table_id: of the kernel table.
            family: of the routes.
            keys: of the prefixes, each once.
            values: one for each key.
        """
        column = ValueColumn.of(values)
        known = self._known.get((table_id, family))
        if not known and not any(map(_tos_of, column.distinct)):
            return (TosPart(0, keys, column),)
        return self._split(self._known.setdefault((table_id, family), {}), keys, column)

    def _split(
        self, known: dict[int, int], keys: Sequence[int], column: ValueColumn[RouteValue]
    ) -> Iterator[TosPart]:
        plain = column.mapped(_without_tos)
        tos_of = {id(value): _tos_of(value) for value in column.distinct}
        desired: dict[int, tuple[list[int], list[RouteValue]]] = {}
        gone: dict[int, list[int]] = {}
        for key, value, without in zip(keys, column, plain, strict=True):
            tos, before = tos_of[id(value)], known.pop(key, 0)
            if tos:
                known[key] = tos
            if tos != before:
                gone.setdefault(before, []).append(key)
            of_tos = desired.setdefault(tos, ([], []))
            of_tos[0].append(key)
            of_tos[1].append(without)
        for tos in desired.keys() | gone.keys():
            yield TosPart(tos, *desired.get(tos, ([], [])), gone.get(tos, ()))

    def forget(
        self, table_id: int, family: Family, keys: Iterable[int]
    ) -> Mapping[int, Iterable[int]]:
        """Forget prefixes that are no longer desired. Returns all of them by their TOS."""
        known = self._known.get((table_id, family))
        if not known:
            return {0: keys}
        found: dict[int, list[int]] = {}
        for key in keys:
            found.setdefault(known.pop(key, 0), []).append(key)
        return found

    def clear(self) -> None:
        """Forget all prefixes."""
        self._known.clear()


def _tos_of(value: RouteValue) -> int:
    return 0 if value.attributes is None else value.attributes.tos


def _without_tos(value: RouteValue) -> RouteValue:
    if not _tos_of(value):
        return value
    assert value.attributes is not None
    rest = value.attributes._replace(tos=0)
    return value._replace(attributes=None if rest == NONE else rest)
