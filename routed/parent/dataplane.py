"""The parent's side of the dataplane: loads programs, and keeps them at the configured interfaces.

    start, as root      load_dataplane --> arrays and programs, or the reason why there are none
    then, without       configuration --.
    CAP_BPF             links ----------+--> reconcile --> attached: ifindex -> two links, a slot
                                         '--> the engine: what is attached, and memory to read

Desired and actual are compared as a whole after each change, and every RECHECK_S while something is
missing. The links to interfaces are descriptors of this process: when it ends, however it ends, the
kernel detaches the programs. When an engine ends, nothing changes here.

Nothing of a packet is read here, and of the counters only that they are set to zero when an
interface gets them.

Failure: each interface has its own reason (`DataplaneReason`), which is logged when it changes; the
daemon and the other interfaces go on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import trio

from ipc.lazy_dataclass import dataclass
from routed.config.schema import DataplaneConfig
from routed.dataplane.counters import LinkCounters
from routed.dataplane.kernel import AttachType, Kernel, MappedArray, ProgramInfo
from routed.dataplane.layout import DIRECTIONS, header_bytes_of, sizes_for
from routed.dataplane.loader import (
    LoadedPrograms,
    LoadError,
    load_programs,
    possible_processors,
)
from routed.dataplane.places import Places
from routed.dataplane.plan import select_interfaces
from routed.imsg.dataplane import (
    ATTACHMENTS_MAX,
    OTHERS_MAX,
    Attachment,
    DataplaneArrayReady,
    DataplaneChanged,
    ProgramReport,
    ProgramsReported,
)
from routed.log.logger import Logger
from routed.model.dataplane import DataplaneArray, DataplaneReason, Hook
from routed.model.link import Interface

__all__ = ["RECHECK_S", "Dataplane", "Loaded", "load_dataplane"]

RECHECK_S = 10.0
"""Seconds between two attempts at what could not be attached."""

_ENGINE_ARRAYS = (
    DataplaneArray.LINKS, DataplaneArray.ACTIVITY, DataplaneArray.WORDS, DataplaneArray.ROUTES,
)  # fmt: skip
"""The memory that an engine receives; without routes the first one."""

_HOOKS = {"received": AttachType.TCX_INGRESS, "sent": AttachType.TCX_EGRESS}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of loading: programs, or why there are none."""

    programs: LoadedPrograms | None = None
    reason: DataplaneReason = DataplaneReason.RESTART_NEEDED
    detail: str = ""

    def close(self) -> None:
        """Close the descriptors of the programs and their memory."""
        if self.programs is not None:
            self.programs.close()


def load_dataplane(config: DataplaneConfig, kernel: Kernel | None = None) -> Loaded:
    """Load the programs if the configuration asks for them; never fails.

    Args:
        config: the section `dataplane`.
        kernel: the calls of bpf(2).
    """
    if not config.interfaces:
        return Loaded()
    # Only now: a daemon without a dataplane does not keep the programs in its memory.
    from routed.dataplane.programs import LICENSE, PROGRAMS

    sizes = sizes_for(possible_processors(), config.routes, config.flows.max)
    try:
        programs = load_programs(
            kernel or Kernel(), sizes, PROGRAMS, LICENSE, has_statistics=config.statistics
        )
    except LoadError as error:
        return Loaded(None, error.reason, error.detail)
    return Loaded(programs, DataplaneReason.NONE)


class EngineSender(Protocol):
    """An engine."""

    def send(
        self, message: object, *, request_id: int = 0, descriptor: int | None = None
    ) -> None: ...


class Engines(Protocol):
    """Where the running engine is found (`Supervisor`)."""

    @property
    def running(self) -> EngineSender | None: ...


class Links(Protocol):
    """All links that exist (`LinkTable`)."""

    @property
    def interfaces(self) -> Mapping[int, Interface]: ...


class Dataplane:
    """Owner of the programs and of what they are attached to."""

    def __init__(
        self,
        loaded: Loaded,
        config: DataplaneConfig,
        links: Links,
        engines: Engines,
        log: Logger,
        kernel: Kernel | None = None,
    ) -> None:
        """Begin with nothing attached.

        Args:
            loaded: what was loaded at the start; becomes this object's.
            config: the section `dataplane` in force.
            links: all that exist.
            engines: the running engine is sent what changes.
            log: for changes of attachments.
            kernel: the calls of bpf(2).

        Raises:
            OSError: memory of the programs cannot be mapped.
        """
        self._loaded = loaded
        self._config = config
        self._links = links
        self._engines = engines
        self._log = log
        self._kernel = kernel or Kernel()
        self._hooks: dict[int, tuple[int, ...]] = {}
        """Descriptors of the links between programs and an interface, by ifindex."""
        self._attachments: tuple[Attachment, ...] = ()
        self._mappings: list[MappedArray] = []
        self._places: Places | None = None
        self._counters: LinkCounters | None = None
        if loaded.programs is not None:
            self._map(loaded.programs)

    def _map(self, programs: LoadedPrograms) -> None:
        for name in ("places", "links"):
            size = programs.sizes.array_bytes[name]
            self._mappings.append(MappedArray(programs.arrays[name], size, is_writable=True))
        places, counters = (mapping.memory for mapping in self._mappings)
        self._places = Places(places)
        self._counters = LinkCounters(counters, programs.sizes.processors)

    def close(self) -> None:
        """Detach all programs, and close everything."""
        for ifindex in list(self._hooks):
            self._detach(ifindex)
        self._loaded.close()

    # --- what is desired

    def follow(self, config: DataplaneConfig) -> None:
        """Switch to another section `dataplane`."""
        self._config = config
        self.reconcile()

    async def run(self) -> None:
        """Attach what could not be attached before, until cancelled."""
        self.reconcile()
        while True:
            await trio.sleep(RECHECK_S)
            if any(entry.hook is Hook.NONE for entry in self._attachments):
                self.reconcile()

    def reconcile(self) -> None:
        """Attach and detach until the interfaces are those of the configuration."""
        if not self._config.interfaces and not self._attachments:
            return
        wanted = select_interfaces(self._config.interfaces, self._links.interfaces.values())
        indexes = {link.ifindex for link in wanted.links}
        for ifindex in [ifindex for ifindex in self._hooks if ifindex not in indexes]:
            self._detach(ifindex)
        found = [self._attach(link) for link in wanted.links]
        found += [_missing(name, DataplaneReason.TOO_MANY) for name in wanted.too_many]
        found += [_missing(name, DataplaneReason.NO_SUCH_INTERFACE) for name in wanted.absent]
        self._record(tuple(found[:ATTACHMENTS_MAX]))

    def _record(self, found: tuple[Attachment, ...]) -> None:
        """Log and send what has changed."""
        if found == self._attachments:
            return
        before = {entry.interface: entry for entry in self._attachments}
        now = {entry.interface: entry for entry in found}
        self._attachments = found
        for name, entry in now.items():
            former = before.get(name)
            if former is not None and replace(former, others=entry.others) == entry:
                continue
            if entry.hook is Hook.NONE:
                self._log.emit(
                    "dataplane-not-attached",
                    link=name, reason=entry.reason.value, detail=entry.detail,
                )  # fmt: skip
            else:
                self._log.emit("dataplane-attached", link=name, hook=entry.hook.value)
        for name, entry in before.items():
            if name not in now and entry.hook is not Hook.NONE:
                self._log.emit("dataplane-detached", link=name)
        session = self._engines.running
        if session is not None:
            session.send(DataplaneChanged(found))

    # --- one interface

    def _attach(self, link: Interface) -> Attachment:
        """Attach the programs to an interface, unless they are. Returns how it is counted."""
        programs, places = self._loaded.programs, self._places
        if programs is None or places is None:
            return _missing(link.ifname, self._loaded.reason, self._loaded.detail)
        if link.ifindex in self._hooks:
            return self._describe(link, places)
        try:
            header_bytes = header_bytes_of(self._kernel.link_type(link.ifname))
            if header_bytes is None:
                return _missing(link.ifname, DataplaneReason.LINK_TYPE)
            slot = places.free_slot()
            if slot is None:
                return _missing(link.ifname, DataplaneReason.TOO_MANY)
            assert self._counters is not None  # mapped with the places
            self._counters.clear(slot)
            if not places.add(link.ifindex, slot, header_bytes):
                return _missing(link.ifname, DataplaneReason.TOO_MANY)
            self._hooks[link.ifindex] = self._hook(programs, link.ifindex)
        except OSError as error:
            places.remove(link.ifindex)
            return _missing(link.ifname, _reason_of(error), error.strerror or str(error))
        return self._describe(link, places)

    def _hook(self, programs: LoadedPrograms, ifindex: int) -> tuple[int, ...]:
        """Attach the programs of both directions, or none.

        Raises:
            OSError: the kernel refuses.
        """
        hooks: list[int] = []
        try:
            for name, where in _HOOKS.items():
                hooks.append(self._kernel.attach(programs.programs[name], ifindex, where))
        except OSError:
            for hook in hooks:
                self._kernel.detach(hook)
            raise
        return tuple(hooks)

    def _detach(self, ifindex: int) -> None:
        """Detach the programs from an interface, which may be gone."""
        for hook in self._hooks.pop(ifindex):
            self._kernel.detach(hook)
        if self._places is not None:
            self._places.remove(ifindex)

    def _describe(self, link: Interface, places: Places) -> Attachment:
        slot = places.slot(link.ifindex)
        assert slot is not None  # it is attached
        return Attachment(
            link.ifname, link.ifindex, slot, Hook.TCX, DataplaneReason.NONE, "", self._others(link)
        )

    def _others(self, link: Interface) -> tuple[int, ...]:
        """List the ids of programs of others at the same hooks of an interface."""
        own = {info.id for info in self._program_infos().values()}
        found: dict[int, None] = {}
        for where in _HOOKS.values():
            try:
                found.update(dict.fromkeys(self._kernel.attached(link.ifindex, where)))
            except OSError:
                return ()  # the interface is going; its removal is on its way
        return tuple(number for number in found if number not in own)[:OTHERS_MAX]

    # --- engines

    def hand_over(self, session: EngineSender) -> None:
        """Send a new engine the memory that it reads, and what is attached.

        Raises:
            OSError: there is no descriptor to spare.
        """
        programs = self._loaded.programs
        if programs is not None:
            has_routes = programs.sizes.records > 0
            for array in _ENGINE_ARRAYS if has_routes else _ENGINE_ARRAYS[:1]:
                session.send(
                    DataplaneArrayReady(array, *programs.sizes),
                    descriptor=os.dup(programs.arrays[array.value]),
                )
        session.send(DataplaneChanged(self._attachments))

    def report_programs(self) -> ProgramsReported:
        """Describe the programs, for `show dataplane programs`."""
        programs = self._loaded.programs
        if programs is None:
            return ProgramsReported(())
        hooks = len(self._hooks)
        return ProgramsReported(
            tuple(
                ProgramReport(
                    name, info.id, hooks, info.runs, info.run_ns, programs.code_bytes[name],
                    has_statistics=programs.statistics is not None,
                )
                for name, info in self._program_infos().items()
            ),
            sum(programs.sizes.array_bytes.values()),
        )  # fmt: skip

    def _program_infos(self) -> dict[str, ProgramInfo]:
        programs = self._loaded.programs
        if programs is None:
            return {}
        return {
            name: self._kernel.program_info(descriptor)
            for name, descriptor in programs.programs.items()
        }


assert tuple(_HOOKS) == DIRECTIONS


def _missing(name: str, reason: DataplaneReason, detail: str = "") -> Attachment:
    return Attachment(name, 0, -1, Hook.NONE, reason, detail)


def _reason_of(error: OSError) -> DataplaneReason:
    match error.errno:
        case errno.EINVAL | errno.EOPNOTSUPP:
            return DataplaneReason.KERNEL_TOO_OLD  # it has no tcx, which came with Linux 6.6
        case errno.ENODEV:
            return DataplaneReason.NO_SUCH_INTERFACE
        case errno.EPERM | errno.EACCES:
            return DataplaneReason.NO_CAPABILITY
        case errno.ENOMEM:
            return DataplaneReason.NO_MEMORY
        case _:
            return DataplaneReason.REFUSED
