"""What an engine should be told, and the descriptors that ride along."""

from __future__ import annotations

import os

from routed.imsg.messages import FibProgress, LinkRemoved, Ping, RoutesLearned
from routed.model.link import Interface
from routed.parent.engine_process.send_queue import Outbox


class Nothing:
    """A parent without links and news."""

    def link(self, ifindex: int) -> Interface | None:
        return None

    def take_progress(self) -> FibProgress | None:
        return None

    def take_learned(self) -> RoutesLearned | None:
        return None


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_messages_in_order_come_first_and_state_is_said_once() -> None:
    outbox = Outbox(Nothing())
    outbox.mark_link(7)
    outbox.send(Ping())
    outbox.mark_link(7)
    first, second = outbox.take(is_running=True), outbox.take(is_running=True)
    assert first is not None
    assert second is not None
    assert (first.message, second.message) == (Ping(), LinkRemoved(7))
    assert outbox.take(is_running=True) is None


def test_an_engine_that_is_configured_is_told_no_state() -> None:
    outbox = Outbox(Nothing())
    outbox.mark_link(7)
    assert outbox.take(is_running=False) is None
    assert len(outbox) == 1


def test_no_descriptor_outlives_the_engine_that_it_was_for() -> None:
    outbox = Outbox(Nothing())
    waiting, late = os.memfd_create("waiting"), os.memfd_create("late")
    outbox.send(Ping(), descriptor=waiting)
    outbox.close()
    assert not is_open(waiting)
    outbox.send(Ping(), descriptor=late)
    assert not is_open(late)
    assert outbox.take(is_running=True) is None
