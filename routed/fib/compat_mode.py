"""The kernel's net.ipv4.nexthop_compat_mode: whether it hides that routes use nexthop objects.

With 1, the kernel's default, each route through an object is shown with the next hops of the
object, and a change of an object causes a notification for each of its routes: for 125,000 routes
the change takes 200 ms (measured, peers.md section 6). With 0 an object changes in less than a
millisecond, however many routes use it, and a route is shown with the id of its object only.

The setting belongs to the network namespace. The daemon switches it off when it begins to use
objects, logs that, and does not restore it. If it cannot be written (a hardened unit with
ProtectKernelTunables, see configs/sysctl.d) the log has the reason and `show status` calls objects
slow.

Source: Documentation/networking/ip-sysctl.rst of Linux.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["COMPAT_MODE_PATH", "CompatMode"]

COMPAT_MODE_PATH = Path("/proc/sys/net/ipv4/nexthop_compat_mode")


class CompatMode:
    """The setting in this network namespace."""

    def __init__(self, path: Path = COMPAT_MODE_PATH) -> None:
        """Use the setting of this network namespace.

        Args:
            path: the file of the setting.
        """
        self._path = path

    @property
    def value(self) -> int | None:
        """Read the setting: 0 or 1; None if the kernel does not have or show it."""
        try:
            return int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def switch_off(self) -> str:
        """Set it to 0 if it is not. Returns the reason if that failed, otherwise empty."""
        if self.value == 0:
            return ""
        try:
            self._path.write_text("0\n", encoding="ascii")
        except OSError as error:
            return error.strerror or str(error)
        return ""
