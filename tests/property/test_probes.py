"""Laws of probes: any bytes are a reply or not; a state follows from the last results alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from routed.model.prefix import Family
from routed.model.probe import (
    HISTORY_MAX,
    NO_ANSWER,
    ProbeKind,
    ProbeState,
    pack_history,
    unpack_history,
)
from routed.probe.icmp import TOKEN_BYTES, decode_reply
from tests.fakes.probe_scene import ProbeScene, probe_settings

U16 = st.integers(0, 0xFFFF)
TOKENS = st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES)


@given(st.sampled_from(Family), st.binary(max_size=120), st.booleans())
def test_any_bytes_are_a_reply_or_not(family: Family, data: bytes, has_ip_header: bool) -> None:
    reply = decode_reply(family, data, has_ip_header=has_ip_header)
    if reply is not None:
        assert len(reply.token) == TOKEN_BYTES
        assert data.endswith(reply.token)


@given(U16, U16, TOKENS, st.integers(5, 15))
def test_what_is_sent_comes_back_whole(
    identifier: int, sequence: int, token: bytes, header_words: int
) -> None:
    body = identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big") + token
    header = bytes([0x40 | header_words]) + bytes(header_words * 4 - 1)
    reply = decode_reply(Family.IPV4, header + bytes(4) + body, has_ip_header=True)
    assert reply == (identifier, sequence, token)
    assert decode_reply(Family.IPV6, b"\x81" + bytes(3) + body, has_ip_header=False) == reply


@given(st.lists(st.integers(NO_ANSWER, 60_000_000), max_size=HISTORY_MAX))
def test_a_history_comes_back_whole(results: list[int]) -> None:
    assert unpack_history(pack_history(results)) == results
    assert unpack_history(pack_history(results) + b"\1") == results


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_the_state_is_that_of_the_last_full_row(results: list[bool], rise: int, fall: int) -> None:
    scene = ProbeScene(probe_settings(rise=rise, fall=fall))
    expected: bool | None = None
    for at, is_success in enumerate(results):
        scene.answers["p"] = 0.001 if is_success else "refused"
        began = len(scene.began)
        while len(scene.began) == began or scene.instance.attempt("p") is not None:
            scene.run(0.01)
        needed = rise if is_success else fall
        if results[max(at + 1 - needed, 0) : at + 1] == [is_success] * needed:
            expected = is_success
        assert scene.state().is_up is expected
    report = scene.report()
    assert (report.attempts, report.failures) == (len(results), results.count(False))


@given(
    states=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=6),
    data=st.data(),
)
def test_a_combination_is_known_as_soon_as_its_members_decide(
    states: list[bool | None], data: st.DataObject
) -> None:
    least = data.draw(st.integers(1, len(states)))
    names = [f"m{number}" for number in range(len(states))]
    members = [
        probe_settings(name, kind=ProbeKind.CARRIER, rise=1, fall=1, fails_on_error=False)
        for name in names
    ]
    top = probe_settings("top", kind=ProbeKind.AT_LEAST, members=tuple(names), least=least)
    scene = ProbeScene(*members, top)
    for name, is_up in data.draw(st.permutations(list(zip(names, states, strict=True)))):
        scene.observe(name, is_up, "as drawn")
    most, fewest = states.count(True) + states.count(None), states.count(True)
    expected = True if fewest >= least else False if most < least else None
    assert scene.state("top").is_up is expected
    assert (scene.state("top") is ProbeState.UNKNOWN) is (expected is None)
