"""The system calls of one engine that its sandbox refuses: answered, counted and logged.

The engine hands over the listener of its seccomp filter (`routed.sandbox.refusals`), at most once.
"""

from __future__ import annotations

import trio

from ipc.framing import IpcError
from routed.log.logger import Logger, TokenBucket
from routed.parent.engine_process.conduct import Conduct
from routed.parent.engine_process.send_queue import SendQueue
from routed.sandbox.refusals import NotAListenerError, RefusalListener

__all__ = ["RefusedCalls"]

REFUSALS_PER_S = 20.0
REFUSALS_BURST = 1000
"""Rate and burst of refused system calls that are counted, each of which costs the parent a turn of
its event loop. Beyond that the kernel refuses calls by itself."""


class RefusedCalls:
    """The receiver of one engine's refused system calls."""

    def __init__(self, pid: int, conduct: Conduct, log: Logger, send_queue: SendQueue) -> None:
        """Begin without a listener.

        Args:
            pid: process id of the engine.
            conduct: counts the calls.
            log: receives an event for each call.
            send_queue: reports the counts to the engine.
        """
        self._pid = pid
        self._conduct = conduct
        self._log = log
        self._send_queue = send_queue
        self._listener: RefusalListener | None = None
        self._has_listener = trio.Event()
        self._bucket = TokenBucket(REFUSALS_PER_S, REFUSALS_BURST, trio.current_time())

    @property
    def has_listener(self) -> bool:
        """Whether the engine has handed over a listener."""
        return self._listener is not None

    def set_listener(self, descriptor: int) -> None:
        """Receive refused calls from now on.

        Raises:
            IpcError: the descriptor is no listener of a seccomp filter.
        """
        try:
            self._listener = RefusalListener(descriptor)
        except NotAListenerError as error:
            raise IpcError(str(error)) from error
        self._has_listener.set()

    async def run(self) -> None:
        """Refuse each call and count it; beyond a rate the kernel refuses calls by itself.

        No number of refused calls ends the engine: after a defect, a client or a neighbor may
        determine how often such a call is made. Without a listener the kernel answers ENOSYS, at
        no cost for this process.
        """
        await self._has_listener.wait()
        listener = self._listener
        assert listener is not None
        while not listener.has_ended():
            await trio.lowlevel.wait_readable(listener.fileno())
            call = listener.refuse()
            if call is None:
                continue
            self._conduct.count_refusal(call)
            self._send_queue.report_refusals(self._conduct.refusals)
            self._log.emit("sandbox-refused", pid=self._pid, call=call)
            if self._bucket.take(trio.current_time()) is None:
                self._log.emit("sandbox-uncounted", pid=self._pid, call=call)
                listener.close()
                return

    def close(self) -> None:
        """Close the listener; further refused calls are answered by the kernel."""
        if self._listener is not None:
            self._listener.close()
