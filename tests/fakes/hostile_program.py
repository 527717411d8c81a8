"""A process in the place of the engine that an attacker controls: it runs a test's script, on
the channel at fd 3.

python hostile_program.py SCRIPT --ids UID:GID --sandbox auto

It is confined like the real one and sends nothing by itself; SCRIPT can use `send`, `take`, the
message classes and the standard library. No installed file refers to it: a test replaces
`routed.parent.engine_process.spawn.ENGINE_COMMAND`.
"""

from __future__ import annotations

import array
import os
import socket
import sys
import threading
from pathlib import Path

from ipc import codec
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, Frame, pack_frame, unpack_frame
from routed.imsg import authority
from routed.imsg import messages as internal
from routed.imsg.declaration import hello_of_this_process
from routed.sandbox.confine import confine_engine

channel = socket.socket(fileno=3)


def send_raw(message: bytes, descriptors: list[int] | None = None) -> None:
    """One message, as it is, with any number of descriptors."""
    ancillary = []
    if descriptors:
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors)))
    channel.sendmsg([message], ancillary)


def send(
    message: object,
    *,
    request_id: int = 0,
    as_type: int | None = None,
    descriptors: list[int] | None = None,
) -> None:
    """Send a well-formed message, under its own type or another one."""
    number = authority.MESSAGE_CLASSES[type(message)] if as_type is None else as_type
    frame = Frame(number, request_id, codec.encode(message))
    send_raw(pack_frame(frame, INTERNAL_FRAME_MAX_BYTES), descriptors)


def take() -> object:
    """Return the next message of the parent."""
    message = channel.recv(INTERNAL_FRAME_MAX_BYTES + 1)
    if not message:
        os._exit(0)
    frame = unpack_frame(message, INTERNAL_FRAME_MAX_BYTES)
    return codec.decode(authority.AUTHORITY[authority.ImsgType(frame.type)].message, frame.body)


def take_until(kind: type) -> object:
    """Messages of the parent up to one of a kind, which is returned."""
    while not isinstance(message := take(), kind):
        pass
    return message


def read_nothing() -> None:
    """Live on without taking another message."""
    threading.Event().wait()


def take_configuration() -> None:
    """Receive the configuration as a real engine does, up to the phase RUNNING."""
    begin = take_until(internal.ConfBegin)
    assert isinstance(begin, internal.ConfBegin)
    take_until(internal.ConfDrain)
    send(internal.ConfReady(begin.generation, ""))
    take_until(internal.ConfDone)
    send(internal.ConfApplied(begin.generation))


def say_hello() -> None:
    """Send the version; the parent sends nothing before."""
    send(hello_of_this_process())


def tell_of_refusals() -> None:
    """Pass the listener of refused calls to the parent, as a real engine does first."""
    assert confinement.listener is not None
    send(internal.RefusalsWatched(), descriptors=[confinement.listener])
    os.close(confinement.listener)


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    uid, _, gid = sys.argv[sys.argv.index("--ids") + 1].partition(":")
    # A script that passes no listener to the parent has none: a refused call would wait for ever.
    confinement = confine_engine(int(uid), int(gid), reports_refusals="tell_of_refusals()" in text)
    if "says_no_hello" not in text:
        say_hello()
    exec(compile(text, "attack", "exec"), globals())
