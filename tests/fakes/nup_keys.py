"""Keys for tests: secrets that nobody uses."""

from __future__ import annotations

import math

from routed.nup.auth.keys import Algorithm, AuthKey, KeyRing

__all__ = ["SECRET", "key", "ring"]

SECRET = b"correct horse battery staple"


def key(
    key_id: int = 1,
    *,
    algorithm: Algorithm = Algorithm.HMAC_SHA256,
    secret: bytes = SECRET,
    send: tuple[float, float] = (-math.inf, math.inf),
    accept: tuple[float, float] = (-math.inf, math.inf),
) -> AuthKey:
    """Return a key that is always valid, unless lifetimes (from, until) are given."""
    return AuthKey(key_id, algorithm, secret, send[0], send[1], accept[0], accept[1])


def ring(*keys: AuthKey) -> KeyRing:
    """Return the set "core" with these keys, or with one that is always valid."""
    return KeyRing("core", keys or (key(),))
