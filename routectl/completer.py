"""TAB in the shell: adapts `parse.complete` to prompt-toolkit."""

from __future__ import annotations

from collections.abc import Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from routectl.filters import complete_line
from routectl.parse import LiveValues

__all__ = ["GrammarCompleter"]


class GrammarCompleter(Completer):
    """Completes words of the command tree and live values."""

    def __init__(self, live_values: LiveValues) -> None:
        self._live_values = live_values

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield the completions of the word before the cursor, each with its help text."""
        del complete_event  # completions are computed only on request
        text = document.text_before_cursor
        words = text.split()
        start = "" if not words or text[-1:].isspace() else words.pop()
        for choice in complete_line(words, start, self._live_values):
            yield Completion(choice.text, -len(start), display_meta=choice.help)
