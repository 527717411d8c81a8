"""Descriptions of a sandbox, and requests to the kernel by the version of its interface."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.sandbox.capabilities import Capability, names_of
from routed.sandbox.confine import Confinement, _reset_oom_score, parent_needs
from routed.sandbox.landlock import ruleset_of


@pytest.mark.parametrize(
    ("confinement", "words", "missing"),
    [
        (Confinement(998, True, 7), "seccomp, landlock abi 7, uid 998", ()),
        (
            Confinement(998, True, 3),
            "seccomp, landlock abi 3, uid 998",
            ("landlock for TCP (abi 4)",),
        ),
        (
            Confinement(998, True, 5),
            "seccomp, landlock abi 5, uid 998",
            ("landlock for signals (abi 6)",),
        ),
        (Confinement(0, False, 0), "uid 0", ("seccomp", "landlock")),
    ],
)
def test_a_confinement_says_what_holds_and_what_is_missing(
    confinement: Confinement, words: str, missing: tuple[str, ...]
) -> None:
    assert str(confinement) == words
    assert confinement.missing == missing


@pytest.mark.parametrize(
    ("confinement", "is_degraded"),
    [
        (Confinement(998, True, 7), False),
        (Confinement(998, True, 2), False),  # Debian 12: an older landlock is no warning
        (Confinement(998, True, 0), True),
        (Confinement(998, False, 7), True),
    ],
)
def test_a_whole_piece_that_is_missing_is_a_warning_and_an_older_landlock_is_not(
    confinement: Confinement, is_degraded: bool
) -> None:
    assert confinement.is_degraded == is_degraded


@pytest.mark.parametrize(
    ("abi", "size", "fs_bits"),
    [(1, 8, 13), (2, 8, 14), (3, 8, 15), (4, 16, 15), (5, 16, 16), (6, 24, 16), (99, 24, 16)],
)
def test_a_kernel_is_asked_for_no_more_than_it_knows(abi: int, size: int, fs_bits: int) -> None:
    ruleset = ruleset_of(abi)
    assert len(ruleset) == size
    assert int.from_bytes(ruleset[:8], "little") == (1 << fs_bits) - 1


def test_a_parent_that_is_the_engines_user_starts_it_without_capabilities() -> None:
    assert parent_needs(998, 998) == {Capability.NET_ADMIN, Capability.NET_RAW}
    assert names_of(parent_needs(0, 998)) == (
        "CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_ADMIN, CAP_NET_RAW"
    )


@pytest.mark.parametrize(
    ("inherited", "own"), [("-500\n", "0"), ("0\n", "0\n"), ("300\n", "300\n")]
)
def test_the_parents_shield_against_the_oom_killer_is_not_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: str, own: str
) -> None:
    score = tmp_path / "oom_score_adj"
    score.write_text(inherited, encoding="ascii")
    monkeypatch.setattr("routed.sandbox.confine._OOM_SCORE", str(score))
    _reset_oom_score()
    # A file keeps what is behind the write; the kernel takes the write as it is.
    assert score.read_text(encoding="ascii").startswith(own)
    monkeypatch.setattr("routed.sandbox.confine._OOM_SCORE", str(tmp_path / "nothing"))
    _reset_oom_score()
