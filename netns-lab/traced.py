"""Runs routed or routectl and reports which source files run: `traced.py FIFO PROGRAM ARGUMENTS`.

PROGRAM is `routed` (whose engine is traced as well) or `routectl`. Each call of a function and each
return is one line on the FIFO, at most twenty a second for each file, and for `ENCODER`:

    MONOTONIC_S PROCESS r|d FILE FUNCTION

`d`: an argument or the result of the function contains the address of one of `ROUTES`, as text, as
bytes or as an integer, in containers and data classes up to five levels deep; `self` is not
searched, because an object that holds a table contains every route. `r`: it does not.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import sys
import threading
import time
import types
from array import array
from collections.abc import Iterable
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path

__all__ = ["ENCODER", "ROUTES"]

ROUTES = ("65.66.67.0/24", "65.66.68.0/24")
"""Prefixes whose bytes rarely occur by chance."""

ENCODER = "encode_batch"
"""The function that encodes the netlink messages of routes, where a trip to the kernel ends."""

_ENGINE = "engine"
_ROOT = str(Path(__file__).resolve().parent.parent)
_OURS = tuple(f"{_ROOT}/{folder}/" for folder in ("routed", "routectl", "ipc"))
_ADDRESSES = tuple(IPv4Address(route.partition("/")[0]) for route in ROUTES)
_TEXTS = tuple(map(str, _ADDRESSES))
_BYTES = tuple(address.packed[:3] for address in _ADDRESSES)
_INTEGERS = {int(address) << shift for address in _ADDRESSES for shift in (0, 96)}
_INTERVAL_S = 0.05
_DEPTH_MAX = 5
_VALUES_MAX = 400
"""Most values of an argument that are searched: more than a configuration has."""
_BYTES_MAX = 1 << 20
"""Most bytes of a value that are searched: more than a frame; the shared route table has more."""
_CODE = (types.ModuleType, type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def _has_route(value: object) -> bool:
    level: list[object] = [value]
    searched = 0
    for _ in range(_DEPTH_MAX):
        below: list[object] = []
        for each in level:
            searched += 1
            if searched > _VALUES_MAX:
                return False
            if _is_route(each):
                return True
            below += islice(_parts(each), _VALUES_MAX)
        level = below
    return False


def _is_route(value: object) -> bool:
    match value:
        case str():
            return any(text in value for text in _TEXTS)
        case bytes() | bytearray() | memoryview() | array():
            if memoryview(value).nbytes > _BYTES_MAX:
                return False
            data = bytes(value)
            texts = (text.encode() in data for text in _TEXTS)
            return any(octets in data for octets in _BYTES) or any(texts)
        case int():
            return value in _INTEGERS
    return type(value).__name__ in ("IPv4Network", "IPv4Prefix", "Prefix") and str(value) in ROUTES


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return (part for item in value.items() for part in item)
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, _CODE):
        return (getattr(value, field.name, None) for field in dataclasses.fields(value))
    return ()


class _Tracer:
    """Writes the calls in `process` to the FIFO."""

    def __init__(self, fifo: str, process: str) -> None:
        low = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # before the sandbox, which forbids open
        self._fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 200)
        os.close(low)
        self._process = process
        self._written: dict[tuple[str, bool], float] = {}

    def start(self) -> None:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: types.FrameType, event: str, result: object) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(_OURS):
            return
        sys.setprofile(None)
        try:
            count = code.co_argcount + code.co_kwonlyargcount
            names = [name for name in code.co_varnames[:count] if name not in ("self", "cls")]
            local = frame.f_locals
            values = [local.get(name) for name in names] if event == "call" else [result]
            self._report(code, has_route=any(map(_has_route, values)))
        finally:
            sys.setprofile(self._profile)

    def _report(self, code: types.CodeType, *, has_route: bool) -> None:
        name = ENCODER if code.co_name == ENCODER else code.co_filename
        key = name, has_route
        now = time.monotonic()
        if now - self._written.get(key, 0.0) < _INTERVAL_S:
            return
        self._written[key] = now
        path = code.co_filename.removeprefix(f"{_ROOT}/")
        kind = "d" if has_route else "r"
        line = f"{now:.4f} {self._process} {kind} {path} {code.co_name.replace(' ', '_')}\n"
        try:
            os.write(self._fd, line.encode())
        except BlockingIOError:
            pass  # the FIFO is full; the file will run again
        except OSError as error:
            if error.errno != errno.EBADF:  # EBADF: a thread that has closed its descriptors
                raise


def main(arguments: list[str]) -> int:
    """Run the program. Returns its exit status."""
    fifo, program, *rest = arguments
    if program == "routectl":
        from routectl import cli as client

        _Tracer(fifo, program).start()
        return client.main(rest)
    from routed import cli
    from routed.parent.engine_process import spawn

    is_engine = program == _ENGINE
    spawn.ENGINE_COMMAND = (sys.executable, __file__, fifo, _ENGINE, "--role", "engine")
    _Tracer(fifo, _ENGINE if is_engine else "parent").start()
    return cli.main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
