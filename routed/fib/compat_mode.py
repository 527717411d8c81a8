"""The kernel's net.ipv4.nexthop_compat_mode: whether it hides that routes go through objects.

With 1, the kernel's default, each route that goes through an object is shown with what the object
resolves to, and every change of an object is notified once for each of its routes: 200 ms for
125,000 of them (measured, peers.md section 6), in which the change is not finished. With 0 an
object changes in less than a millisecond, whatever goes through it, and a route is shown with the
id of its object only.

It belongs to the network namespace, so it is switched off when the daemon begins to use objects, is
said so in the log, and stays as it is from then on. Where it cannot be written (a hardened unit
with ProtectKernelTunables, see configs/sysctl.d) the log says why and `show status` calls objects
slow.

Source: Documentation/networking/ip-sysctl.rst of Linux.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["COMPAT_MODE_PATH", "CompatMode"]

COMPAT_MODE_PATH = Path("/proc/sys/net/ipv4/nexthop_compat_mode")


class CompatMode:
    """The switch in this network namespace."""

    def __init__(self, path: Path = COMPAT_MODE_PATH) -> None:
        """Args:
        path: of the switch.
        """
        self._path = path

    @property
    def value(self) -> int | None:
        """0 or 1; None when the kernel has no such switch, or hides it."""
        try:
            return int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def switch_off(self) -> str:
        """Set it to 0 if it is not; why that could not be, or empty."""
        if self.value == 0:
            return ""
        try:
            self._path.write_text("0\n", encoding="ascii")
        except OSError as error:
            return error.strerror or str(error)
        return ""
