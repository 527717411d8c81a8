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
    """A key that is always valid, unless lifetimes (from, until) are given."""
    return AuthKey(key_id, algorithm, secret, send[0], send[1], accept[0], accept[1])


def ring(*keys: AuthKey) -> KeyRing:
    """The set "core" with these keys; with one that is always valid when none is given."""
    return KeyRing("core", keys or (key(),))
