"""An engine that begins to exit does exit, even if one of its tasks never ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

_DEADLINE_S = 30.0


def test_a_task_that_never_unwinds_cannot_keep_a_failed_engine_alive() -> None:
    script = textwrap.dedent(
        """
        import trio
        from routed.engine.main import end_in_time

        async def never_unwinds():
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()

        async def engine():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_in_time)
                nursery.start_soon(never_unwinds)
                await trio.testing.wait_all_tasks_blocked()
                raise MemoryError

        import trio.testing
        trio.run(engine)
        """
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=_DEADLINE_S, check=False)
    assert ended.returncode == -signal.SIGALRM
