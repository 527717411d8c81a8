"""The addresses that NUP is known by: a port and two multicast groups (docs/nup.md, section 2).

A module of its own, because the privileged process opens the sockets and must not load the code
that reads what arrives on them.
"""

from __future__ import annotations

from routed.model.prefix import Address

__all__ = ["GROUP_IPV4", "GROUP_IPV6", "NUP_PORT"]

NUP_PORT = 61698
"""UDP, source and destination."""
GROUP_IPV6 = Address.parse("ff12::6e75:70")
"""Link-local scope, transient; the group id spells "nup"."""
GROUP_IPV4 = Address.parse("239.255.61.98")
"""Administratively scoped (RFC 2365), for links that have no IPv6."""
