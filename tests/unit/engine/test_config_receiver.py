"""Transfer of a configuration from the parent: its phases, its parts, and its errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipc import codec
from routed.config.load import load_text
from routed.config.transfer import pack
from routed.engine.config_receiver import (
    CONFIG_MESSAGES,
    TRANSITIONS,
    ConfigMessage,
    ConfigPhase,
    ConfigReceiver,
    ReceivedConfig,
)
from routed.imsg.messages import ConfBegin, ConfDone, ConfDrain, ConfItem, ConfReady, ConfSecrets
from routed.model.secret import SharedSecret

CONFIG = load_text(
    "router_id: 10.255.0.1\nuser: root\nstatic: [{prefix: 10.1.0.0/16, type: blackhole}]\n"
)
ENCODED = codec.encode(pack(CONFIG, None))
SECRETS = tuple(SharedSecret("a", number, bytes(16)) for number in range(500))


def begin(generation: int = 1, total_bytes: int = len(ENCODED)) -> ConfBegin:
    return ConfBegin(generation, total_bytes, 0, 0, {}, "/etc/routed/routes.yaml", 1, 1)


def transfer(generation: int = 1) -> Iterator[ConfigMessage]:
    """Yield all messages up to ConfDrain, in small parts."""
    yield begin(generation)
    for start in range(0, len(ENCODED), 7):
        yield ConfItem(ENCODED[start : start + 7])
    yield ConfSecrets(SECRETS[:300])
    yield ConfSecrets(SECRETS[300:])


def sent(receiver: ConfigReceiver, generation: int = 1) -> None:
    for message in transfer(generation):
        assert receiver.receive(message, None) is None


def test_a_configuration_is_answered_and_then_applied_in_one_step() -> None:
    receiver = ConfigReceiver()
    for generation in (1, 2):
        sent(receiver, generation)
        assert receiver.receive(ConfDrain(), None) == ConfReady(generation, "")
        received = receiver.receive(ConfDone(), None)
        assert received == ReceivedConfig(begin(generation), CONFIG, SECRETS)


def test_a_new_begin_discards_what_was_received_before_it() -> None:
    receiver = ConfigReceiver()
    receiver.receive(begin(), None)
    receiver.receive(ConfItem(b"half of it"), None)
    receiver.receive(ConfSecrets(SECRETS), None)
    sent(receiver, 2)
    assert receiver.receive(ConfDrain(), None) == ConfReady(2, "")
    received = receiver.receive(ConfDone(), None)
    assert isinstance(received, ReceivedConfig)
    assert received.secrets == SECRETS


@pytest.mark.parametrize(
    ("total_bytes", "piece", "problem"),
    [(5, b"abc", "3 bytes came of 5"), (3, b"abc", "")],
    ids=["cut short", "not a configuration"],
)
def test_a_configuration_that_cannot_be_decoded_is_refused_and_not_applied(
    total_bytes: int, piece: bytes, problem: str
) -> None:
    receiver = ConfigReceiver()
    receiver.receive(begin(total_bytes=total_bytes), None)
    receiver.receive(ConfItem(piece), None)
    answer = receiver.receive(ConfDrain(), None)
    assert isinstance(answer, ConfReady)
    assert answer.problem.startswith(problem)
    assert answer.problem
    assert receiver.phase is ConfigPhase.REFUSED
    with pytest.raises(ValueError, match="ConfDone while refused"):
        receiver.receive(ConfDone(), None)
    sent(receiver)
    assert receiver.receive(ConfDrain(), None) == ConfReady(1, "")


@pytest.mark.parametrize("phase", list(ConfigPhase))
@pytest.mark.parametrize("message_class", CONFIG_MESSAGES)
def test_a_message_out_of_order_is_a_defect(
    phase: ConfigPhase, message_class: type[ConfigMessage]
) -> None:
    if (phase, message_class) in TRANSITIONS:
        return
    receiver = ConfigReceiver()
    receiver.phase = phase
    messages: dict[type, ConfigMessage] = {
        ConfItem: ConfItem(b""), ConfSecrets: ConfSecrets(()), ConfDrain: ConfDrain(),
        ConfDone: ConfDone(),
    }  # fmt: skip
    with pytest.raises(ValueError, match=phase.value):
        receiver.receive(messages[message_class], None)


def test_a_configuration_may_begin_at_any_time() -> None:
    assert {phase for phase, message in TRANSITIONS if message is ConfBegin} == set(ConfigPhase)
