"""Recorder of NUP's inputs and outputs, for replay.

    NeighborInstance --record_input, record_outputs--> Recorder --text--> a recording

The core has no clock, no socket and no randomness of its own: its state and its inputs, with their
times, determine everything that it does. So a recording is the state at its start, every input
since, and the outputs that were drained after each (`text` describes the lines). A `Replay` feeds
the inputs to that state and compares the outputs.

Secrets never get into a recording. Each is replaced by one that is derived from it with a salt that
is dropped at the end. A datagram, received or sent, that is signed by a key of its link is signed
again by the stand-in; one that none of our keys signed stays as it is. So a replay accepts and
refuses the same signatures as the original, and signs as the recording shows. The state of the
random generator is recorded: a reader of the recording could predict jitter and session numbers, so
the caller should seed the generator again when the recording ends.

Bounds: a recording ends by itself, marked "full", at its limit. The state at its start, which the
caller bounds by the limits on learned routes, is in it whatever the limit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from routed.model.prefix import Address
from routed.nup.auth.guard import signed_by_another
from routed.nup.auth.keys import AuthKey, KeyRing
from routed.nup.events import Datagram, Output, SendDatagram
from routed.nup.instance import NeighborInstance
from routed.nup.link.settings import LinkSettings
from routed.nup.recording.saved_state import save_state
from routed.nup.recording.text import (
    FORMAT,
    LIMIT_BYTES,
    NewInstance,
    summarize_state,
    write_arguments,
    write_output,
    write_value,
)

__all__ = ["Recorder"]


class Recorder:
    """Writes one recording, in memory."""

    def __init__(
        self,
        instance: NeighborInstance,
        salt: bytes,
        now: float,
        *,
        limit_bytes: int = LIMIT_BYTES,
        start: NewInstance | None = None,
    ) -> None:
        """Write the header. `NeighborInstance.record_to` then has the instance call this recorder.

        Args:
            instance: not being recorded.
            salt: random, 16 to 32 bytes, used for nothing else: it hides secrets.
            now: seconds, monotonic.
            limit_bytes: of the recording; more than that is not written.
            start: the arguments of the instance, if it has had no input yet; without it its state
                is saved. Cost then: linear in the learned routes.
        """
        self._salt = salt
        self._limit_bytes = limit_bytes
        self.is_full = False
        self._keys: dict[int, dict[AuthKey, AuthKey]] = {}
        """The keys of each link since the start, each with its stand-in."""
        for ifindex, ring in instance.key_rings().items():
            self._remember_keys(ifindex, ring)
        if start is None:
            began: dict[str, Any] = {"state": save_state(instance, self._stand_in)}
        else:
            began = {"new": write_value(NewInstance, start)}
        header = json.dumps({"routed-recording": FORMAT, "at": now, "start": began})
        self._lines = [header]  # also where it is longer than the limit: nothing goes without it
        self.size_bytes = len(header) + 1

    def record_input(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Write an input that is about to be carried out: its method and its arguments."""
        if self.is_full:
            return
        match name, arguments:
            case (("link_up" | "link_changed"), (LinkSettings() as settings, now)):
                self._remember_keys(settings.ifindex, settings.key_ring)
                arguments = (self._without_secrets(settings), now)
            case "receive_burst", (datagrams, now):
                arguments = ([self._received(datagram) for datagram in datagrams], now)
        self._add({"in": name, **write_arguments(name, arguments)})

    def record_outputs(self, outputs: Sequence[Output]) -> None:
        """Write the drained outputs, if there are any."""
        if outputs and not self.is_full:
            self._add({"out": [write_output(self._sent(output)) for output in outputs]})

    def text(self, instance: NeighborInstance, now: float) -> str:
        """Return the whole recording, ended here. No more can be recorded."""
        end = "full" if self.is_full else "complete"
        line = {"end": end, "at": now, "state": summarize_state(instance, now)}
        self._lines.append(json.dumps(line))
        self.is_full = True
        self._salt = b""
        self._keys.clear()
        return "\n".join(self._lines) + "\n"

    def _add(self, line: dict[str, Any]) -> None:
        written = json.dumps(line)
        if self.size_bytes + len(written) > self._limit_bytes:
            self.is_full = True
            return
        self.size_bytes += len(written) + 1
        self._lines.append(written)

    # Secrets

    def _stand_in(self, key: AuthKey) -> AuthKey:
        secret = hashlib.blake2s(key.secret, key=self._salt).digest()
        return dataclasses.replace(key, secret=secret)

    def _remember_keys(self, ifindex: int, ring: KeyRing | None) -> None:
        if ring is not None:
            keys = self._keys.setdefault(ifindex, {})
            keys.update({key: self._stand_in(key) for key in ring.keys})

    def _without_secrets(self, settings: LinkSettings) -> LinkSettings:
        ring = settings.key_ring
        if ring is None:
            return settings
        ring = KeyRing(ring.name, tuple(map(self._stand_in, ring.keys)))
        return dataclasses.replace(settings, key_ring=ring)

    def _received(self, datagram: Datagram) -> Datagram:
        data = self._signed_again(datagram.data, datagram.source, datagram.ifindex)
        return datagram._replace(data=data)

    def _sent(self, output: Output) -> Output:
        if not isinstance(output, SendDatagram) or output.source is None:
            return output
        data = self._signed_again(output.data, output.source, output.ifindex)
        return dataclasses.replace(output, data=data)

    def _signed_again(self, data: bytes, source: Address, ifindex: int) -> bytes:
        for key, stand_in in self._keys.get(ifindex, {}).items():
            signed = signed_by_another(data, key, stand_in, source)
            if signed is not None:
                return signed
        return data
