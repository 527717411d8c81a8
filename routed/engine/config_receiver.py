"""The configuration on its way from the parent: received in pieces, decoded, then applied. Pure.

    ConfBegin, ConfItem ..., ConfSecrets ..., ConfDrain --> ConfReady, with the problem if any
    ConfDone                                            --> ReceivedConfig, applied in one step

The phases are a table. A message that the table does not have is the parent's defect. A new
ConfBegin discards everything that was received before it.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from ipc import codec
from routed.config.schema import Config
from routed.config.transfer import ConfigTransfer, unpack
from routed.imsg.messages import (
    ConfBegin,
    ConfDone,
    ConfDrain,
    ConfItem,
    ConfReady,
    ConfSecrets,
)
from routed.model.secret import SharedSecret

__all__ = ["CONFIG_MESSAGES", "TRANSITIONS", "ConfigPhase", "ConfigReceiver", "ReceivedConfig"]

ConfigMessage = ConfBegin | ConfItem | ConfSecrets | ConfDrain | ConfDone
CONFIG_MESSAGES = (ConfBegin, ConfItem, ConfSecrets, ConfDrain, ConfDone)


class ConfigPhase(enum.Enum):
    """The phases of a configuration that is received."""

    IDLE = "idle"
    RECEIVING = "receiving"
    PREPARED = "prepared"
    """Decoded and valid."""
    REFUSED = "refused"
    """It could not be decoded."""


TRANSITIONS: dict[tuple[ConfigPhase, type[ConfigMessage]], ConfigPhase] = {
    (ConfigPhase.IDLE, ConfBegin): ConfigPhase.RECEIVING,
    (ConfigPhase.RECEIVING, ConfBegin): ConfigPhase.RECEIVING,
    (ConfigPhase.RECEIVING, ConfItem): ConfigPhase.RECEIVING,
    (ConfigPhase.RECEIVING, ConfSecrets): ConfigPhase.RECEIVING,
    (ConfigPhase.RECEIVING, ConfDrain): ConfigPhase.PREPARED,  # or REFUSED
    (ConfigPhase.PREPARED, ConfBegin): ConfigPhase.RECEIVING,
    (ConfigPhase.PREPARED, ConfDone): ConfigPhase.IDLE,
    (ConfigPhase.REFUSED, ConfBegin): ConfigPhase.RECEIVING,
}


class ReceivedConfig(NamedTuple):
    """A configuration that is to take effect now."""

    begin: ConfBegin
    config: Config
    secrets: tuple[SharedSecret, ...]


class ConfigReceiver:
    """Owns the configuration that is being received, until it takes effect."""

    def __init__(self) -> None:
        self.phase = ConfigPhase.IDLE
        self._begin: ConfBegin | None = None
        self._pieces: list[bytes] = []
        self._secrets: tuple[SharedSecret, ...] = ()
        self._prepared: Config | None = None

    def receive(
        self, message: ConfigMessage, running: Config | None
    ) -> ConfReady | ReceivedConfig | None:
        """Handle one message of a transfer.

        Args:
            message: the next one.
            running: the configuration in force, of which a transfer may leave parts out; None
                before the first.

        Returns:
            For ConfDrain the answer to send, for ConfDone the configuration to apply, else None.

        Raises:
            ValueError: the message is out of order (the parent's defect).
        """
        after = TRANSITIONS.get((self.phase, type(message)))
        if after is None:
            raise ValueError(f"{type(message).__name__} while {self.phase.value}")
        self.phase = after
        match message:
            case ConfBegin():
                self._begin, self._pieces, self._secrets = message, [], ()
                self._prepared = None
            case ConfItem(piece=piece):
                self._pieces.append(piece)
            case ConfSecrets(secrets=secrets):
                self._secrets += secrets
            case ConfDrain():
                return self._prepare(running)
            case ConfDone():
                return self._finish()
        return None

    def _prepare(self, running: Config | None) -> ConfReady:
        """Decode the configuration, and answer what is wrong with it."""
        assert self._begin is not None  # phase RECEIVING
        encoded = b"".join(self._pieces)
        self._pieces = []
        problem = ""
        if len(encoded) != self._begin.total_bytes:
            problem = f"{len(encoded)} bytes came of {self._begin.total_bytes}"
        else:
            try:
                self._prepared = unpack(codec.decode(ConfigTransfer, encoded), running)
            except (codec.CodecError, ValueError) as error:
                problem = str(error)
        if problem:
            self.phase = ConfigPhase.REFUSED
        return ConfReady(self._begin.generation, problem)

    def _finish(self) -> ReceivedConfig:
        """Release the configuration; nothing of it is kept here."""
        assert self._begin is not None  # phase PREPARED
        assert self._prepared is not None
        received = ReceivedConfig(self._begin, self._prepared, self._secrets)
        self._begin, self._secrets, self._prepared = None, (), None
        return received
