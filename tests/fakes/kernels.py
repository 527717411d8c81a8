"""The two kernels that the contract suites compare, and the calls that both answer."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from netns import RouterNamespaces
from routed.fib.messages import RouteKernel
from routed.fib.nexthops.codec import NextHopForm, NextHopKind, NextHopWrite
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.bulk import encode_batch
from routed.fib.routes.ownership import KernelRoute, RouteKey, RouteValue
from routed.fib.routes.plan import KernelRefusal, OpKind
from routed.fib.routes.tables import SeenRoute
from routed.model.prefix import Address, Family, Prefix
from routed.netlink.message import NLMSG_HEADER
from rtnetlink import IFA_F_NODAD, LinkEnd, Rtnetlink
from tests.fakes.fake_kernel import FakeKernel, single

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

__all__ = [
    "Contract",
    "Namespace",
    "add_equal",
    "built_namespace",
    "do",
    "dump",
    "key",
    "objects",
    "ours",
    "subnets",
    "write_object",
]


@dataclass(frozen=True)
class Namespace:
    """A namespace with links v0 and v1, up, addressed, and their far ends up too."""

    here: RouterNamespaces
    there: RouterNamespaces
    ifindexes: dict[str, int]

    def add_address(self, ifname: str, address: str) -> None:
        """Give a link an address, such as 192.0.0.9/24."""
        add = functools.partial(Rtnetlink.add_address, flags=IFA_F_NODAD)
        self._change_address(ifname, address, add)

    def delete_address(self, ifname: str, address: str) -> None:
        """Take it away again."""
        self._change_address(ifname, address, Rtnetlink.delete_address)

    def _change_address(
        self,
        ifname: str,
        address: str,
        change: Callable[[Rtnetlink, str, Interface], None],
    ) -> None:
        with self.here.inside():
            netlink = Rtnetlink.open_here()
            change(netlink, ifname, ipaddress.ip_interface(address))
            netlink.close()

    def set_up(self, ifname: str, *, is_up: bool) -> None:
        """Switch a link on or off: `v0` here, or its far end `w0`."""
        side = self.here if ifname.startswith("v") else self.there
        with side.inside():
            netlink = Rtnetlink.open_here()
            netlink.set_up(ifname, is_up=is_up)
            netlink.close()


@contextlib.contextmanager
def built_namespace() -> Iterator[Namespace]:
    """Build one; it ends with the block."""
    here = RouterNamespaces.create("contract")
    there = RouterNamespaces.create("far")
    with here.inside():
        netlink = Rtnetlink.open_here()
        for number in (0, 1):
            mac, far_mac = bytes((2, 0, 0, 0, 0, number)), bytes((2, 0, 0, 0, 1, number))
            netlink.add_veth(
                LinkEnd(f"v{number}", mac), LinkEnd(f"w{number}", far_mac), there.net_fd
            )
            netlink.add_address(f"v{number}", ipaddress.ip_interface(f"192.0.{number}.1/24"))
            address = ipaddress.ip_interface(f"2001:db8:{number}::1/64")
            netlink.add_address(f"v{number}", address, flags=IFA_F_NODAD)
            netlink.set_up(f"v{number}", is_up=True)
        netlink.set_up("lo", is_up=True)
        indexes = {name: ifindex for ifindex, name in netlink.link_names().items()}
        netlink.close()
    with there.inside():
        netlink = Rtnetlink.open_here()
        for number in (0, 1):
            netlink.set_up(f"w{number}", is_up=True)
        netlink.close()
    yield Namespace(here, there, indexes)
    here.close()
    there.close()


@dataclass(frozen=True)
class Contract:
    """A kernel under test, and the links that next hops may use."""

    kernel: FakeKernel | RequestSocket
    v0: int
    v1: int
    namespace: Namespace

    def add_own(self, address: str) -> None:
        """Give v0 one more address, such as 192.0.0.9/24."""
        if isinstance(self.kernel, FakeKernel):
            self.kernel.addresses.add(Address.parse(address.partition("/")[0]))
        else:
            self.namespace.add_address("v0", address)

    def delete_own(self, address: str) -> None:
        """Take it away again."""
        if isinstance(self.kernel, FakeKernel):
            self.kernel.addresses.discard(Address.parse(address.partition("/")[0]))
        else:
            self.namespace.delete_address("v0", address)

    def set_link(self, ifname: str, *, is_up: bool) -> None:
        """Switch v0 or v1, or (`w0`, `w1`) its carrier."""
        if isinstance(self.kernel, FakeKernel):
            ifindex = self.namespace.ifindexes[f"v{ifname[1:]}"]
            self.kernel.set_link(ifindex, is_up=is_up)
        else:
            self.namespace.set_up(ifname, is_up=is_up)


def subnets(v0: int, v1: int) -> set[tuple[Prefix, int]]:
    """Return the subnets of the addresses of `built_namespace`."""
    prefixes = ("192.0.{}.0/24", "2001:db8:{}::/64")
    return {
        (Prefix.parse(text.format(number)), ifindex)
        for number, ifindex in enumerate((v0, v1))
        for text in prefixes
    }


def key(prefix: str, priority: int = 205, table_id: int = 254) -> RouteKey:
    """Return the key of one of our routes."""
    return RouteKey(table_id, Prefix.parse(prefix), 0, priority)


async def dump(kernel: RouteKernel, table_id: int = 254) -> list[KernelRoute]:
    """Every route of a table, both families."""
    routes: list[KernelRoute] = []

    def take(seen: SeenRoute, keys: Sequence[int]) -> None:
        routes.extend(
            KernelRoute(seen.table_key.key(key), seen.protocol, seen.value) for key in keys
        )

    for family in Family:
        await kernel.dump_routes(table_id, family, take)
    return routes


async def ours(contract: Contract, table_id: int = 254) -> dict[RouteKey, RouteValue]:
    """Our routes of a table."""
    routes = await dump(contract.kernel, table_id)
    return {route.key: route.value for route in routes if route.protocol == 205}


def do(kernel: RouteKernel, kind: OpKind, route: RouteKey, value: RouteValue) -> KernelRefusal:
    """Carry out one operation; errno 0 when the kernel did it."""
    (refusals,) = kernel.apply([single(kind, route, value)])
    return refusals.get(0, KernelRefusal(0, ""))


def objects(contract: Contract) -> dict[int, NextHopForm | None]:
    """Our nexthop objects."""
    seen = contract.kernel.dump_nexthops()
    assert seen is not None, "this kernel has nexthop objects"
    return {entry.id: entry.form for entry in seen if entry.protocol == 205}


def write_object(
    contract: Contract, kind: NextHopKind, nexthop_id: int, form: NextHopForm = ()
) -> KernelRefusal:
    """Carry out one operation on a nexthop object; errno 0 when the kernel did it."""
    (outcome,) = contract.kernel.write_nexthops([NextHopWrite(kind, nexthop_id, form)])
    return outcome


_NLM_F_CREATE_AND_APPEND = 0xC00
_NLM_F_CREATE = 0x400
_ADD_FLAGS = 0x5


def add_equal(
    requests: RequestSocket, protocol: int, route: RouteKey, value: RouteValue, *, is_first: bool
) -> KernelRefusal:
    """`ip route prepend` or `ip route append`: one more route of a key that is there."""
    flags = _ADD_FLAGS | (_NLM_F_CREATE if is_first else _NLM_F_CREATE_AND_APPEND)

    def encode(sequence: int) -> bytes:
        request = encode_batch(single(OpKind.INSTALL, route, value), protocol, sequence)
        length, kind, _, *rest = NLMSG_HEADER.unpack_from(request)
        return NLMSG_HEADER.pack(length, kind, flags, *rest) + request[NLMSG_HEADER.size :]

    return requests._request(encode)
