"""`route import`: converts a file in the format of `ip route` into requests of some thousand
routes.

    file --lines--> BatchPacker --RouteChange--> daemon --result, refusals--> errors by line

Each request is carried out as a whole or not at all. A line with an error keeps its request from
being sent, and a route that the daemon refuses makes its request fail; the other requests are not
affected.

An owner has one route to a prefix, and the kernel has one for each metric. So a prefix that occurs
twice in a file, at whatever distance, is an error of its second line: to keep either route would be
a guess.

Most lines of a large file differ in the prefix alone. So the text after the prefix is parsed once
per request for each distinct text, and a line costs one dictionary look-up, one inet_pton and four
appends.
"""

from __future__ import annotations

import codecs
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from ipc.blocking import ControlClient, ControlError, ExitStatus
from ipc.control import Lease, Result, ResultCode, RouteChange, RouteOperation
from ipc.route_rules import host_bits_problem
from ipc.routes import BatchPacker
from routectl.iproute import (
    LineError,
    continues_route,
    is_kernel_route,
    join_lines,
    read_route,
)
from routectl.saved_routes import UNREADABLE, read_lines

__all__ = ["ERRORS_SHOWN", "ImportOutcome", "Progress", "import_routes", "open_routes", "size_of"]

ERRORS_SHOWN = 20
"""Most errors that are reported by line; of further ones only the number is given."""

_IPV4_LENGTHS = {str(length): length for length in range(33)}

_FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}

_BLANK = 0x20

Progress = Callable[[int, int], None]
"""Called after each request, with the number of routes done and of bytes of the file read."""


class ImportOutcome(NamedTuple):
    """The outcome of the import of a file."""

    done: int
    """Routes that were imported."""
    left_out: int
    """Routes that are valid, but share a request with an invalid one."""
    refused: int
    """Lines that are invalid or were refused."""
    errors: tuple[str, ...]
    """`line N: problem` (`route N` in JSON and binary files), at most ERRORS_SHOWN."""
    passed_over: int
    """Routes that the kernel created itself, such as those of addresses."""


class _Batch(NamedTuple):
    """A request in flight, and the lines its routes came from."""

    lines: list[int]
    end: int
    """Number of bytes of the file up to the end of this request."""


def open_routes(path: str) -> BinaryIO:
    """Open a file of routes; `-` is standard input.

    Raises:
        ControlError: the file cannot be opened.
    """
    if path == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)  # the shell goes on reading it
    try:
        return open(path, "rb")
    except OSError as error:
        raise ControlError("file", f"{path}: {error.strerror}", ExitStatus.USAGE) from error


def import_routes(
    client: ControlClient,
    source: BinaryIO,
    operation: RouteOperation,
    lease: Lease,
    owner: str,
    table: str = "",
    *,
    progress: Progress = lambda _routes, _read: None,
) -> ImportOutcome:
    """Send every route of a file to the daemon.

    Args:
        client: connected or not.
        source: a file as `routectl/saved_routes.py` reads it; empty lines, comments and routes
            that the kernel created itself are skipped.
        operation: operation for every route.
        lease: lease of every route.
        owner: owner of every route.
        table: table of every route; empty for the main one.
        progress: called after each request.

    Raises:
        ControlError: the daemon cannot be reached, the caller lacks the role, or the file cannot be
            read to its end.

    Cost: about 2 us and 130 bytes per route, in addition to the work of the daemon.
    """
    work = _Import(source, BatchPacker(operation, lease, owner, table), table)
    for result, rows in client.exchange(work.requests()):
        work.answered(result, rows)
        progress(work.done, work.read_bytes)
    return work.outcome()


class _Import:
    """The import of one file."""

    def __init__(self, source: BinaryIO, packer: BatchPacker, table: str) -> None:
        self._source = source
        self._table = table
        self._packer = packer
        self._under_way: list[_Batch] = []
        self._errors: list[tuple[int, str]] = []
        self._wrong_here: list[tuple[int, str]] = []
        """Lines with errors in the request that is being filled."""
        self.done = 0
        self.read_bytes = 0
        self._left_out = 0
        self._refused = 0
        self._passed_over = 0
        self._unit = "line"
        self._lines: dict[bytes, int] = {}
        """The line of each prefix of the file that was read; canonical texts, like 10.0.0.0/8."""

    def _routes(self) -> Iterator[tuple[int, bytes]]:
        """Yield each route with the number of its first line; continuation lines are joined to it.

        Raises:
            ControlError: the file cannot be read.
        """
        number, first, more = 0, b"", list[bytes]()
        try:
            self._unit, lines = read_lines(self._source)
            for line_number, line in enumerate(lines, 1):
                # A route on one line does not begin with a blank, so `continues_route` is rarely
                # called.
                if line[0] <= _BLANK and continues_route(line):
                    more.append(line)
                    continue
                if more:
                    yield max(number, 1), b"".join([first, *more])
                    more.clear()
                elif number:
                    yield number, first
                number, first = line_number, line
                if line_number == 1:
                    first = line.removeprefix(codecs.BOM_UTF8)
        except OSError as error:
            text = f"the routes cannot be read: {error.strerror}"
            raise ControlError("file", text, ExitStatus.USAGE) from error
        if number or more:
            yield max(number, 1), b"".join([first, *more])

    def requests(self) -> Iterator[RouteChange]:
        """Read the file, and yield each request when it is full."""
        inet_pton, ipv4 = socket.inet_pton, socket.AF_INET
        packer, line_of = self._packer, self._lines.setdefault
        numbers: dict[bytes, int] = {}
        read_bytes = 0
        for line_number, line in self._routes():
            read_bytes += len(line)
            text, _, rest = line.partition(b" ")
            address, _, length = text.partition(b"/")
            try:
                # The common form. Everything else, invalid or rare, is handled by `_add_slowly`.
                packed = inet_pton(ipv4, address.decode("ascii"))
                prefix_len, number = _IPV4_LENGTHS[length.decode("ascii")], numbers[rest]
            except (KeyError, OSError, ValueError):
                is_full = self._add_slowly(line_number, line, rest, numbers)
            else:
                if (earlier := line_of(text, line_number)) != line_number:
                    self._refuse_repeated(text, earlier, line_number)
                    continue
                is_full = packer.add(packed, prefix_len, number, line_number)
            if is_full:
                yield from self._close_batch(read_bytes)
                numbers.clear()
        yield from self._close_batch(read_bytes)

    def _add_slowly(
        self, line_number: int, line: bytes, rest: bytes, numbers: dict[bytes, int]
    ) -> bool:
        if line.startswith(UNREADABLE):
            self._wrong_here.append((line_number, line.removeprefix(UNREADABLE).decode().strip()))
            return False
        try:
            text = join_lines(line.decode("utf-8"))
            if not text:
                return False
            if is_kernel_route(text):
                self._passed_over += 1
                return False
            packed, prefix_len, words, attributes = read_route(text, self._table)
        except UnicodeDecodeError:
            self._wrong_here.append((line_number, "it is not UTF-8 text"))
            return False
        except LineError as error:
            self._wrong_here.append((line_number, str(error)))
            return False
        address = socket.inet_ntop(_FAMILIES[len(packed)], packed)
        prefix = f"{address}/{prefix_len}".encode()
        if (earlier := self._lines.setdefault(prefix, line_number)) != line_number:
            self._refuse_repeated(prefix, earlier, line_number)
            return False
        number = self._packer.number_of(attributes)
        if words == " ".join(rest.decode("utf-8").split()):
            numbers[rest] = number
        return self._packer.add(packed, prefix_len, number, line_number)

    def _refuse_repeated(self, prefix: bytes, earlier: int, line_number: int) -> None:
        problem = (
            f"{prefix.decode()} is the prefix of {self._unit} {earlier} as well; an owner has one "
            "route to a prefix, whatever its metric"
        )
        self._wrong_here.append((line_number, problem))

    def _close_batch(self, read_bytes: int) -> Iterator[RouteChange]:
        wrong, self._wrong_here = self._wrong_here, []
        if not len(self._packer):
            self._refuse(wrong)
            return
        request, lines = self._packer.pop()
        if wrong:
            # The daemon does not receive these routes, so their host bits are checked here.
            wrong_routes = _host_bits_problems(request, lines)
            self._refuse(wrong + wrong_routes)
            self._left_out += len(lines) - len(wrong_routes)
            return
        self._under_way.append(_Batch(lines, read_bytes))
        yield request

    def _refuse(self, wrong: list[tuple[int, str]]) -> None:
        self._refused += len(wrong)
        self._errors += sorted(wrong)[: self._room()]

    def answered(self, result: Result, rows: list[dict[str, object]]) -> None:
        """Process the answer to the oldest request in flight.

        Raises:
            ControlError: the request failed for another reason than its routes.
        """
        batch = self._under_way.pop(0)
        self.read_bytes = batch.end
        if result.code is ResultCode.OK:
            self.done += len(batch.lines)
            return
        if not rows:
            raise ControlError.of_result(result)
        self._refused += len(rows)
        self._left_out += len(batch.lines) - len(rows)
        for row in rows[: self._room()]:
            number = row.get("route")
            line = batch.lines[number] if isinstance(number, int) else 0
            self._errors.append((line, str(row.get("problem"))))

    def _room(self) -> int:
        return max(ERRORS_SHOWN - len(self._errors), 0)

    def outcome(self) -> ImportOutcome:
        """Return the outcome, with errors in the order of the file."""
        errors = tuple(f"{self._unit} {line}: {problem}" for line, problem in sorted(self._errors))
        return ImportOutcome(self.done, self._left_out, self._refused, errors, self._passed_over)


def _host_bits_problems(request: RouteChange, lines: list[int]) -> list[tuple[int, str]]:
    """Return the lines of a request whose prefixes have host bits, IPv4 before IPv6."""
    found: list[tuple[int, str]] = []
    remaining = iter(lines)
    for packed, width in ((request.ipv4, 4), (request.ipv6, 16)):
        for position, prefix_len in enumerate(packed.prefix_lens):
            line = next(remaining)
            address = packed.addresses[position * width : (position + 1) * width]
            problem = host_bits_problem(address, prefix_len)
            if problem is not None:
                found.append((line, problem))
    return found


def size_of(source: BinaryIO) -> int:
    """Return the size of a file in bytes; 0 if it is unknown, as for a pipe."""
    try:
        return os.fstat(source.fileno()).st_size
    except OSError:
        return 0
