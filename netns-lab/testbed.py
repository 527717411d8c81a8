"""The lab as a library.

    with Lab("ring8") as lab:
        lab.start_daemons()
        lab.wait_converged(deadline_s=30)
        with lab.ping_stream("r1", "r5") as stream:
            lab.cut("r1-r2")
            lab.wait_converged(deadline_s=10)
        assert stream.longest_outage_s < 1

Such a lab ends with its block, or with its process for whatever reason. A lab of `lab.py up` is
used with `attach`, which provides the same operations.
"""

from __future__ import annotations

import itertools
import os
from types import TracebackType
from typing import Self

import topology
from client import HolderClient, LabError
from launching import Launcher
from network import Network
from topology import Topology

__all__ = ["Lab", "LabError", "attach"]

_counter = itertools.count(1)


class Lab(Network):
    """A network that is built here; a context manager."""

    def __init__(
        self, network: Topology | str, *, name: str | None = None, is_detached: bool = False
    ) -> None:
        """Build the network; `start_daemons` starts the daemons.

        Args:
            network: a topology, or the name of one in topologies/, or a path to one.
            name: for `lab.py --name`; generated if absent.
            is_detached: whether it stays when this process ends.

        Raises:
            TopologyError: there is no such topology, or it is invalid.
            LabError: it cannot be built here; the text gives the reason and what to do.
        """
        plan = topology.load(network) if isinstance(network, str) else network
        name = name or f"pid{os.getpid()}-{next(_counter)}"
        self._launcher = Launcher(name, plan.document, is_detached=is_detached)
        try:
            super().__init__(HolderClient(name), plan)
        except BaseException:
            self._launcher.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the lab; returns when its last process has ended."""
        self.detach()
        self._launcher.end()


def attach(name: str) -> Network:
    """Return a lab that is up already.

    Raises:
        LabError: there is no lab of that name.
    """
    client = HolderClient(name)
    document, _ = client.describe()
    return Network(client, topology.compute(document))
