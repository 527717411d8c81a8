"""Shared secrets and their lifetimes.

A `KeyRing` is a set of keys in the configuration; several links may use one. No part of a secret is
ever shown: not in a representation, not in a message of this package.

Sources: RFC 2104 (HMAC), RFC 7693 (BLAKE2s), RFC 8177 (lifetimes of keys, for sending and for
accepting).
"""

from __future__ import annotations

import enum
import hashlib
import hmac

from ipc.lazy_dataclass import dataclass, field

__all__ = ["Algorithm", "AuthKey", "KeyRing"]


class Algorithm(enum.Enum):
    """A digest algorithm; the value is its name in routes.yaml."""

    HMAC_SHA256 = "hmac-sha256"
    BLAKE2S = "blake2s"

    def digest(self, secret: bytes, data: bytes) -> bytes:
        """Compute the digest: 32 bytes of HMAC-SHA256, 16 of BLAKE2s (as RFC 8967 section 4.1)."""
        if self is Algorithm.BLAKE2S:
            return hashlib.blake2s(data, key=secret, digest_size=16).digest()
        return hmac.digest(secret, data, "sha256")


@dataclass(frozen=True, slots=True)
class AuthKey:
    """One shared secret."""

    id: int
    """Key id on the wire, 0 to 255; the receiver finds the key by it."""
    algorithm: Algorithm
    secret: bytes = field(repr=False)
    send_from: float
    """Seconds since 1970; lifetimes are half-open intervals of wall time."""
    send_until: float
    accept_from: float
    accept_until: float

    def digest(self, data: bytes) -> bytes:
        """Return the digest of some data under this key."""
        return self.algorithm.digest(self.secret, data)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of a link, under the name of the set in the configuration."""

    name: str
    keys: tuple[AuthKey, ...]

    def key_to_send(self, wall_now: float) -> AuthKey | None:
        """Return the youngest key that is valid for sending; None when there is none now."""
        valid = [key for key in self.keys if key.send_from <= wall_now < key.send_until]
        return max(valid, key=lambda key: (key.send_from, key.id), default=None)

    def key_to_accept(self, key_id: int, wall_now: float) -> AuthKey | None:
        """Return the key with an id, if it is valid for accepting now."""
        for key in self.keys:
            if key.id == key_id and key.accept_from <= wall_now < key.accept_until:
                return key
        return None
