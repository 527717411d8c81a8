"""Routes that iproute2 saved as JSON or binary become the lines of its text."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routectl import saved_routes
from routectl.saved_routes import UNREADABLE, read_lines
from tests.fakes.route_messages import RouteForm, saved_file


def lines(data: bytes) -> tuple[str, list[str]]:
    unit, found = read_lines(io.BufferedReader(io.BytesIO(data)))
    return unit, [line.decode() for line in found]


def json_lines(*routes: object) -> list[str]:
    unit, found = lines(json.dumps(list(routes)).encode())
    assert unit == "route"
    return found


@pytest.mark.parametrize(
    ("route", "line"),
    [
        ({"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "flags": []},
         "default via 192.0.2.1 dev eth0"),
        ({"type": "blackhole", "dst": "10.0.0.0/8", "metric": 20, "flags": []},
         "blackhole 10.0.0.0/8 metric 20"),
        ({"dst": "10.0.0.0/8", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "#odd",
          "protocol": "static", "flags": ["onlink", "linkdown"]},
         "10.0.0.0/8 via inet6 fe80::1 dev #odd proto static onlink linkdown"),
        ({"dst": "10.0.0.0/8", "nhid": 7, "flags": [], "nexthops": [
            {"gateway": "192.0.2.1", "dev": "a", "weight": 3, "flags": []},
            {"dev": "b", "weight": 1, "flags": ["onlink"]}], "metric": 5},
         "10.0.0.0/8 nhid 7 metric 5 nexthop via 192.0.2.1 dev a weight 3 "
         "nexthop dev b weight 1 onlink"),
        ({"dst": "10.0.0.0/8", "dev": "a", "prefsrc": "192.0.2.9", "table": "100",
          "metrics": [{"mtu": 1400, "rto_min": 200}], "nh_info": {"id": 7}},
         "10.0.0.0/8 dev a src 192.0.2.9 table 100 mtu 1400 rto_min 200"),
        ({"dst": "10.0.0.0/8", "dev": "a", "tos": "CS1", "flow": {"from": "cosmos", "to": 4},
          "metrics": [{"ecn": None, "quickack": 1}]},
         "10.0.0.0/8 dev a tos CS1 realms cosmos/4 features ecn quickack 1"),
        ({"dst": "10.0.0.0/8", "nexthops": [{"dev": "a", "flow": {"to": "7"}}, {"dev": "b"}]},
         "10.0.0.0/8 nexthop dev a realms 7 nexthop dev b"),
        ({"dst": "2001:db8::/32", "from": "2001:db8:1::/48", "dev": "a", "expires": 30},
         "2001:db8::/32 from 2001:db8:1::/48 dev a expires 30"),
    ],
)  # fmt: skip
def test_an_object_is_the_line_of_the_text(route: object, line: str) -> None:
    assert json_lines(route) == [line]


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (5, "an item without `dst` is no route"),
        ({"gateway": "192.0.2.1"}, "an item without `dst` is no route"),
        ({"dst": "10.0.0.0/8 via 192.0.2.1"}, "has blanks or control characters"),
        ({"dst": "10.0.0.0/8", "dev": "a\nblackhole 10.0.0.0/9"}, "has blanks"),
        ({"dst": "10.0.0.0/8", "protocol": "#x"}, "has blanks or control characters"),
        ({"dst": "10.0.0.0/8", "metric": True}, "metric is neither a text nor a number"),
        ({"dst": "10.0.0.0/8", "gateway": None}, "via is neither a text nor a number"),
        ({"dst": "10.0.0.0/8", "encap": {"x": 1}}, "encap is neither a text nor a number"),
        ({"dst": "10.0.0.0/8", "nexthops": [5]}, "an item that is no object"),
        ({"dst": "10.0.0.0/8", "metrics": ["mtu"]}, "an item that is no object"),
    ],
)  # fmt: skip
def test_what_is_no_route_is_named_and_the_next_one_read(route: object, reason: str) -> None:
    wrong, right = json_lines(route, {"dst": "10.1.0.0/16", "dev": "a"})
    assert wrong.startswith(UNREADABLE.decode())
    assert reason in wrong
    assert right == "10.1.0.0/16 dev a"


def test_a_file_is_read_one_object_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_routes, "_CHUNK_BYTES", 7)
    routes = [{"dst": f"10.{n}.0.0/16", "dev": "\u00e4th0"} for n in range(50)]
    text = json.dumps(routes, ensure_ascii=False, indent=1).encode()
    assert lines(text) == ("route", [f"10.{n}.0.0/16 dev \u00e4th0" for n in range(50)])
    assert lines(b"[ ]\n") == ("route", [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'[{"dst":"10.0.0.0/8","dev":"a"}', "no JSON of `ip -j route`"),
        (b'[{"dst":"10.0.0.0/8","dev":"a"},{"dst":', "no JSON of `ip -j route`"),
        (b'[{"dst":"10.0.0.0/8","dev":"a"}, nonsense]', "no JSON of `ip -j route`"),
        (b'[{"dst":"10.0.0.0/8","dev":"a"},' + b"[" * 200_000, "nested too deep"),
        (b'[{"dst":"10.0.0.0/8","dev":"a"},{"metric":' + b"9" * 5000 + b"}]", "integer"),
        (b'[{"dst":"10.0.0.0/8","dev":"a"},{"dst":"' + b"x" * 2_000_000, "too long"),
    ],
)
def test_a_file_that_breaks_off_keeps_the_routes_before(text: bytes, reason: str) -> None:
    _, (first, last) = lines(text)
    assert first == "10.0.0.0/8 dev a"
    assert reason in last
    assert "the rest of the file is not read" in last


def test_a_name_that_is_no_text_costs_its_route_alone() -> None:
    routes = b'[{"dst":"10.0.0.0/8","dev":"\xff"},{"dst":"10.1.0.0/16","dev":"a"}]'
    _, (wrong, right) = lines(routes)
    assert "has blanks or control characters" in wrong
    assert right == "10.1.0.0/16 dev a"


# --- binary

ROUTES = [
    RouteForm("10.0.0.0/8", "192.0.2.1", 1).payload(),
    RouteForm("2001:db8::/32", "fe80::1", 1, priority=1024).payload(),
    RouteForm("10.1.0.0/16", kind=8).payload(),
]
WORDS = [
    "10.0.0.0/8 via 192.0.2.1 dev lo proto static",
    "2001:db8::/32 via fe80::1 dev lo proto static metric 1024",
    "prohibit 10.1.0.0/16 proto static",
]


def test_a_saved_file_is_the_text_of_its_routes() -> None:
    assert lines(saved_file(ROUTES)) == ("route", WORDS)


@pytest.mark.parametrize("ifindex", [2**31 - 1, 2**32 - 1])
def test_a_link_that_is_not_here_is_named(ifindex: int) -> None:
    _, (line, other) = lines(
        saved_file([RouteForm("10.0.0.0/8", ifindex=ifindex).payload(), ROUTES[2]])
    )
    assert f"there is no interface with the index {ifindex} here" in line
    assert other == WORDS[2]


def test_a_next_hop_with_a_negative_index_costs_its_route_alone() -> None:
    form = RouteForm("10.0.0.0/8", hops=(("192.0.2.1", 1, 1), ("192.0.2.2", -5, 1)))
    _, (line, other) = lines(saved_file([form.payload(), ROUTES[2]]))
    assert "there is no interface with the index -5 here" in line
    assert other == WORDS[2]


@pytest.mark.parametrize("size", range(1, len(saved_file(ROUTES[:1])) - 4))
def test_a_saved_file_that_breaks_off_keeps_the_routes_before(size: int) -> None:
    whole = saved_file(ROUTES[:1])
    found = lines(whole + whole[4 : 4 + size])
    assert found == ("route", [WORDS[0], UNREADABLE.decode() + "the file ends within a route"])


def test_a_length_that_cannot_be_ends_the_file() -> None:
    whole = saved_file(ROUTES)
    for length in (0, 15, 2**31):
        broken = whole + length.to_bytes(4, "little") + bytes(12) + whole[4:]
        _, found = lines(broken)
        assert found[:3] == WORDS
        assert f"a message of {length} bytes" in found[3]
        assert len(found) == 4


def test_a_file_of_another_byte_order_is_named() -> None:
    unit, (line,) = lines(b"\x45\x31\x12\x24" + bytes(40))
    assert unit == "route"
    assert "another byte order" in line


# --- text stays as it is


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", b"1", b"\n\n\n\n\nx", b"#\n\n\n10.0.0.0/8 dev a\n",
        b"10.0.0.0/8 dev a\n\tnexthop dev b\n",
    ],
)  # fmt: skip
def test_text_is_passed_through(text: bytes) -> None:
    unit, found = lines(text)
    assert (unit, "".join(found).encode()) == ("line", text)
    assert all(line for line in found)


@given(
    st.sampled_from([b"", b"[", b"[{", saved_file([]), saved_file(ROUTES)[:40]]),
    st.binary(max_size=200),
)
def test_any_file_is_lines(head: bytes, noise: bytes) -> None:
    _, found = read_lines(io.BufferedReader(io.BytesIO(head + noise)))
    assert all(found)
