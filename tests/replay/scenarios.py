"""The scenarios that the cases of this folder were recorded from, each with a few routers on a
FakeWire.

`b` is the router that is recorded. Each scenario asserts that the situation of its description has
occurred, so that no other one is recorded. `python -m tests.replay record NAME` writes a case.
"""

from __future__ import annotations

from collections.abc import Callable

from routed.config import scalars
from routed.nup.events import AdjacencyReason, AdjacencyState, Datagram
from routed.nup.link.cost import RttCost
from routed.nup.link.damping import Damping
from routed.nup.routes.policy import NeighborRule, Policy
from routed.nup.wire.message import (
    HeaderFlag,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Sender,
    Tlv,
    decode,
    encode,
)
from tests.fakes import nup_keys
from tests.fakes.fake_wire import Node, WireFaults, link_settings, router_id
from tests.fakes.nup_pair import IPV6, LOOPBACK, many_prefixes
from tests.replay.corpus import Case
from tests.replay.scene import Scene

__all__ = ["SCENARIOS", "record"]

NO_FLAGS = HeaderFlag(0)
SCENARIOS: dict[str, Callable[[Scene], None]] = {}
"""The scenarios by the name of the case."""


def scenario(name: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Name a scenario; its docstring is the description of the case."""

    def register(function: Callable[[Scene], None]) -> Callable[[Scene], None]:
        SCENARIOS[name] = function
        return function

    return register


def record(name: str) -> Case:
    """Run a scenario. Returns its case."""
    scene = Scene()
    SCENARIOS[name](scene)
    return scene.case((SCENARIOS[name].__doc__ or "").strip())


def up(node: Node) -> bool:
    """Whether the last report of a router about an adjacency is that it is up."""
    return bool(node.adjacency_log) and node.adjacency_log[-1].new is AdjacencyState.UP


def pair(scene: Scene, **link: int) -> tuple[Node, Node]:
    """a and b on one wire; a originates a prefix of each family, b one of IPv4."""
    a, b = scene.add_node("a"), scene.observe("b")
    scene.phase("the adjacency forms and tables are exchanged")
    scene.connect("a", "b", **link)  # type: ignore[arg-type]
    scene.originate("a", str(LOOPBACK), str(IPV6))
    scene.originate("b", "10.255.0.2/32")
    scene.run(1.5)
    assert up(b)
    assert b.learned.keys() == {LOOPBACK, IPV6}
    return a, b


def listen(scene: Scene) -> list[bytes]:
    """Record all datagrams of a on the first wire from now on, the last one last."""
    heard: list[bytes] = []

    def keep(sender: Node, _to: Node, data: bytes) -> bool:
        if sender.name == "a":
            heard.append(data)
        return False

    scene.segments[0].drops = keep
    return heard


def last_reason(node: Node) -> AdjacencyReason:
    """Return the reason of the last change of an adjacency."""
    return node.adjacency_log[-1].reason


@scenario("first-adjacency-with-challenge")
def first_adjacency(scene: Scene) -> None:
    """Two routers with a key meet: each answers a challenge, the adjacency forms, and tables are
    exchanged."""
    scene.add_node("a")
    b = scene.observe("b")
    scene.phase("the link comes up; a is heard, challenged and proven")
    ring = nup_keys.ring()
    scene.connect("a", "b", key_rings={"a": ring, "b": ring})
    scene.originate("a", str(LOOPBACK))
    scene.run_until(lambda: scene.counted("proven") > 0, limit_s=3)
    scene.phase("tables are exchanged")
    scene.run_until(lambda: up(b) and LOOPBACK in b.learned, limit_s=3)
    assert scene.counted("challenge_answered") > 0


@scenario("dead-interval")
def dead_interval(scene: Scene) -> None:
    """The wire is cut without loss of carrier: the adjacency ends with the dead interval."""
    _, b = pair(scene)
    scene.phase("nothing arrives any more; b still sends")
    scene.cut(scene.segments[0], has_carrier_loss=False)
    scene.run(2)
    assert up(b)
    scene.phase("the dead interval has passed: adjacency and routes are lost")
    scene.run(2)
    assert last_reason(b) is AdjacencyReason.DEAD_INTERVAL
    assert not b.learned


@scenario("goodbye")
def goodbye(scene: Scene) -> None:
    """A neighbor leaves with GOODBYE: adjacency and routes end at once, and late datagrams have no
    effect."""
    _, b = pair(scene)
    heard = listen(scene)
    scene.run(1.2)
    late = heard[-1]
    scene.phase("a says GOODBYE")
    scene.stop("a", is_restart=False)
    scene.run(0.1)
    assert last_reason(b) is AdjacencyReason.GOODBYE
    assert not b.learned
    scene.phase("a datagram that a sent before arrives after it")
    source = scene.nodes["a"].links[1][1].local_address
    b.instance.receive_datagram(late, source, 1, 255, scene.now)
    scene.kick("b")
    assert scene.counted("dropped_after_leaving") == 1


@scenario("restart-with-held-forwarding")
def restart(scene: Scene) -> None:
    """A neighbor restarts with RESTART: its routes stay in use as stale routes until its new table
    is complete; routes that it does not advertise again are removed."""
    a, b = pair(scene)
    scene.phase("a says RESTART and is gone; its routes are kept")
    scene.stop("a", is_restart=True)
    scene.run(1)
    assert b.learned.keys() == {LOOPBACK, IPV6}
    scene.phase("a is back without its IPv6 prefix; the end of its table sweeps that")
    del a.origins[IPV6]
    scene.revive("a")
    scene.run(2.5)
    assert b.learned.keys() == {LOOPBACK}
    assert up(b)


@scenario("carrier-loss-with-feasible-alternate")
def carrier_loss(scene: Scene) -> None:
    """The link to the next hop loses its carrier: a feasible alternate takes over in the same step,
    without a request to any origin."""
    scene.add_node("a")
    b = scene.observe("b")
    scene.add_node("c")
    scene.phase("b reaches a directly, and could by c")
    direct = scene.connect("a", "b", cost=10)
    scene.connect("a", "c", cost=5)
    scene.connect("c", "b", cost=10)
    scene.originate("a", str(LOOPBACK))
    scene.run(2)
    assert b.learned[LOOPBACK].metric == 10
    scene.phase("the link to a is down")
    scene.cut(direct)
    assert b.learned[LOOPBACK].metric == 15
    scene.run(0.5)
    assert scene.counted("seqno_request_sent") == 0


def ring_of_three(scene: Scene, observed: str) -> tuple[Node, Node, Node]:
    """a originates; c reaches it directly at 10, b over c; b's own link to a costs 50."""
    nodes = {name: scene.observe(name) if name == observed else scene.add_node(name)
             for name in "abc"}  # fmt: skip
    scene.phase("all three know the way to a's prefix; b's is by c")
    scene.connect("a", "c", cost=10)
    scene.connect("c", "b", cost=10)
    scene.connect("a", "b", cost=50)
    scene.originate("a", str(LOOPBACK))
    scene.run(2)
    assert nodes["c"].learned[LOOPBACK].metric == 10
    assert nodes["b"].learned[LOOPBACK].metric == 20
    return nodes["a"], nodes["b"], nodes["c"]


@scenario("seqno-request-relayed-and-answered")
def seqno_relayed(scene: Scene) -> None:
    """A neighbor is starved and requests a newer seqno: b relays the request to the origin, and the
    answer to the neighbor."""
    _, b, c = ring_of_three(scene, "b")
    scene.phase("c loses its link to a; only b's route is left, and is unfeasible to c")
    scene.cut(scene.segments[0])
    scene.run(2)
    assert scene.counted("seqno_request_forwarded") >= 1
    assert b.learned[LOOPBACK].metric == 50
    assert c.learned[LOOPBACK].metric == 60


@scenario("starved-then-repaired")
def starved(scene: Scene) -> None:
    """The only remaining route is not feasible: it is not used, the origin is asked for a newer
    seqno, and the update with it makes the route feasible."""
    _, _, c = ring_of_three(scene, "c")
    scene.phase("the link to a is down; b's route is unfeasible, and a request is sent")
    scene.cut(scene.segments[0])
    scene.run_until(lambda: scene.counted("seqno_request_sent") > 0, limit_s=3)
    assert LOOPBACK not in c.learned
    scene.phase("an update with a newer seqno comes")
    scene.run(2)
    assert c.learned[LOOPBACK].metric == 60


@scenario("retraction-and-hold")
def retraction(scene: Scene) -> None:
    """A prefix is withdrawn: it is held, so that no shorter prefix is used, until the neighbor that
    had it has acknowledged the retraction."""
    scene.add_node("a")
    b = scene.observe("b")
    scene.add_node("c")
    scene.phase("a - b - c; c has a's prefixes by b")
    scene.connect("a", "b")
    right = scene.connect("b", "c")
    scene.originate("a", str(LOOPBACK), str(IPV6))
    scene.run(2)
    assert b.learned.keys() == {LOOPBACK, IPV6}
    scene.phase("a withdraws one; what b says of it to c is lost")
    right.drops = lambda sender, _to, _data: sender is b
    scene.withdraw("a", str(LOOPBACK))
    scene.run(0.3)
    assert b.held == {LOOPBACK}
    scene.phase("c is heard again: it acknowledges, and the prefix is lost")
    right.drops = None
    scene.run(1)
    assert not b.held
    assert b.learned.keys() == {IPV6}


@scenario("cost-change-below-and-above-hysteresis")
def hysteresis(scene: Scene) -> None:
    """A small increase of the round-trip time leaves the metric unchanged; a large one changes
    it."""
    scene.faults.delay_s = 0.005
    _, b = pair(scene)
    scene.phase("the cost follows the round trip, which is below the least that counts")
    for name in "ab":
        scene.replace_settings(name, rtt_cost=RttCost(0.010, 0.110, 160))
    scene.run(2)
    assert b.learned[LOOPBACK].metric == 10
    scene.phase("16 ms: an eighth of the range is not passed")
    scene.faults.delay_s = 0.008
    scene.run(6)
    assert b.learned[LOOPBACK].metric == 10
    scene.phase("60 ms: it is")
    scene.faults.delay_s = 0.030
    scene.run(6)
    assert b.learned[LOOPBACK].metric > 50


@scenario("two-links-on-one-lan")
def two_links(scene: Scene) -> None:
    """Two links of one router are on one LAN: it drops its own datagrams, and has an adjacency with
    its neighbor on each link."""
    scene.add_node("a")
    b = scene.observe("b")
    scene.phase("b hears itself, and a twice")
    scene.connect("a", "b", "b")
    scene.originate("a", str(LOOPBACK))
    scene.run(2.5)
    assert scene.counted("dropped_own_message") > 0
    assert len(b.learned[LOOPBACK].next_hops) == 2


@scenario("key-on-one-side-only")
def one_sided_key(scene: Scene) -> None:
    """A link with a key receives datagrams of a neighbor without a key, and of one with another
    secret: neither is accepted, and `show neighbors` gives the reason."""
    scene.add_node("a")
    b = scene.observe("b")
    scene.add_node("c")
    scene.phase("a does not sign, c signs with another secret")
    wrong = nup_keys.ring(nup_keys.key(secret=b"another secret"))
    scene.connect("a", "b", "c", key_rings={"b": nup_keys.ring(), "c": wrong})
    scene.originate("a", str(LOOPBACK))
    scene.run(2.5)
    assert scene.counted("dropped_unsigned") > 0
    assert scene.counted("dropped_bad_mac") > 0
    assert not b.learned
    assert not b.adjacency_log


@scenario("replayed-datagram")
def replayed(scene: Scene) -> None:
    """A signed datagram arrives a second time, and a third time from another address: both copies
    are dropped."""
    scene.add_node("a")
    b = scene.observe("b")
    scene.phase("an authenticated adjacency; somebody listens")
    ring = nup_keys.ring()
    scene.connect("a", "b", key_rings={"a": ring, "b": ring})
    heard = listen(scene)
    scene.originate("a", str(LOOPBACK))
    scene.run(2)
    assert up(b)
    source = scene.nodes["a"].links[1][1].local_address
    scene.phase("the last datagram of a comes again")
    b.instance.receive_datagram(heard[-1], source, 1, 255, scene.now)
    scene.kick("b")
    assert scene.counted("dropped_replay") == 1
    scene.phase("from another address the signature is wrong")
    forged = type(source)(source.family, source.addr_bits + 7)
    b.instance.receive_datagram(heard[-1], forged, 1, 255, scene.now)
    scene.kick("b")
    assert scene.counted("dropped_bad_mac") == 1
    assert b.learned.keys() == {LOOPBACK}


@scenario("table-load-with-loss")
def table_load(scene: Scene) -> None:
    """A table of 300 prefixes crosses a link that loses a fifth of the datagrams, duplicates some
    and reorders them: missing messages are sent again, and the table is complete."""
    a, b = pair(scene)
    scene.phase("the wire becomes bad, and a tells 300 prefixes")
    scene.faults = WireFaults(loss=0.2, duplication=0.1, delay_s=0.001, jitter_s=0.004)
    scene.originate("a", *many_prefixes(300))
    scene.run(0.2)
    scene.phase("retransmission fills the gaps")
    scene.run_until(lambda: len(b.learned) == 302, limit_s=20)
    (row,) = a.instance.neighbors(scene.now)
    assert row.retransmissions > 0
    scene.phase("b clears the adjacency: the whole table is told again over the bad wire")
    b.instance.clear_neighbor(a.router_id, scene.now)
    scene.kick("b")
    scene.run(0.1)
    scene.run_until(lambda: up(b) and len(b.learned) == 302, limit_s=20)


@scenario("prefix-limit")
def prefix_limit(scene: Scene) -> None:
    """A neighbor advertises more prefixes than may be learned from it: the excess is refused and
    logged once; when the number is below the limit again, the neighbor is asked for its table."""
    _, b = pair(scene)
    scene.phase("at most four prefixes may be learned, and a tells eight more")
    scene.replace_settings("b", max_prefixes=4)
    scene.originate("a", *many_prefixes(8))
    scene.run(1)
    assert len(b.learned) == 4
    assert scene.counted("prefix_limit") == 1
    scene.phase("the limit is raised; the table is asked for")
    scene.replace_settings("b", max_prefixes=100)
    scene.run(1)
    assert len(b.learned) == 10
    assert scene.counted("table_requested") == 1


@scenario("router-id-conflict")
def conflict(scene: Scene) -> None:
    """One neighbor has b's own router id and is ignored; two others share one, and the first that
    was heard is kept."""
    scene.add_node("a")
    b = scene.observe("b")
    scene.add_node("twin", clone_of=b)
    first = scene.add_node("first")
    scene.add_node("second", clone_of=first)
    scene.phase("a and b meet")
    scene.connect("a", "b")
    scene.originate("a", str(LOOPBACK))
    scene.run(1.5)
    assert up(b)
    scene.phase("on a second link is a router with b's own id")
    scene.connect("b", "twin")
    scene.run(1.5)
    assert scene.counted("duplicate_router_id") >= 1
    scene.phase("on a third link are two routers with one id")
    scene.connect("b", "first", "second")
    scene.run(2.5)
    assert scene.counted("duplicate_neighbor_id") >= 1


@scenario("damping")
def damping(scene: Scene) -> None:
    """A neighbor flaps three times within the half-life: it is suppressed, and accepted again when
    the penalty has decayed."""
    _, b = pair(scene)
    scene.phase("the carrier goes and comes three times")
    scene.replace_settings("b", damping=Damping(half_life_s=4, suppress=2500, reuse=1500,
                                                longest_s=60))  # fmt: skip
    for _ in range(3):
        scene.run_until(lambda: up(b), limit_s=5)
        scene.cut(scene.segments[0])
        scene.run(0.1)
        scene.mend(scene.segments[0])
    scene.run(1.5)
    assert scene.counted("neighbor_damped") == 1
    assert not b.learned
    scene.phase("the penalty has decayed: the adjacency forms again")
    scene.run_until(lambda: up(b) and len(b.learned) == 2, limit_s=20)


@scenario("import-filter-changes")
def filters(scene: Scene) -> None:
    """A filter refuses one prefix and raises the metric of another; without it both are as
    advertised."""
    _, b = pair(scene)
    scene.phase("IPv6 is refused, 10.255.0.0/16 costs 90 at least")
    inside = scalars.prefix_match.read("10.255.0.0/16 le 32")
    ipv6 = scalars.prefix_match.read("::/0 le 128")
    imports = (
        NeighborRule(prefixes=(ipv6,), is_accepted=False),
        NeighborRule(prefixes=(inside,), set_metric=90),
    )
    b.instance.set_policy(Policy(imports=imports), scene.now)
    scene.kick("b")
    scene.run(0.5)
    assert {prefix: path.metric for prefix, path in b.learned.items()} == {LOOPBACK: 90}
    scene.phase("the filter is gone")
    b.instance.set_policy(Policy(), scene.now)
    scene.kick("b")
    scene.run(0.5)
    assert b.learned.keys() == {LOOPBACK, IPV6}
    assert b.learned[LOOPBACK].metric == 10


@scenario("advertised-when-forwarding-follows")
def follows(scene: Scene) -> None:
    """A better route is advertised only when this router's kernel forwards by it; a worse one at
    once."""
    scene.add_node("a")
    b = scene.observe("b")
    c = scene.add_node("c")
    scene.phase("a - b - c; b waits for its kernel")
    left = scene.connect("a", "b")
    scene.connect("b", "c")
    scene.run(1.5)
    scene.await_forwarding("b", is_on=True)
    scene.originate("a", str(LOOPBACK))
    scene.run(0.3)
    assert LOOPBACK in b.learned
    assert LOOPBACK not in c.learned
    scene.phase("the kernel has it")
    assert scene.follow("b") == [LOOPBACK]
    scene.run(0.3)
    assert c.learned[LOOPBACK].metric == 20
    scene.phase("it becomes worse: c is told at once")
    scene.change_cost(left, 40)
    scene.run(0.3)
    assert c.learned[LOOPBACK].metric == 50


def beat(number: int, sequence: int, *heard: NeighborHeard, flags: HeaderFlag = NO_FLAGS) -> bytes:
    """Return a heartbeat of router number n, encoded here."""
    sender = Sender(router_id(number), 7)
    tlvs: tuple[Tlv, ...] = (Hello(1000, 3, 1500, 0), *heard)
    return encode(Message(MessageType.HEARTBEAT, flags, sequence, 1, sender, tlvs))


@scenario("partial-heartbeats")
def partial(scene: Scene) -> None:
    """A list of neighbors that needs several heartbeats is marked partial: absence from one of them
    ends no adjacency, absence from a complete one does."""
    b = scene.observe("b")
    scene.phase("80 routers are heard on one link; b's list does not fit into one heartbeat")
    scene.connect("b")
    settings = b.links[1][1]
    sources = {number: link_settings(number, 1).local_address for number in range(10, 90)}
    burst = [Datagram(beat(number, 1), source, 1, 255) for number, source in sources.items()]
    b.instance.receive_burst(burst, scene.now)
    scene.kick("b")
    scene.run(1.2)
    pages = [HeaderFlag.PARTIAL_LIST in message.flags for message in map(decode, scene.sent())]
    assert pages.count(True) >= 2

    def receive(
        sequence: int, *heard: NeighborHeard, flags: HeaderFlag = NO_FLAGS
    ) -> AdjacencyState:
        data = beat(10, sequence, *heard, flags=flags)
        b.instance.receive_datagram(data, sources[10], settings.ifindex, 255, scene.now)
        scene.kick("b")
        rows = b.instance.neighbors(scene.now)
        return next(row.state for row in rows if row.router_id == router_id(10))

    scene.phase("one of them lists b: both ways are heard")
    session = next(
        tlv.session
        for message in map(decode, scene.sent())
        for tlv in message.tlvs
        if isinstance(tlv, NeighborHeard) and tlv.router_id == router_id(10)
    )
    hears_b = NeighborHeard(b.router_id, b.new.boot_id, 99, session, 0, 0)
    formed = receive(2, hears_b)
    assert formed is not AdjacencyState.INIT
    scene.phase("a partial heartbeat without b changes nothing")
    assert receive(3, flags=HeaderFlag.PARTIAL_LIST) is formed
    scene.phase("a whole heartbeat without b does: it is one-way")
    assert receive(4) is AdjacencyState.INIT


@scenario("damaged-datagrams")
def damaged(scene: Scene) -> None:
    """Empty, truncated, changed and forwarded datagrams are dropped and counted by reason, and the
    adjacency stays up."""
    a, b = pair(scene)
    heard = listen(scene)
    scene.run(1.1)
    scene.phase("a datagram of a comes damaged in six ways")
    data, source = heard[-1], a.links[1][1].local_address
    changed = data[:-1] + bytes([data[-1] ^ 1])
    for bad, hop_limit in (
        (b"", 255), (data[:7], 255), (data[:-3], 255), (changed, 255), (data, 254), (data, None),
    ):  # fmt: skip
        b.instance.receive_datagram(bad, source, 1, hop_limit, scene.now)
    scene.kick("b")
    assert scene.counted("dropped_hop_limit") == 2
    assert scene.counted("dropped_bad_checksum") >= 1
    scene.phase("the adjacency goes on")
    scene.run(1.5)
    assert up(b)
    assert b.learned.keys() == {LOOPBACK, IPV6}
