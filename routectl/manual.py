"""The manual page routectl(1), made from the command tree."""

from __future__ import annotations

from routectl.commands import TREE
from routectl.grammar import Argument, Flag, Keyword, Leaf, Positional, leaves

__all__ = ["manual_page"]

_HEAD = r""".\" Made by `python -m routectl.generate` from the command tree; not to be edited.
.TH ROUTECTL 1 "" "routed" "User commands"
.SH NAME
routectl \- look at a running routed and steer it
.SH SYNOPSIS
.B routectl
.RI [ OPTIONS ]
.RI [ COMMAND ]
.SH DESCRIPTION
With a command,
.B routectl
carries it out and ends. Without one it is a shell, or reads commands from standard input when that
is not a terminal. Words may be abbreviated as long as they are unique; scripts spell them in full.
.B ?
after any words says what may come next.
.SH OPTIONS
.TP
.BR \-h ", " \-\-help
Show what the command does and its syntax; without a command: a list of all commands.
.TP
.BR \-s ", " \-\-socket " \fIPATH\fR"
The daemon's socket; default
.BR $ROUTECTL_SOCKET ,
else /run/routed/routed.sock.
.TP
.BR \-t ", " \-\-timeout " \fISECONDS\fR"
How long to wait for the daemon; default 30.
.TP
.BR \-j ", " \-\-json
JSON, one document for each command.
.TP
.BR \-p ", " \-\-pretty
Indented JSON.
.TP
.BR \-4 ", " \-6
Only this family.
.TP
.B \-\-no\-color
No colour, even on a terminal; so does NO_COLOR in the environment.
.TP
.B \-\-version
Print the version.
.SH COMMANDS
"""

_TAIL = r""".SH EXIT STATUS
.TP
.B 0
Done.
.TP
.B 1
Request rejected; for
.BR lookup ,
an address without a route.
.TP
.B 2
Usage error.
.TP
.B 3
The daemon cannot be reached.
.TP
.B 4
Permission denied: your role is not sufficient.
.TP
.B 5
The answer cannot be written; the command itself may have been done.
.SH SEE ALSO
.BR routed (8),
.BR ip\-route (8)
"""


def manual_page() -> str:
    """The page, for man(1)."""
    return _HEAD + "".join(_entry(words, leaf) for words, leaf in leaves(TREE)) + _TAIL


def _entry(words: tuple[str, ...], leaf: Leaf) -> str:
    usage = " ".join([" ".join(words), *[argument.usage for argument in leaf.arguments]])
    role = f" Needs the role {leaf.role.label}." if leaf.role.value else ""
    lines = [".TP", f".B {_escaped(usage)}", f"{_escaped(leaf.help)}.{role}"]
    for argument in leaf.arguments:
        label = _label(argument)
        lines += [".RS", ".TP", f".B {_escaped(label)}", f"{_escaped(argument.help)}.", ".RE"]
    lines += [".IP", "Example:", f".B routectl {_escaped(leaf.example)}"]
    return "\n".join(lines) + "\n"


def _label(argument: Argument) -> str:
    match argument:
        case Positional():
            return argument.kind.value
        case Keyword():
            return f"{argument.name} {argument.kind.value}"
        case Flag():
            return argument.name


def _escaped(text: str) -> str:
    """Text that man(7) takes as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
