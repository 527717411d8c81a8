"""Words of a private vocabulary, which the field's terms have replaced, do not come back.

`words.txt` has one line for each such word that is still in the product, with how often: the
numbers only shrink. A word that has no line may not be used at all, in whatever form: `settle`
stands for `settled` and `settling`, too. The product is the code in Python and C, with the keys of
JSON, the columns, the metrics and the log events that are declared there, and the pages for users.
Instead of a word write the second column of FIELD_TERMS.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.meta.test_layering import MODULES, ROOT

FIELD_TERMS = {
    # the word: the field's term
    "wish": "desired route",
    "desk": "requests",
    "leg": "next hop",
    "ledger": "FIB tables",
    "book": "FIB table",
    "rival": "conflicting route",
    "outbox": "send queue",
    "shelf": "result pages",
    "agenda": "schedule",
    "attend": "service",
    "settle": "reconcile, apply, commit",
    "told": "advertised, notified, reported",
    "tell": "advertise, notify, report",
    "unsaid": "unsent",
    "news": "changes",
    "forgive": "clear damping",
    "forgiven": "cleared",
    "judge": "validate, evaluate",
    "judgement": "evaluation",
    "believe": "accept, verify",
    "suspect": "next hop to verify",
    "mend": "restore, repair, fix",
    "steer": "control, manage",
    "rung": "hook, of an interface's programs",
    "stranger": "unauthenticated sender, unprivileged client",
    "nobody": "no neighbor, no client, no process",
    "somebody": "another program, a client, a user",
    "everybody": "every client, every neighbor",
    "anybody": "any client, any process",
    "whoever": "a client that, a process that",
    "whosoever": "a process that",
    "whom": "which",
    "he": "it",
    "him": "it",
    "his": "its",
    "lives": "boots, incarnations",
    "anew": "again",
    "room": "module, package, component; space",
    "beside": "alongside",
}
EXACT = {"he", "his", "him", "beside", "news", "lives"}
"""Words without other forms: `besides` is another word."""

LIST = Path(__file__).with_name("words.txt")

PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "configs", "packaging")
PAGE_SUFFIXES = {".md", ".yaml", ".conf", ".service", ".json", ".1", ".5", ".8", ".py", ".c"}

USERS = re.compile(r"`nobody`|user: nobody|half[-_ ]life")
"""The name of a Unix user, and the field's term of damping."""


def forms_of(word: str) -> set[str]:
    """The forms of a word: plural, third person, past and participles."""
    if word in EXACT:
        return {word}
    stem = word.removesuffix("e")
    return {word, *(word + ending for ending in ("s", "es", "d", "ed", "ing"))} | {
        stem + ending for ending in ("ing", "ed") if stem != word
    }


FORMS = {form: word for word in FIELD_TERMS for form in forms_of(word)}


def words_of(text: str) -> Counter[str]:
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", USERS.sub("", text)).lower()
    return Counter(FORMS[word] for word in re.findall(r"[a-z]+", text) if word in FORMS)


def product_files() -> list[Path]:
    files = [*MODULES.values()]
    for folder in ("ipc", "routed", "bpf"):
        files += sorted((ROOT / folder).rglob("*.[ch]"))
    for name in PAGES:
        path = ROOT / name
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        files += [each for each in found if each.suffix in PAGE_SUFFIXES]
    return files


def listed() -> dict[str, int]:
    rows = (line.split() for line in LIST.read_text(encoding="utf-8").splitlines())
    return {row[0]: int(row[1]) for row in rows if row and row[0] != "#"}


def test_private_words_are_used_no_more_often_than_listed() -> None:
    """More often: write the field's term. Less often: change the line of the word."""
    found: Counter[str] = Counter()
    for path in product_files():
        found += words_of(path.read_text(encoding="utf-8"))
    allowed = listed()
    wrong = {
        word: (found[word], allowed.get(word, 0), FIELD_TERMS[word])
        for word in FIELD_TERMS
        if found[word] != allowed.get(word, 0)
    }
    assert wrong == {}, "word: (times in the product, times in the list, what to write)"
    assert allowed.keys() <= FIELD_TERMS.keys()


def test_every_form_of_a_word_counts() -> None:
    text = "settled, Settling: unsettled; wishTold_told `nobody` besides NEWS half_lives"
    assert words_of(text) == {"settle": 2, "wish": 1, "told": 2, "news": 1, "lives": 1}
    assert words_of("`user: nobody`, a half-life") == {}
