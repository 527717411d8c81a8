"""One BFD session: its state variables, its timers, and the packets that it sends. Pure.

    packet --receive--> state machine --> packets, state change
    now ----handle_timer--> transmit, detection time, knowledge that has expired

Asynchronous mode. Demand mode is honoured where the other system asks for it: this system then
stops sending while both are up. Echo packets are neither sent nor wanted (Required Min Echo RX
Interval is 0).

Timers (RFC 5880, sections 6.8.2 to 6.8.4 and 6.8.7):

    transmit    max(Desired Min TX, the other's Required Min RX), reduced at random by 0 to 25 %,
                with Detect Mult 1 by 10 to 25 %; at least one second while not up
    detection   the other's Detect Mult times max(Required Min RX, the other's Desired Min TX)

A change of an interval is announced by a poll sequence. While the session is up, a longer transmit
interval and a shorter receive interval take effect when the poll sequence has ended, so that the
other system never misses packets that it does not expect yet.

Invariants:
    Not up: Desired Min TX is at least SLOW_TX_US. Up: it is the configured one.
    The other system's discriminator is 0 unless a valid packet came within the detection time.
    A change of the state sends a packet at once.

Bounds: a session comes up UPS_BURST times at once, and then once in UP_PERIOD_S; further packets
that would take it up are dropped. Each change of a session makes the engine select routes again, so
a peer must not decide how often that happens.
"""

from __future__ import annotations

import math
import random
from collections import Counter

from routed.bfd.auth import AuthState, section_bytes
from routed.bfd.outputs import BfdOutput, BfdStateChanged, SendControl
from routed.bfd.transitions import DIAGNOSTICS, RECEIVED, TRANSITIONS, BfdEvent
from routed.bfd.wire import ControlPacket, DecodeError, encode
from routed.model.bfd import BfdDiagnostic, BfdDrop, BfdReport, BfdSettings, BfdState

__all__ = ["SLOW_TX_US", "UPS_BURST", "UP_PERIOD_S", "Session"]

SLOW_TX_US = 1_000_000
"""Least Desired Min TX Interval of a session that is not up (RFC 5880, section 6.8.3)."""

UPS_BURST = 16
"""Times that a session comes up without a pause."""
UP_PERIOD_S = 2.0
"""After them: the shortest time between two."""

_US = 1e-6
_NEVER = math.inf


class Session:
    """Owns the state variables of RFC 5880, section 6.8.1, of one session."""

    def __init__(
        self, settings: BfdSettings, discriminator: int, rng: random.Random, now: float
    ) -> None:
        """Begin in the state Down.

        Args:
            settings: what the session is to do.
            discriminator: unique on this system, and not 0; may be replaced later.
            rng: for jitter and the first sequence number.
            now: seconds, monotonic.
        """
        self.settings = settings
        self.discriminator = discriminator
        self.state = BfdState.ADMIN_DOWN
        self.dropped: Counter[BfdDrop] = Counter()
        """Packets for this session that were dropped."""
        self.send_errors = 0
        """Packets that the network did not take; counted by the adapter."""
        self.scheduled_at = _NEVER
        """When the instance will call `handle_timer`; the instance's."""
        self.remote_port = 0
        """UDP port that the last valid packet came from; the instance's."""
        self._rng = rng
        self._auth = AuthState(rng.getrandbits(32))
        self._diagnostic = BfdDiagnostic.NONE
        self._remote = _Remote()
        self._tx_us = max(settings.transmit_us, SLOW_TX_US)
        """Desired Min TX Interval, as announced."""
        self._tx_in_use_us = self._tx_us
        self._rx_us = settings.receive_us
        """Required Min RX Interval, as announced."""
        self._rx_in_use_us = self._rx_us
        self._is_polling = False
        self._last_sent_at = now
        self._next_tx = now
        self._received_at: float | None = None
        """When the last valid packet came; None before the first, and after it was forgotten."""
        self._changed_at = now
        self._ups = _UpBudget(now)
        self._has_been_up = False
        self._packets_sent = self._packets_received = self._times_up = self._times_down = 0
        self._outputs: list[BfdOutput] = []
        self._fire(BfdEvent.ENABLED, now)

    # --- inputs

    def receive(self, packet: ControlPacket, data: bytes, section: bytes, now: float) -> None:
        """Handle a packet that was found to be for this session.

        Args:
            packet: decoded.
            data: the packet as it came, which the digest covers.
            section: its authentication section; empty if it has none.
            now: seconds, monotonic.

        Raises:
            DecodeError: the packet is dropped; nothing has changed but the sequence number.
        """
        key = self.settings.key
        if packet.is_authenticated is not (key is not None):
            raise DecodeError(BfdDrop.AUTHENTICATION)
        if key is not None:
            self._auth.verify(data, section, key, self.settings.multiplier)
        leads_up = packet.state in (BfdState.DOWN, BfdState.INIT)
        if self.state is BfdState.DOWN and leads_up and not self._ups.has_one(now):
            raise DecodeError(BfdDrop.FLAPPING)
        self._packets_received += 1
        remote = self._remote
        remote.record(packet)
        self._received_at = now
        if self._is_polling and packet.is_final:
            self._end_poll()
        self._fire(RECEIVED[packet.state], now)
        if packet.is_poll and self.state is not BfdState.ADMIN_DOWN:
            self._send(now, is_final=True)
        self._hasten(now)

    def handle_timer(self, now: float) -> bool:
        """Do what is due: the detection time before a transmission.

        Returns:
            Whether the sequence number of the other system was forgotten.
        """
        has_forgotten = now >= self._forgotten_at()
        if now >= self._detection_ends_at():
            self._fire(BfdEvent.EXPIRED, now)
            self._remote.discriminator = 0
        if has_forgotten:
            self._received_at = None
            self._auth.forget()
        if now >= self._next_tx:
            if self._transmits():
                self._send(now)
            else:
                self._next_tx = _NEVER
        return has_forgotten

    def reconfigure(self, settings: BfdSettings, now: float) -> None:
        """Apply other timers, or another key, without taking the session down.

        Args:
            settings: with the same addresses, link and kind as before.
            now: seconds, monotonic.
        """
        self.settings = settings
        self._announce(self._wanted_tx_us(), settings.receive_us, now)
        self._hasten(now)

    def disable(self, now: float) -> None:
        """Enter the state AdminDown, and send it to the other system once."""
        self._fire(BfdEvent.DISABLED, now)

    def next_timer(self) -> float:
        """Return when `handle_timer` is to be called; infinite if never."""
        return min(self._next_tx, self._detection_ends_at(), self._forgotten_at())

    def drain(self) -> list[BfdOutput]:
        """Take the outputs so far."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- state

    def _fire(self, event: BfdEvent, now: float) -> None:
        old, new = self.state, TRANSITIONS[self.state, event]
        if old is new:
            return
        self.state = new
        self._changed_at = now
        if new is BfdState.UP:
            self._diagnostic = BfdDiagnostic.NONE
            self._has_been_up = True
            self._times_up += 1
            self._ups.spend()
        else:
            self._diagnostic = DIAGNOSTICS.get(event, self._diagnostic)
            self._times_down += old is BfdState.UP
        if old is not BfdState.ADMIN_DOWN or new is not BfdState.DOWN:
            self._outputs.append(BfdStateChanged(self.settings.name, old, new))
        self._announce(self._wanted_tx_us(), self._rx_us, now)
        if event is not BfdEvent.ENABLED and self._remote.receives:
            self._send(now)

    def _wanted_tx_us(self) -> int:
        configured = self.settings.transmit_us
        return configured if self.state is BfdState.UP else max(configured, SLOW_TX_US)

    def _announce(self, tx_us: int, rx_us: int, now: float) -> None:
        """Change the announced intervals, with a poll sequence while the session is up."""
        if (tx_us, rx_us) == (self._tx_us, self._rx_us):
            return
        is_up = self.state is BfdState.UP
        self._tx_us, self._rx_us = tx_us, rx_us
        if not is_up or tx_us < self._tx_in_use_us:
            self._tx_in_use_us = tx_us
        if not is_up or rx_us > self._rx_in_use_us:
            self._rx_in_use_us = rx_us
        self._is_polling = is_up
        if is_up:
            self._next_tx = min(self._next_tx, now + self._pause_s())

    def _end_poll(self) -> None:
        self._is_polling = False
        self._tx_in_use_us, self._rx_in_use_us = self._tx_us, self._rx_us

    # --- transmission

    def _transmits(self) -> bool:
        """Whether packets are sent periodically (RFC 5880, section 6.8.7)."""
        remote = self._remote
        if self.settings.is_passive and remote.discriminator == 0:
            return False
        if not remote.receives:
            return False
        is_silenced = remote.is_demand and self.state is BfdState.UP and remote.state is BfdState.UP
        return not is_silenced or self._is_polling

    def _interval_us(self) -> int:
        return max(self._tx_in_use_us, self._remote.required_min_rx_us)

    def _pause_s(self) -> float:
        """Return the time to the next packet: the interval with jitter."""
        most = 0.9 if self.settings.multiplier == 1 else 1.0
        return self._interval_us() * _US * self._rng.uniform(0.75, most)

    def _hasten(self, now: float) -> None:
        """Move the next transmission forward where the interval has become shorter."""
        if not self._transmits():
            self._next_tx = _NEVER
            return
        latest = max(self._last_sent_at + self._interval_us() * _US, now)
        if self._next_tx > latest:
            self._next_tx = max(self._last_sent_at + self._pause_s(), now)

    def _send(self, now: float, *, is_final: bool = False) -> None:
        key, remote = self.settings.key, self._remote
        packet = ControlPacket(
            state=self.state,
            diagnostic=self._diagnostic,
            multiplier=self.settings.multiplier,
            my_discriminator=self.discriminator,
            your_discriminator=remote.discriminator,
            desired_min_tx_us=self._tx_us,
            required_min_rx_us=self._rx_us,
            is_poll=self._is_polling and not is_final,
            is_final=is_final,
        )
        data = encode(packet, section_bytes(key))
        if key is not None:
            data = self._auth.sign(data, key)
        self._outputs.append(SendControl(self.settings.name, data))
        self._packets_sent += 1
        if not is_final:  # an answer to a poll does not move the periodic packets
            self._last_sent_at = now
            self._next_tx = now + self._pause_s()

    # --- detection

    @property
    def _detection_s(self) -> float:
        """The detection time; 0 while nothing was received."""
        remote = self._remote
        if self._received_at is None:
            return 0.0
        return remote.multiplier * max(self._rx_in_use_us, remote.desired_min_tx_us) * _US

    def _detection_ends_at(self) -> float:
        """Return when the other system counts as lost; infinite if it has no discriminator."""
        if self._received_at is None or self._remote.discriminator == 0:
            return _NEVER
        return self._received_at + self._detection_s

    def _forgotten_at(self) -> float:
        """Return when the sequence number is forgotten: two detection times after a packet."""
        if self._received_at is None:
            return _NEVER
        return self._received_at + 2 * self._detection_s

    # --- for display

    def report(self, now: float) -> BfdReport:
        """Describe the session."""
        remote = self._remote
        return BfdReport(
            name=self.settings.name,
            state=self.state,
            diagnostic=self._diagnostic,
            local_discriminator=self.discriminator,
            remote_state=remote.state,
            remote_diagnostic=remote.diagnostic,
            remote_discriminator=remote.discriminator,
            has_been_up=self._has_been_up,
            transmit_interval_us=self._interval_us() if self._transmits() else 0,
            detection_time_us=round(self._detection_s / _US),
            remote_transmit_us=remote.desired_min_tx_us,
            remote_receive_us=remote.required_min_rx_us,
            remote_multiplier=remote.multiplier,
            is_remote_demand=remote.is_demand,
            is_polling=self._is_polling,
            age_s=now - self._changed_at,
            packets_sent=self._packets_sent,
            packets_received=self._packets_received,
            times_up=self._times_up,
            times_down=self._times_down,
            send_errors=self.send_errors,
            dropped={reason.value: count for reason, count in self.dropped.items()},
        )


class _UpBudget:
    """How often the session may come up."""

    __slots__ = ("_changed_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = float(UPS_BURST)
        self._changed_at = now

    def has_one(self, now: float) -> bool:
        """Return whether it may come up now."""
        gained = (now - self._changed_at) / UP_PERIOD_S
        self._left, self._changed_at = min(self._left + gained, UPS_BURST), now
        return self._left >= 1

    def spend(self) -> None:
        self._left -= 1


class _Remote:
    """What the other system has said in its last packet."""

    __slots__ = (
        "desired_min_tx_us",
        "diagnostic",
        "discriminator",
        "is_demand",
        "multiplier",
        "required_min_rx_us",
        "state",
    )

    def __init__(self) -> None:
        self.state = BfdState.DOWN
        self.diagnostic = BfdDiagnostic.NONE
        self.discriminator = 0
        self.multiplier = 0
        self.desired_min_tx_us = 0
        self.required_min_rx_us = 1
        """1 before the first packet, so that this system may send (RFC 5880, section 6.8.1)."""
        self.is_demand = False

    @property
    def receives(self) -> bool:
        """Whether it wants periodic packets at all."""
        return self.required_min_rx_us > 0

    def record(self, packet: ControlPacket) -> None:
        self.state = packet.state
        self.diagnostic = packet.diagnostic
        self.discriminator = packet.my_discriminator
        self.multiplier = packet.multiplier
        self.desired_min_tx_us = packet.desired_min_tx_us
        self.required_min_rx_us = packet.required_min_rx_us
        self.is_demand = packet.is_demand
