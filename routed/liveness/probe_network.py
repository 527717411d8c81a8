"""Probes on real sockets: send, connect, read, feed the instance, wake at its timer.

    ProbeInstance --BeginAttempt--> ICMP: a request on the socket of the probe
                                    TCP, DNS: a request to the parent for a connecting socket
    replies, connections ---------> ProbeInstance --ProbeChanged--> Reporter

The parent opens every socket, bound as the probe says, and for TCP and DNS connects it; this
process can do neither. Before an attempt times out its socket is read: an answer that has arrived
counts, however late this process runs.

Bounds: REPLY_BURST packets of a socket are read between two looks at the timers; one connection and
one request to the parent for each probe.
"""

from __future__ import annotations

import functools
import os
import secrets
import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from ipc.lazy_dataclass import dataclass
from routed.imsg.liveness_probes import ProbeSocketFailed, ProbeSocketReady
from routed.liveness.dns_exchange import DnsExchange
from routed.liveness.timer import Timer
from routed.model.prefix import Address
from routed.model.probe import ProbeKind, ProbeSettings
from routed.probe.icmp import REPLY_BYTES_MAX, TOKEN_BYTES, decode_reply, encode_request
from routed.probe.instance import ProbeInstance
from routed.probe.outputs import BeginAttempt, EndAttempt, ProbeChanged

__all__ = ["ProbeNetwork"]

REPLY_BURST = 16


@dataclass(slots=True)
class _EchoSocket:
    sock: socket.socket
    target: Address
    identifier: int
    has_ip_header: bool
    number: int = 0
    """Of the attempt that was sent last."""
    token: bytes = b""


class ProbeNetwork:
    """Owns the sockets of probes."""

    def __init__(
        self,
        instance: ProbeInstance,
        clock: Callable[[], float],
        on_change: Callable[[str], None],
        request_socket: Callable[[str, int], None],
        nursery: trio.Nursery,
    ) -> None:
        """Begin without sockets.

        Args:
            instance: the probes.
            clock: seconds, monotonic.
            on_change: called with the name of a probe whose state has changed, or that has ended.
            request_socket: requests a connecting socket for an attempt from the parent.
            nursery: runs a task for each socket.
        """
        self._instance = instance
        self._clock = clock
        self._on_change = on_change
        self._request_socket = request_socket
        self._nursery = nursery
        self._echo: dict[str, _EchoSocket] = {}
        self._connecting: dict[str, socket.socket] = {}
        self._exchanges: dict[str, DnsExchange] = {}
        """The outstanding queries."""
        self._problems: dict[str, str] = {}
        """Why a probe has no socket."""
        self._timer = Timer(instance.next_timer, clock)

    # --- configuration

    def configure(self, probes: Iterable[ProbeSettings]) -> None:
        """Have exactly these probes; the sockets of new ones follow."""
        before = self._instance.names
        self._instance.configure(probes, self._clock())
        after = set(self._instance.names)
        for name in before:
            if name not in after:
                self._close_echo(name)
                self._close_connection(name)
                self._problems.pop(name, None)
                self._on_change(name)
        self._kick()

    def add_socket(self, message: ProbeSocketReady, opened: socket.socket) -> None:
        """Use a socket from now on, in place of an earlier one."""
        name, settings = message.probe, self._instance.settings(message.probe)
        if settings is None or settings.target is None:
            opened.close()
            return
        opened.setblocking(False)
        self._problems.pop(name, None)
        if settings.kind is ProbeKind.ICMP:
            self._close_echo(name)
            echo = _EchoSocket(opened, settings.target, message.identifier, message.has_ip_header)
            self._echo[name] = echo
            self._nursery.start_soon(self._read_replies, name, echo)
        elif self._instance.attempt(name) == message.number:
            self._close_connection(name)
            self._connecting[name] = opened
            if settings.kind is ProbeKind.DNS:
                exchange = self._exchanges[name] = DnsExchange(opened, settings)
                self._query(name, exchange, message.number)
            else:
                self._nursery.start_soon(self._await_connection, name, opened, message.number)
        else:
            opened.close()  # the attempt has timed out meanwhile

    def socket_failed(self, message: ProbeSocketFailed) -> None:
        """Handle that there is no socket for a probe, or for one attempt."""
        name, now = message.probe, self._clock()
        if message.number == 0:
            self._close_echo(name)
            self._problems[name] = message.problem
        elif message.is_refusal:
            self._instance.failed(name, message.number, message.problem, now)
        else:
            self._instance.broken(name, message.number, message.problem, now)
        self._kick()

    def observe(self, name: str, is_up: bool | None, reason: str) -> None:
        """Pass on what a probe looks at (`ProbeInstance.observe`)."""
        self._instance.observe(name, is_up, reason, self._clock())
        self._kick()

    # --- service

    async def keep_time(self) -> None:
        """Serve the timers until cancelled."""
        await self._timer.run(self._serve)

    def _serve(self) -> None:
        """Read the answers that have come for those that are due, then serve the timers."""
        now = self._clock()
        for name in self._instance.due(now):
            self._read_what_has_come(name, now)
        self._instance.handle_timer(now)
        self._kick()

    def _kick(self) -> None:
        while outputs := self._instance.outputs():  # an attempt that cannot be made has some, too
            for output in outputs:
                match output:
                    case BeginAttempt(probe=name, number=number):
                        self._begin(name, number)
                    case EndAttempt(probe=name):
                        self._close_connection(name)
                    case ProbeChanged(probe=name):
                        self._on_change(name)
        self._timer.check()

    def _begin(self, name: str, number: int) -> None:
        settings = self._instance.settings(name)
        if settings is None:
            return
        if settings.kind in (ProbeKind.TCP, ProbeKind.DNS):
            self._request_socket(name, number)
            return
        problem = self._send_request(name, number)
        if problem:
            self._instance.broken(name, number, problem, self._clock())

    def _send_request(self, name: str, number: int) -> str:
        """Send an echo request. Returns why that is impossible; empty if it was sent."""
        echo = self._echo.get(name)
        if echo is None:
            return self._problems.get(name, "it has no socket yet")
        echo.number, echo.token = number, secrets.token_bytes(TOKEN_BYTES)
        family = echo.target.family
        request = encode_request(family, echo.identifier, number & 0xFFFF, echo.token)
        # The first error may be that of an ICMP message, which any host may have sent.
        return _sent(echo.sock, request) and _sent(echo.sock, request)

    # --- replies

    async def _read_replies(self, name: str, echo: _EchoSocket) -> None:
        while self._echo.get(name) is echo:
            try:
                await trio.lowlevel.wait_readable(echo.sock)
            except trio.ClosedResourceError:
                return
            self._drain(name, echo, self._clock())
            self._kick()

    def _read_what_has_come(self, name: str, now: float) -> None:
        echo, connecting = self._echo.get(name), self._connecting.get(name)
        if echo is not None:
            self._drain(name, echo, now)
        number = self._instance.attempt(name)
        if connecting is None or number is None:
            return
        if (exchange := self._exchanges.get(name)) is not None:
            self._read_answer(name, exchange, number)
        elif _is_writable(connecting):
            self._connected(name, connecting, number)

    def _drain(self, name: str, echo: _EchoSocket, now: float) -> None:
        for _ in range(REPLY_BURST):
            try:
                data, source = echo.sock.recvfrom(REPLY_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error: any host may have sent it
                self._instance.hint(name, os.strerror(error.errno or 0))
                continue
            family = echo.target.family
            reply = decode_reply(family, data, has_ip_header=echo.has_ip_header)
            if (
                reply is not None
                and echo.token
                and _parsed(source[0]) == echo.target
                and reply.identifier == echo.identifier
                and reply.sequence == echo.number & 0xFFFF
                and secrets.compare_digest(reply.token, echo.token)
            ):
                self._instance.answered(name, echo.number, now)

    def _close_echo(self, name: str) -> None:
        echo = self._echo.pop(name, None)
        if echo is not None:
            trio.lowlevel.notify_closing(echo.sock)
            echo.sock.close()

    # --- DNS

    def _query(self, name: str, exchange: DnsExchange, number: int) -> None:
        problem = exchange.send()
        if problem:
            self._instance.broken(name, number, problem, self._clock())
            self._kick()
        else:
            self._nursery.start_soon(self._await_answer, name, exchange, number)

    async def _await_answer(self, name: str, exchange: DnsExchange, number: int) -> None:
        with suppress(trio.ClosedResourceError):
            while self._exchanges.get(name) is exchange:
                await trio.lowlevel.wait_readable(exchange.sock)
                if self._exchanges.get(name) is exchange:
                    self._read_answer(name, exchange, number)
                    self._kick()

    def _read_answer(self, name: str, exchange: DnsExchange, number: int) -> None:
        verdict = exchange.read()
        if exchange.hint:
            self._instance.hint(name, exchange.hint)
        if verdict is None:
            return
        if verdict:
            self._instance.failed(name, number, verdict, self._clock())
        else:
            self._instance.answered(name, number, self._clock())

    # --- connections

    async def _await_connection(self, name: str, sock: socket.socket, number: int) -> None:
        with suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_writable(sock)
            if self._connecting.get(name) is sock:
                self._connected(name, sock, number)
                self._kick()

    def _connected(self, name: str, sock: socket.socket, number: int) -> None:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        now = self._clock()
        if error:
            self._instance.failed(name, number, os.strerror(error), now)
        else:
            self._instance.answered(name, number, now)

    def _close_connection(self, name: str) -> None:
        self._exchanges.pop(name, None)
        sock = self._connecting.pop(name, None)
        if sock is not None:
            trio.lowlevel.notify_closing(sock)
            sock.close()


def _sent(sock: socket.socket, data: bytes) -> str:
    """Send a packet. Returns the kernel's reason not to; empty if it was sent."""
    try:
        sock.send(data)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Address:
    return Address.parse(text.partition("%")[0])


def _is_writable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(0))
