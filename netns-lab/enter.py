"""Runs a command inside a router: `enter.py KIND=FD... -- COMMAND ARGUMENT...`

It is a separate program, because user and mount namespaces can only be entered by a process with a
single thread, and because the process cannot return. Its exit status is that of the command.

A PID namespace is entered by child processes only, hence the fork. The command dies with this
program, but its daemons do not (PR_SET_PDEATHSIG is not inherited by fork); they become children of
the lab's PID 1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import netns

_FLAGS = {
    "user": netns.CLONE_NEWUSER,
    "mnt": netns.CLONE_NEWNS,
    "pid": netns.CLONE_NEWPID,
    "net": netns.CLONE_NEWNET,
    "uts": netns.CLONE_NEWUTS,
}
_NOT_FOUND = 127


def _run(command: list[str]) -> int:
    child = os.fork()
    if child == 0:
        try:
            netns.die_with_parent()
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        finally:
            os._exit(_NOT_FOUND)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command, too
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main(arguments: list[str]) -> int:
    """Enter the namespaces and run the command. Returns its exit status."""
    split = arguments.index("--")
    directory = os.getcwd()
    for argument in arguments[:split]:
        kind, _, descriptor = argument.partition("=")
        netns.setns(int(descriptor), _FLAGS[kind])
        os.close(int(descriptor))
    with contextlib.suppress(OSError):  # may be missing for root of a user namespace
        os.chdir(directory)
    status = _run(arguments[split + 1 :])
    if status >= 0:
        return status
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 128 - status  # the signal does not end this process


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
