"""Words of a private vocabulary, which the field's terms have replaced, do not come back.

`words.txt` has one line for each such word that is still in the product, with how often: the
numbers only shrink. A word that has no line may not be used at all. What to write instead is in
the second column of FIELD_TERMS.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.meta.test_layering import MODULES, ROOT

FIELD_TERMS = {
    # the word: what the field says
    "wish": "desired route",
    "wishes": "desired routes",
    "wished": "desired",
    "desk": "requests",
    "leg": "next hop",
    "legs": "next hops",
    "ledger": "FIB tables",
    "book": "FIB table",
    "books": "FIB tables",
    "rival": "conflicting route",
    "rivals": "conflicting routes",
    "outbox": "send queue",
    "shelf": "result pages",
    "agenda": "schedule",
    "attend": "service",
    "settle": "reconcile, apply, commit",
    "settles": "reconciles, applies, commits",
    "told": "advertised, notified, reported",
    "tell": "advertise, notify, report",
    "tells": "advertises, notifies, reports",
    "unsaid": "unsent",
    "news": "changes",
    "forgive": "clear damping",
    "forgiven": "cleared",
    "judge": "validate, evaluate",
    "judged": "validated, evaluated",
    "judges": "validates, evaluates",
    "judgement": "evaluation",
    "believe": "accept, verify",
    "believed": "accepted, verified",
    "suspect": "next hop to verify",
    "suspects": "next hops to verify",
    "mend": "restore, repair, fix",
    "mended": "repaired",
    "steer": "control, manage",
    "stranger": "unauthenticated sender, unprivileged client",
    "strangers": "unauthenticated senders, unprivileged clients",
    "nobody": "no neighbor, no client, no process",
    "whoever": "a client that, a process that",
    "whosoever": "a process that",
    "whom": "which",
    "he": "it",
    "him": "it",
    "his": "its",
    "lives": "boots, incarnations",
    "anew": "again",
    "room": "module, package, component; space",
    "rooms": "modules, packages, components",
    "beside": "alongside",
}

LIST = Path(__file__).with_name("words.txt")


def words_of(path: Path) -> Counter[str]:
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text).lower()
    return Counter(word for word in re.findall(r"[a-z]+", text) if word in FIELD_TERMS)


def found() -> Counter[str]:
    total: Counter[str] = Counter()
    for path in [*MODULES.values(), *sorted((ROOT / "routed").rglob("*.[ch]"))]:
        total += words_of(path)
    return total


def listed() -> dict[str, int]:
    rows = (line.split() for line in LIST.read_text(encoding="utf-8").splitlines())
    return {row[0]: int(row[1]) for row in rows if row and row[0] != "#"}


FOUND, LISTED = found(), listed()


@pytest.mark.parametrize("word", sorted(FIELD_TERMS))
def test_a_private_word_is_used_no_more_often(word: str) -> None:
    assert FOUND[word] <= LISTED.get(word, 0), f"{word!r}: write {FIELD_TERMS[word]}"


@pytest.mark.parametrize("word", sorted(LISTED))
def test_the_list_is_up_to_date(word: str) -> None:
    assert word in FIELD_TERMS
    assert FOUND[word] == LISTED[word], f"{word!r} is used less often now: change its line"
