"""What an engine should be told, and the descriptors that ride along."""

from __future__ import annotations

import os

from routed.imsg.messages import FibProgress, LinkRemoved, LogLine, Ping, RoutesImported
from routed.model.link import Interface
from routed.parent.engine_process.send_queue import SendQueue


class Nothing:
    """A parent without links and news."""

    def link(self, ifindex: int) -> Interface | None:
        return None

    def pop_progress(self) -> FibProgress | None:
        return None

    def pop_imported(self) -> RoutesImported | None:
        return None


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_ordered_messages_come_first_and_state_is_sent_once() -> None:
    send_queue = SendQueue(Nothing())
    send_queue.mark_link(7)
    send_queue.send(Ping())
    send_queue.mark_link(7)
    first, second = send_queue.pop(is_running=True), send_queue.pop(is_running=True)
    assert first is not None
    assert second is not None
    assert (first.message, second.message) == (Ping(), LinkRemoved(7))
    assert send_queue.pop(is_running=True) is None


def test_each_log_line_is_sent_once_and_in_order() -> None:
    """A line that a new engine logged before the log was sent to it came first, and twice."""
    lines = [LogLine(float(at), "info", "engine", "event", f"line {at}") for at in range(4)]
    send_queue = SendQueue(Nothing())
    send_queue.send_line(lines[1])
    assert send_queue.pop(is_running=True) is None
    send_queue.send_log(lines[:3])
    send_queue.send_line(lines[3])
    sent = []
    while (item := send_queue.pop(is_running=True)) is not None:
        sent.append(item.message)
    assert sent == lines


def test_an_engine_that_is_being_configured_gets_no_state() -> None:
    send_queue = SendQueue(Nothing())
    send_queue.mark_link(7)
    assert send_queue.pop(is_running=False) is None
    assert len(send_queue) == 1


def test_no_descriptor_outlives_the_engine_that_it_was_for() -> None:
    send_queue = SendQueue(Nothing())
    waiting, late = os.memfd_create("waiting"), os.memfd_create("late")
    send_queue.send(Ping(), descriptor=waiting)
    send_queue.close()
    assert not is_open(waiting)
    send_queue.send(Ping(), descriptor=late)
    assert not is_open(late)
    assert send_queue.pop(is_running=True) is None
