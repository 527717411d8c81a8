"""Every pair of state and event of the table, tested with a running instance and real causes.

The neighbor is controlled by the test. TWO_WAY is left in the step that enters
it, so nothing can happen there from outside; EXCHANGE_BEGUN is that step.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from routed.model.prefix import Prefix
from routed.nup.events import AdjacencyState, SendDatagram
from routed.nup.link.adjacency import TRANSITIONS, AdjacencyEvent
from routed.nup.wire.message import (
    Ack,
    BeginTable,
    EndOfTable,
    Goodbye,
    HeaderFlag,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Receiver,
    RestartNotice,
    RouteUpdate,
    Sender,
    Stream,
    TableVersion,
    Tlv,
    decode,
    encode,
)
from tests.fakes.fake_wire import link_settings, router_id
from tests.fakes.nup_pair import LOOPBACK, PEER, make_instance

OURS = Sender(router_id(1), 101)
NO_FLAGS = HeaderFlag(0)
THEIR_SESSION = 77
PREFIX = Prefix.parse("198.51.100.0/24")


class Puppet:
    """An instance, and a neighbor on its only link that is controlled by the test."""

    def __init__(self) -> None:
        self.instance = make_instance()
        self.now = 0.0
        self.boot_id = 7
        self.sequence = 0
        self.unicast_sequence = 0
        self.unacknowledged: list[tuple[Stream, int]] = []
        self.session = 0
        """The instance's number of the adjacency."""
        self.instance.link_up(link_settings(1, 1), self.now)
        self.instance.originate(LOOPBACK, 0, 0, False, self.now)
        self.drain()

    @property
    def state(self) -> AdjacencyState:
        """State of the adjacency; DOWN if there is none."""
        (state,) = [row.state for row in self.instance.neighbors(self.now)] or [AdjacencyState.DOWN]
        return state

    @property
    def knows_route(self) -> bool:
        """Whether the neighbor's route is still in use."""
        return any(row.prefix == PREFIX and row.is_selected for row in self.instance.learned())

    def drain(self) -> None:
        """Process the outputs of the instance."""
        for output in self.instance.outputs():
            if not isinstance(output, SendDatagram):
                continue
            message = decode(output.data)
            if message.type is MessageType.DATA:
                self.unacknowledged.append((message.stream, message.sequence))
            for tlv in message.tlvs:
                if isinstance(tlv, NeighborHeard):
                    self.session = tlv.session

    def wait(self, duration_s: float) -> None:
        """Let time pass and serve the instance's timers."""
        end = self.now + duration_s
        while (moment := self.instance.next_timer()) is not None and moment <= end:
            self.now = max(self.now, moment)
            self.instance.handle_timer(self.now)
            self.drain()
        self.now = end

    def send(
        self, kind: MessageType, *tlvs: Tlv, flags: HeaderFlag = NO_FLAGS, sequence: int = 0
    ) -> None:
        sender = Sender(router_id(2), self.boot_id)
        data = encode(Message(kind, flags, sequence, 1, sender, tlvs))
        self.instance.receive_datagram(data, PEER, 1, 255, self.now)
        self.drain()

    def heartbeat(self, *heard: NeighborHeard, flags: HeaderFlag = NO_FLAGS) -> None:
        self.sequence += 1
        hello = Hello(1000, 3, 1500, 0)
        self.send(MessageType.HEARTBEAT, hello, *heard, flags=flags, sequence=self.sequence)

    def hears_us(self, session: int = THEIR_SESSION, heard_session: int | None = None) -> None:
        known = self.session if heard_session is None else heard_session
        self.heartbeat(NeighborHeard(OURS.router_id, OURS.boot_id, session, known, 0, 0))

    def control(self, notice: Tlv) -> None:
        self.sequence += 1
        self.send(MessageType.CONTROL, notice, sequence=self.sequence)

    def tell(self, *content: Tlv) -> None:
        """Send unicast DATA to the instance."""
        self.unicast_sequence += 1
        self.send(
            MessageType.DATA,
            Receiver(OURS.router_id, self.session),
            TableVersion(self.unicast_sequence),
            *content,
            flags=HeaderFlag.UNICAST_STREAM,
            sequence=self.unicast_sequence,
        )

    def exchange_tables(self) -> None:
        """Send a table of one route, and acknowledge all messages."""
        self.tell(BeginTable(0))
        self.tell(RouteUpdate(PREFIX, 0, 0, False, router_id(2), 5))
        self.tell(EndOfTable(1))
        self.wait(0.05)
        acks = [
            Ack(OURS.router_id, self.session, stream, max(sequences), ())
            for stream in Stream
            if (sequences := [number for its, number in self.unacknowledged if its is stream])
        ]
        self.send(MessageType.ACK, *(acks or [Ack(OURS.router_id, 1, Stream.UNICAST, 0, ())]))

    def reach(self, state: AdjacencyState) -> None:
        """Bring the adjacency from nothing to a state."""
        if state is not AdjacencyState.DOWN:
            self.heartbeat()
            self.wait(0.05)  # it tells its session
        if state in (AdjacencyState.LOADING, AdjacencyState.UP):
            self.hears_us()
        if state is AdjacencyState.UP:
            self.exchange_tables()
        assert self.state is state


def _dead(puppet: Puppet) -> None:
    puppet.wait(3.01)


def _given_up(puppet: Puppet) -> None:
    """Have the neighbor hear the instance all the time and acknowledge nothing."""
    puppet.instance.originate(Prefix.parse("203.0.113.0/24"), 0, 0, False, puppet.now)
    is_heard_both_ways = puppet.state.exchanges_routes
    for _ in range(6):
        puppet.wait(0.9)
        if is_heard_both_ways and puppet.state.exchanges_routes:
            puppet.hears_us()
        elif puppet.state is AdjacencyState.INIT:
            puppet.heartbeat()


def _new_life(puppet: Puppet) -> None:
    puppet.boot_id += 1
    puppet.sequence = 0
    puppet.heartbeat()


CAUSES: dict[AdjacencyEvent, Callable[[Puppet], object]] = {
    AdjacencyEvent.HELLO_HEARD: lambda puppet: puppet.heartbeat(flags=HeaderFlag.PARTIAL_LIST),
    AdjacencyEvent.HELLO_ONE_WAY: Puppet.heartbeat,
    AdjacencyEvent.HELLO_TWO_WAY: Puppet.hears_us,
    AdjacencyEvent.TABLES_EXCHANGED: Puppet.exchange_tables,
    AdjacencyEvent.NEIGHBOR_RESET: lambda puppet: puppet.hears_us(78, 0),
    AdjacencyEvent.NEIGHBOR_RESTARTED: _new_life,
    AdjacencyEvent.RESTART_ANNOUNCED: lambda puppet: puppet.control(RestartNotice(30_000)),
    AdjacencyEvent.GOODBYE_HEARD: lambda puppet: puppet.control(Goodbye()),
    AdjacencyEvent.DEAD_TIMER: _dead,
    AdjacencyEvent.GIVEN_UP: _given_up,
    AdjacencyEvent.LINK_LOST: lambda puppet: puppet.instance.link_down(1, puppet.now),
    AdjacencyEvent.CLEARED: lambda puppet: puppet.instance.clear_neighbor(router_id(2), puppet.now),
}
FROM_OUTSIDE = [state for state in AdjacencyState if state is not AdjacencyState.TWO_WAY]
HEARD = {
    AdjacencyEvent.HELLO_HEARD,
    AdjacencyEvent.HELLO_ONE_WAY,
    AdjacencyEvent.HELLO_TWO_WAY,
    AdjacencyEvent.NEIGHBOR_RESET,
    AdjacencyEvent.NEIGHBOR_RESTARTED,
}
"""Events caused by a heartbeat, after which the neighbor is not DOWN."""


def expected(state: AdjacencyState, event: AdjacencyEvent) -> AdjacencyState:
    """Return the state according to the table, including transitions that follow in the same
    step."""
    if state is AdjacencyState.DOWN and event in HEARD:
        return TRANSITIONS[state, AdjacencyEvent.HELLO_HEARD].state
    after = TRANSITIONS[state, event].state
    return AdjacencyState.LOADING if after is AdjacencyState.TWO_WAY else after


@pytest.mark.parametrize("event", CAUSES, ids=lambda event: event.name.lower())
@pytest.mark.parametrize("state", FROM_OUTSIDE, ids=lambda state: state.name.lower())
def test_a_running_adjacency_goes_where_the_table_says(
    state: AdjacencyState, event: AdjacencyEvent
) -> None:
    puppet = Puppet()
    puppet.reach(state)
    CAUSES[event](puppet)
    assert puppet.state is expected(state, event)


@pytest.mark.parametrize("event", CAUSES, ids=lambda event: event.name.lower())
def test_the_routes_of_an_adjacency_that_was_up_are_kept_or_forgotten_as_the_table_says(
    event: AdjacencyEvent,
) -> None:
    puppet = Puppet()
    puppet.reach(AdjacencyState.UP)
    assert puppet.knows_route
    CAUSES[event](puppet)
    action = TRANSITIONS[AdjacencyState.UP, event].action.name
    assert puppet.knows_route is (action in ("IGNORE", "RETAIN"))


@pytest.mark.parametrize("event", CAUSES, ids=lambda event: event.name.lower())
def test_a_neighbor_that_announced_its_restart_is_kept_through_what_does_not_end_the_grace(
    event: AdjacencyEvent,
) -> None:
    puppet = Puppet()
    puppet.reach(AdjacencyState.UP)
    puppet.control(RestartNotice(30_000))
    assert (puppet.state, puppet.knows_route) == (AdjacencyState.DOWN, True)
    CAUSES[event](puppet)
    action = TRANSITIONS[AdjacencyState.DOWN, event].action.name
    assert puppet.knows_route is (action != "FORGET")


def test_no_event_is_left_out() -> None:
    assert CAUSES.keys() | {AdjacencyEvent.EXCHANGE_BEGUN} == set(AdjacencyEvent)
