"""Kernel attributes of routes with a real daemon: they are installed, adopted and repaired, and
routes wait for what they need.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import shutil
import signal
import sys
from typing import Any

import pytest
import yaml
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from routed.netlink.message import RTM_GETROUTE
from rtnetlink import IFA_F_NODAD
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
SOURCES = ("10.77.0.1/32", "2001:db8:77::1/128")
METRICS = {
    "mtu": "lock 1400", "advmss": "1000", "window": "5", "initcwnd": "10", "initrwnd": "20",
    "hoplimit": "3", "rto_min": "200ms", "quickack": "1", "congctl": "reno", "features": "ecn",
}  # fmt: skip
HOPS4 = {"via": "10.99.0.9", "dev": "eth-A", "onlink": True}
HOPS6 = {"via": "fe80::9", "dev": "eth-A"}
SEVERAL = {"next_hops": [HOPS6 | {"dev": dev} for dev in ("eth-A", "eth-B")]}
ROUTES: dict[str, dict[str, Any]] = {
    "10.90.1.0/24": HOPS4 | METRICS | {"src": "10.77.0.1", "scope": "site"},
    "10.90.2.0/24": HOPS4 | {"realm": "3/4"},
    "10.90.3.0/24": {"dev": "eth-A", "src": "10.77.0.1", "scope": "global"},
    "10.90.4.0/24": {"type": "local", "dev": "lo", "src": "10.77.0.1"},
    "10.90.5.255/32": {"type": "broadcast", "dev": "eth-A"},
    "10.90.6.0/24": {"type": "throw"},
    "10.90.7.0/24": {"type": "blackhole", "mtu": "1300"},
    "10.90.8.0/24": SEVERAL | {"src": "10.77.0.1", "mtu": "1300"},
    "10.90.9.0/24": SEVERAL | {"realm": "7"},
    "10.90.10.0/24": HOPS4,
    "2001:db8:91::/48": HOPS6 | METRICS | {"src": "2001:db8:77::1", "pref": "high"},
    "2001:db8:92::/48": {"dev": "eth-A", "pref": "low", "mtu": "1300"},
    "2001:db8:93::/48": {"type": "local", "dev": "lo", "mtu": "1300"},
    "2001:db8:94::/48": {"type": "throw"},
    "2001:db8:95::/48": SEVERAL | {"src": "2001:db8:77::1", "hoplimit": "9"},
}
WORDS = [*METRICS, "src", "scope", "realm", "pref"]


def write(lab: Lab, routes: dict[str, dict[str, Any]]) -> None:
    lab.write_config_unless_there("R")
    config = yaml.safe_load(lab.read_config("R"))
    config["static"] = [{"prefix": prefix} | route for prefix, route in routes.items()]
    lab.write_config("R", yaml.safe_dump(config))


def change_address(lab: Lab, address: str, *, is_added: bool) -> None:
    interface = ipaddress.ip_interface(address)
    if is_added:
        lab.netlink("R").add_address("lo", interface, flags=IFA_F_NODAD)
    else:
        lab.netlink("R").delete_address("lo", interface)


def fib(lab: Lab) -> dict[str, dict[str, Any]]:
    return {row["prefix"]: row for row in lab.routectl("R", "show", "fib")}


def are_installed(lab: Lab, routes: dict[str, dict[str, Any]]) -> bool:
    rows = fib(lab)
    return all(rows.get(prefix, {}).get("state") == "installed" for prefix in routes)


def counter(lab: Lab, name: str) -> int:
    rows = lab.routectl("R", "show", "counters")
    return next(int(row["value"]) for row in rows if row["name"] == name)


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    """A router whose routes have every attribute between them."""
    lab = build_lab("line3")
    for source in SOURCES:
        change_address(lab, source, is_added=True)
    write(lab, ROUTES)
    lab.start_daemons(["R"])
    wait_until(lambda: are_installed(lab, ROUTES), DEADLINE_S, "all routes are installed")
    return lab


# pyroute2's names
RTAX = {
    "RTAX_MTU": "mtu", "RTAX_ADVMSS": "advmss", "RTAX_WINDOW": "window",
    "RTAX_INITCWND": "initcwnd", "RTAX_INITRWND": "initrwnd", "RTAX_HOPLIMIT": "hoplimit",
    "RTAX_QUICKACK": "quickack", "RTAX_CC_ALGO": "congctl",
}  # fmt: skip
SCOPES = {200: "site", 0: "global"}
PREFERENCES = {1: "high", 3: "low"}


def by_pyroute2(lab: Lab) -> dict[str, dict[str, str]]:
    """The attributes of each route of ours in the kernel, decoded by pyroute2."""
    found: dict[str, dict[str, str]] = {}
    for family in (2, 10):
        for payload in lab.netlink("R").dump(RTM_GETROUTE, bytes((family, *[0] * 11))):
            header = (16 + len(payload)).to_bytes(4, sys.byteorder) + b"\x18" + bytes(11)
            message = rtmsg(header + payload)
            message.decode()
            if message["proto"] == 205:
                prefix = f"{message.get_attr('RTA_DST')}/{message['dst_len']}"
                found[str(ipaddress.ip_network(prefix))] = words_of(message)
    return found


def words_of(message: Any) -> dict[str, str]:
    metrics = message.get_attr("RTA_METRICS")
    values = {} if metrics is None else dict(metrics["attrs"])
    found = {RTAX[name]: str(value) for name, value in values.items() if name in RTAX}
    lock = values.get("RTAX_LOCK", 0)
    if lock & 1 << 2:
        found["mtu"] = f"lock {found['mtu']}"
    if "RTAX_RTO_MIN" in values:
        assert lock & 1 << 13, "the kernel uses it only if it is locked"
        found["rto_min"] = f"{values['RTAX_RTO_MIN']}ms"
    if values.get("RTAX_FEATURES"):
        assert values["RTAX_FEATURES"] == 1
        found["features"] = "ecn"
    if message.get_attr("RTA_PREFSRC"):
        found["src"] = message.get_attr("RTA_PREFSRC")
    hops = message.get_attr("RTA_MULTIPATH") or [message]
    flows = {hop.get_attr("RTA_FLOW") for hop in hops}
    (flow,) = flows
    if flow:
        found["realm"] = f"{flow >> 16}/{flow & 0xFFFF}" if flow >> 16 else str(flow)
    if message.get_attr("RTA_PREF"):
        found["pref"] = PREFERENCES[message.get_attr("RTA_PREF")]
    is_link_alone = message.get_attr("RTA_OIF") and not message.get_attr("RTA_GATEWAY")
    is_usual = message["scope"] != 0 or not is_link_alone or message["type"] != 1
    if message["family"] == 2 and (message["scope"] == 200 or not is_usual):
        found["scope"] = SCOPES[message["scope"]]
    return found


def expected(route: dict[str, Any]) -> dict[str, str]:
    return {word: route[word] for word in WORDS if word in route}


def test_attributes_are_installed_shown_adopted_and_repaired(lab: Lab) -> None:
    wanted = {prefix: expected(route) for prefix, route in ROUTES.items()}
    assert by_pyroute2(lab) == wanted
    assert {prefix: row["attributes"] for prefix, row in fib(lab).items()} == wanted
    shown = {row["prefix"]: row for row in lab.routectl("R", "show", "routes") if row["selected"]}
    assert {prefix: shown[prefix]["attributes"] for prefix in wanted} == wanted
    (explained,) = lab.routectl("R", "explain", "10.90.1.1")
    assert explained["candidates"][0]["attributes"] == wanted["10.90.1.0/24"]
    assert "src 10.77.0.1" in lab.show("R", "route", "10.90.1.1")
    _compare_with_ip(lab, wanted)

    # A second start writes nothing.
    lab.kill("R", "daemon", signal.SIGKILL)
    lab.start_daemons(["R"])
    wait_until(lambda: are_installed(lab, ROUTES), DEADLINE_S, "all routes are adopted")
    assert counter(lab, "fib_kernel_writes") == 0
    assert counter(lab, "fib_adopted") == len(ROUTES)

    # A change of any one attribute by hand is repaired.
    changes = {
        "10.90.1.0/24": ["src", "scope", "mtu", "hoplimit", "congctl"],
        "10.90.2.0/24": ["realm"],
        "2001:db8:91::/48": ["src", "pref", "rto_min", "features"],
    }
    repaired = 0
    for prefix, words in changes.items():
        for word in words:
            change_by_hand(lab, prefix, word)
            repaired += 1
            wait_until(
                functools.partial(is_repaired, lab, wanted, repaired),
                DEADLINE_S,
                f"{word} of {prefix} is repaired",
            )


def is_repaired(lab: Lab, wanted: dict[str, dict[str, str]], count: int) -> bool:
    return counter(lab, "fib_repaired") >= count and by_pyroute2(lab) == wanted


def _compare_with_ip(lab: Lab, wanted: dict[str, dict[str, str]]) -> None:
    """Compare with the output of iproute2, where it is installed."""
    if shutil.which("ip") is None:
        return
    found: dict[str, dict[str, Any]] = {}
    for version in ("-4", "-6"):
        text = lab.run("R", ["ip", "-j", "-d", version, "route", "show", "proto", "205"]).stdout
        found |= {row["dst"]: row for row in json.loads(text)}
    for prefix, words in wanted.items():
        name = prefix.removesuffix("/32")
        if name not in found:  # iproute2 hides local IPv6 routes outside the table local
            assert ROUTES[prefix]["type"] == "local"
            continue
        row = found[name]
        metrics: dict[str, Any] = {}
        for part in row.get("metrics", []):
            metrics |= part
        assert row.get("prefsrc") == words.get("src"), prefix
        if "pref" in words:
            assert row["pref"] == words["pref"]
        for word in ("mtu", "advmss", "window", "initcwnd", "initrwnd", "hoplimit", "quickack"):
            value = words.get(word)
            assert metrics.get(word) == (None if value is None else int(value.split()[-1])), prefix


_BY_HAND = """
import sys
import trio
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.plan import FibBatch, OpKind
from routed.model.kernel_attributes import attributes_of
from routed.model.prefix import Prefix

prefix, word = Prefix.parse(sys.argv[1]), sys.argv[2]
found = []

async def main():
    with RequestSocket(205) as requests:
        await requests.dump_routes(
            254, prefix.family, lambda *run: found.append(run) if prefix.as_int in run[1] else None
        )
        ((table_key, _, value, *_),) = [seen for seen, _ in found if seen.protocol == 205]
        words = tuple(pair for pair in value.attributes.words if pair[0] != word)
        assert len(words) < len(value.attributes.words)
        other = value._replace(attributes=attributes_of(words))
        batch = FibBatch(OpKind.REPLACE, table_key, [prefix.as_int], [other])
        assert requests.apply([batch]) == [{}]

trio.run(main)
"""


def change_by_hand(lab: Lab, prefix: str, word: str) -> None:
    """Let another program write one of our routes again without one of its attributes."""
    done = lab.run("R", [sys.executable, "-c", _BY_HAND, prefix, word])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("prefix", "source", "hops"),
    [("10.92.0.0/16", "10.78.0.1/32", HOPS4), ("2001:db8:a::/48", "2001:db8:78::1/128", HOPS6)],
)
def test_a_route_waits_for_its_source(
    build_lab: LabBuilder, prefix: str, source: str, hops: dict[str, Any]
) -> None:
    lab = build_lab("line3")
    address = source.partition("/")[0]
    other = "10.93.0.0/16"
    write(lab, {prefix: hops | {"src": address}, other: HOPS4})
    lab.start_daemons(["R"])
    wait_until(lambda: fib(lab)[other]["state"] == "installed", DEADLINE_S, "others are there")

    def waits() -> bool:
        row = fib(lab)[prefix]
        return row["state"] == "waiting" and f"waits for its source {address}" in row["reason"]

    wait_until(waits, DEADLINE_S, "the route waits, and says for what")
    assert prefix not in by_pyroute2(lab)
    change_address(lab, source, is_added=True)
    wait_until(lambda: by_pyroute2(lab).get(prefix) == {"src": address}, DEADLINE_S, "it is there")
    wait_until(lambda: fib(lab)[prefix]["state"] == "installed", DEADLINE_S, "and shown so")
    if ":" not in prefix:  # Linux keeps an IPv6 route whose source address was removed
        change_address(lab, source, is_added=False)
        wait_until(waits, DEADLINE_S, "it waits again when the address has gone")
        change_address(lab, source, is_added=True)
        wait_until(lambda: prefix in by_pyroute2(lab), DEADLINE_S, "and is there again")


def test_an_attribute_that_this_kernel_lacks_is_named(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    write(lab, {"10.94.0.0/16": HOPS4 | {"congctl": "nonsense"}, "10.95.0.0/16": HOPS4})
    lab.start_daemons(["R"])
    wait_until(lambda: are_installed(lab, {"10.95.0.0/16": {}}), DEADLINE_S, "others are there")
    row = fib(lab)["10.94.0.0/16"]
    assert row["state"] == "failed"
    assert "this kernel has no TCP congestion control 'nonsense'" in row["reason"]


def test_injected_routes_and_the_kernel_filter(lab: Lab) -> None:
    words = ["dev", "eth-A", "src", "10.77.0.1", "mtu", "lock", "1400", "rto_min", "200ms"]
    lab.routectl("R", "route", "add", "10.96.0.0/16", *words)
    wanted = {"src": "10.77.0.1", "mtu": "lock 1400", "rto_min": "200ms"}
    wait_until(lambda: by_pyroute2(lab).get("10.96.0.0/16") == wanted, DEADLINE_S, "it is there")
    lab.kill("R", "engine", signal.SIGKILL)
    wait_until(
        lambda: counter(lab, "engine_restarts") == 1, DEADLINE_S, "the next engine knows the route"
    )
    wait_until(lambda: are_installed(lab, {"10.96.0.0/16": {}}), DEADLINE_S, "and desires it")
    assert by_pyroute2(lab)["10.96.0.0/16"] == wanted

    config = yaml.safe_load(lab.read_config("R"))
    rule = {"source": "injected", "set_mtu": 1300, "set_src": "2001:db8:77::1", "set_hoplimit": 9}
    config["filters"] = {"kernel": [rule]}
    lab.write_config("R", yaml.safe_dump(config))
    assert lab.run("R", ["routectl", "reload"]).returncode == 0
    wanted |= {"mtu": "1300", "hoplimit": "9"}
    wait_until(lambda: by_pyroute2(lab)["10.96.0.0/16"] == wanted, DEADLINE_S, "the rule applies")
    assert fib(lab)["10.96.0.0/16"]["attributes"] == wanted
