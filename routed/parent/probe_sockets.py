"""Probes as the parent has them: settings from the configuration, and a socket for each.

    configuration --> settings --> liveness process
    links ----------> sockets of ICMP probes, bound; carriers --> liveness process
    requests -------> connecting sockets of TCP and DNS probes -> liveness process

A socket that cannot be opened now is tried again after SOCKET_RETRY_S, and when the links change.
An interface that is made again has another index, so its probes get other sockets.

Bounds: each probe may have REQUESTS_BURST connecting sockets at once, and one every REQUEST_PAUSE_S
after that; a request beyond is answered with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ipc.lazy_dataclass import dataclass
from routed.config.probes import ProbeConfig
from routed.imsg.liveness_probes import (
    ProbeObserved,
    ProbesConfigured,
    ProbeSocketFailed,
    ProbeSocketReady,
    ProbeSocketRequest,
)
from routed.log.logger import Logger
from routed.model.link import Interface
from routed.model.probe import ProbeKind, ProbeSettings
from routed.parent.probe_socket_options import connect_socket, open_echo_socket

__all__ = ["ProbeSockets", "probe_settings"]

REQUEST_PAUSE_S = 0.02
REQUESTS_BURST = 4

SendToLiveness = Callable[[object, int | None], None]


def probe_settings(probes: Iterable[ProbeConfig]) -> dict[str, ProbeSettings]:
    """Return what each probe is to do, by name."""
    return {probe.name: probe.settings for probe in probes}


@dataclass(slots=True)
class _Allowance:
    """The connecting sockets that a probe may have now."""

    sockets: float = REQUESTS_BURST
    at: float = 0.0

    def take(self, now: float) -> bool:
        """Take one. Returns whether there was one."""
        earned = (now - self.at) / REQUEST_PAUSE_S
        self.sockets, self.at = min(self.sockets + earned, REQUESTS_BURST), now
        if self.sockets < 1:
            return False
        self.sockets -= 1
        return True


class ProbeSockets:
    """Owns what the present liveness process was sent for its probes."""

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None:
        """Begin with nothing sent.

        Args:
            log: for sockets that cannot be opened.
            clock: seconds, monotonic.
        """
        self._log = log
        self._clock = clock
        self._settings: dict[str, ProbeSettings] | None = None
        """The probes that the process was sent; None before the first."""
        self._links: Mapping[str, Interface] = {}
        self._sent: dict[str, object] = {}
        """By probe, the carrier that was sent, or what its socket was opened for."""
        self._problems: dict[str, str] = {}
        self._allowances: dict[str, _Allowance] = {}

    def begin_process(self) -> None:
        """Record that a new liveness process has nothing yet."""
        self._settings = None
        self._sent.clear()
        self._problems.clear()

    def reconcile(
        self,
        settings: dict[str, ProbeSettings],
        links: Mapping[str, Interface],
        send: SendToLiveness,
    ) -> bool:
        """Send what has changed to the liveness process.

        Args:
            settings: the probes.
            links: all links, by name.
            send: queues a message for the process, with a descriptor that becomes the queue's.

        Returns:
            Whether it has all sockets; otherwise this is to be called again.
        """
        self._links = links
        if settings != self._settings and (settings or self._settings):
            send(ProbesConfigured(tuple(settings.values())), None)
            self._forget_carriers(settings)
        self._settings = settings
        for gone in (self._sent.keys() | self._problems.keys()) - settings.keys():
            self._sent.pop(gone, None)
            self._problems.pop(gone, None)
        self._allowances = {name: self._allowances.get(name, _Allowance()) for name in settings}
        is_complete = True
        for probe in settings.values():
            if probe.kind is ProbeKind.CARRIER:
                self._send_carrier(probe, send)
            elif probe.kind is ProbeKind.ICMP:
                is_complete &= self._send_echo_socket(probe, send)
        return is_complete

    def answer(self, request: ProbeSocketRequest, send: SendToLiveness) -> None:
        """Answer a request for a connecting socket."""
        name, number = request.probe, request.number
        probe = (self._settings or {}).get(name)
        if probe is None or probe.kind not in (ProbeKind.TCP, ProbeKind.DNS):
            return  # the configuration has changed meanwhile
        problem, is_refusal = "", False
        if not self._allowances[name].take(self._clock()):
            problem = "too many attempts"
        elif not self._has_interface(probe):
            problem = f"{probe.interface} does not exist"
        else:
            try:
                opened = connect_socket(probe, self._ifindex(probe))
            except OSError as error:
                is_refusal = isinstance(error, ConnectionRefusedError)
                problem = _problem_text(error)
            else:
                send(ProbeSocketReady(name, number, 0, has_ip_header=False), opened.detach())
                return
        send(ProbeSocketFailed(name, number, problem, is_refusal), None)

    def _forget_carriers(self, settings: Mapping[str, ProbeSettings]) -> None:
        """Have the carriers of changed probes sent again: the process may have made new ones."""
        before = self._settings or {}
        for name, probe in settings.items():
            if probe.kind is ProbeKind.CARRIER and before.get(name) != probe:
                self._sent.pop(name, None)

    def _send_carrier(self, probe: ProbeSettings, send: SendToLiveness) -> None:
        link = self._links.get(probe.interface)
        if link is None:
            message = ProbeObserved(probe.name, None, f"{probe.interface} does not exist")
        elif not link.is_admin_up:
            message = ProbeObserved(probe.name, is_up=False, reason=f"{probe.interface} is down")
        elif not link.has_carrier:
            text = f"{probe.interface} has no carrier"
            message = ProbeObserved(probe.name, is_up=False, reason=text)
        else:
            message = ProbeObserved(probe.name, is_up=True, reason="")
        if self._sent.get(probe.name) != message:
            self._sent[probe.name] = message
            send(message, None)

    def _send_echo_socket(self, probe: ProbeSettings, send: SendToLiveness) -> bool:
        """Send the socket of an ICMP probe, if it does not have the right one."""
        purpose = (probe.target, probe.source, probe.interface, probe.mark, self._ifindex(probe))
        if self._sent.get(probe.name) == purpose:
            return True
        if not self._has_interface(probe):
            self._send_problem(probe, f"{probe.interface} does not exist", send)
            return True  # the links will change
        try:
            opened = open_echo_socket(probe, self._ifindex(probe))
        except OSError as error:
            problem = _problem_text(error)
            if isinstance(error, PermissionError):
                problem = "needs CAP_NET_RAW, or the group in net.ipv4.ping_group_range"
            self._send_problem(probe, problem, send)
            return False
        self._sent[probe.name] = purpose
        self._problems.pop(probe.name, None)
        message = ProbeSocketReady(probe.name, 0, opened.identifier, opened.has_ip_header)
        send(message, opened.sock.detach())
        return True

    def _send_problem(self, probe: ProbeSettings, problem: str, send: SendToLiveness) -> None:
        self._sent.pop(probe.name, None)
        if self._problems.get(probe.name) != problem:
            self._problems[probe.name] = problem
            self._log.emit("probe-socket-failed", probe=probe.name, problem=problem)
            send(ProbeSocketFailed(probe.name, 0, problem), None)

    def _has_interface(self, probe: ProbeSettings) -> bool:
        return not probe.interface or probe.interface in self._links

    def _ifindex(self, probe: ProbeSettings) -> int:
        link = self._links.get(probe.interface)
        return 0 if link is None else link.ifindex


def _problem_text(error: OSError) -> str:
    return error.strerror or str(error)
