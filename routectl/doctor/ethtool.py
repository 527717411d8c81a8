"""What drivers report by the ioctl SIOCETHTOOL: offloads, rings, queues.

These queries need no privilege. A driver that does not support one refuses it: the answer is None.

Source: linux/ethtool.h; net/ethtool/ioctl.c, dev_ethtool.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

from routectl.doctor.facts import Ring

__all__ = ["Ethtool"]

_SIOCETHTOOL = 0x8946
_GET_RINGS, _GET_TX_CHECKSUM, _GET_FLAGS, _GET_GRO, _GET_CHANNELS = 0x10, 0x16, 0x25, 0x2B, 0x3C
_FLAG_LRO = 1 << 15
_IFREQ = struct.Struct("16sP16x")
"""struct ifreq with a pointer to the command's data."""
_NAME_BYTES = 15


class Ethtool:
    """Queries of one interface."""

    def __init__(self, query: socket.socket, name: str) -> None:
        """Prepare.

        Args:
            query: any socket of the network namespace.
            name: of the interface.
        """
        self._query = query
        self._name = name

    def _values(self, command: int, count: int) -> list[int] | None:
        """Return the numbers that follow the command in the answer; None if it is refused."""
        name = self._name.encode("utf-8", "surrogateescape")
        if len(name) > _NAME_BYTES:
            return None
        data = array.array("I", [command] + [0] * count)
        try:
            fcntl.ioctl(self._query, _SIOCETHTOOL, _IFREQ.pack(name, data.buffer_info()[0]))
        except OSError:
            return None
        return data.tolist()[1:]

    def _bit(self, command: int, mask: int = 1) -> bool | None:
        values = self._values(command, 1)
        return None if values is None else bool(values[0] & mask)

    def has_lro(self) -> bool | None:
        """Return whether large receive offload is on."""
        return self._bit(_GET_FLAGS, _FLAG_LRO)

    def has_gro(self) -> bool | None:
        """Return whether generic receive offload is on."""
        return self._bit(_GET_GRO)

    def has_checksum_offload(self) -> bool | None:
        """Return whether checksums of sent packets are left to the device."""
        return self._bit(_GET_TX_CHECKSUM)

    def ring(self) -> Ring | None:
        """Return the length of the receive ring."""
        values = self._values(_GET_RINGS, 8)
        # rx_max, rx_mini_max, rx_jumbo_max, tx_max, then the same four as they are.
        return None if values is None else Ring(values[4], values[0])

    def queues(self) -> tuple[int, int] | None:
        """Return the receive queues in use and at most, combined ones included."""
        values = self._values(_GET_CHANNELS, 8)
        if values is None:
            return None
        # Largest numbers of rx, tx, other and combined ones, then the same four as they are.
        return values[4] + values[7], max(values[0], values[3])
