"""TAB in bash, zsh and fish: their completion scripts, and `routectl --complete`, which they call.

The scripts contain no commands: they pass the line to `routectl --complete LINE`, which walks the
command tree, and queries the daemon for neighbors, interfaces and prefixes where these are
possible. So completion always matches the installed program.

    source <(routectl completion bash)
    routectl completion zsh > "${fpath[1]}/_routectl"
    routectl completion fish > ~/.config/fish/completions/routectl.fish
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from routectl.filters import complete_line
from routectl.parse import LiveValues

__all__ = ["SHELLS", "candidates", "script"]

_BASH = r"""# routectl in bash: source <(routectl completion bash)
_routectl() {
    local line="${COMP_LINE:0:COMP_POINT}" word candidates
    word="${line##* }"
    mapfile -t candidates < <(routectl --complete "$line" 2>/dev/null | cut -f1)
    COMPREPLY=("${candidates[@]}")
    # bash breaks words at colons, as in fe80::1: what stands before the last one is there already.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -o default -F _routectl routectl
"""

_ZSH = r"""#compdef routectl
# routectl in zsh: routectl completion zsh > "${fpath[1]}/_routectl"
_routectl() {
    local -a choices
    local word help
    while IFS=$'\t' read -r word help; do
        choices+=("${word//:/\\:}:$help")
    done < <(routectl --complete "${LBUFFER}" 2>/dev/null)
    if (( $#choices )); then _describe routectl choices; else _files; fi
}
compdef _routectl routectl
"""

_FISH = r"""# routectl in fish: routectl completion fish > ~/.config/fish/completions/routectl.fish
complete -c routectl -e
complete -c routectl -f -a '(routectl --complete (commandline -cp | string collect) 2>/dev/null)'
complete -c routectl -n '__fish_seen_subcommand_from import' -F
"""

SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


_PLAIN = re.compile(r"[\w.:/@%+,=-]+")
"""Names that no shell interprets. A link may be called `$(id)`, and bash puts a candidate on the
command line without quoting it; such names must be typed by the user, in quotes."""


def script(shell: str) -> list[str]:
    """Return the completion script of a shell, as lines."""
    return SHELLS[shell].splitlines()


def candidates(line: str, live_values_of: Callable[[str | None], LiveValues]) -> Iterator[str]:
    """Yield the completions of the last word of a line, each followed by a tab and its meaning.

    Args:
        line: text typed so far, including the program's name.
        live_values_of: makes the source of live values for a socket (None: the default one).
    """
    words = line.split()[1:]
    start = "" if not words or line[-1:].isspace() else words.pop()
    plain: list[str] = []
    socket_path = None
    rest = iter(words)
    for word in rest:
        if word in ("-s", "--socket"):
            socket_path = next(rest, None)
        elif word in ("-t", "--timeout"):
            next(rest, None)
        elif not word.startswith("-"):
            plain.append(word)
    for choice in complete_line(plain, start, live_values_of(socket_path)):
        if _PLAIN.fullmatch(choice.text):
            yield f"{choice.text}\t{choice.help}"
