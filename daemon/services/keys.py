"""Private keys: made ahead of need, recorded on a command's tape, played back when the command runs again.

Why a tape: OpenSSL draws from its own generator, which no seed reaches. A key is therefore part of a command's record: PKCS #8
DER, in the order in which the command asked (DESIGN section 5).

Why a pool: an RSA key takes 30 to 300 ms to make, and commands run on the event loop. The pool makes keys on a worker thread
while nothing waits; a command that asks for one of a shape the pool has not seen makes it itself, and the pool learns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from anyio import to_thread
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from holdfast.snapshot.keys import KEYS

__all__ = ["KEYS_AHEAD", "KeyPool", "Tape", "TapeEnded", "key_from_der", "key_to_der"]

KEYS_AHEAD = 2
"""Keys kept ready of each shape: two, since tests make keys in ones and twos and an idle RSA key costs 2 KB."""

RSA_DEFAULT = ("rsa", 65537, 2048)
"""The shape nearly every service asks for: the pool is born knowing it."""

type_shape = tuple[Any, ...]
"""What tells one kind of key from another: algorithm and parameters."""

_rsa_generate = rsa.generate_private_key
_ec_generate = ec.generate_private_key
_ed25519_generate = ed25519.Ed25519PrivateKey.generate


class TapeEnded(Exception):
    """Raised when a command, run again, asks for a key that its record does not hold."""


def key_to_der(key: Any) -> bytes:
    """PKCS #8 DER of a private key, unencrypted."""
    der: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    # The snapshotter's child must not enter OpenSSL, whose locks another thread may have held at the fork.
    KEYS.remember(key, der)
    return der


def key_from_der(der: bytes) -> Any:
    """The private key that `der` holds. The journal's checksum vouches for it, so the slow consistency check is left out."""
    key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    KEYS.remember(key, der)
    return key


def _generate(shape: type_shape) -> Any:
    match shape:
        case ("rsa", int(exponent), int(bits)):
            return _rsa_generate(public_exponent=exponent, key_size=bits)
        case ("ec", curve):
            return _ec_generate(curve())
        case _:
            return _ed25519_generate()


class KeyPool:
    """Keys made ahead on a worker thread. Elliptic keys take microseconds and are never pooled."""

    def __init__(self) -> None:
        self._ready: dict[type_shape, deque[Any]] = {RSA_DEFAULT: deque()}

    def take(self, shape: type_shape) -> Any:
        """A fresh key: a ready one, or one made now."""
        if shape[0] != "rsa":
            return _generate(shape)
        ready = self._ready.setdefault(shape, deque())
        return ready.popleft() if ready else _generate(shape)

    @property
    def wanted(self) -> type_shape | None:
        """A shape that has fewer keys ready than it should, or None when all are full."""
        for shape, ready in self._ready.items():
            if len(ready) < KEYS_AHEAD:
                return shape
        return None

    async def refill(self) -> None:
        """Make one key of a wanted shape on a worker thread; returns at once when none is wanted."""
        shape = self.wanted
        if shape is not None:
            self._ready[shape].append(await to_thread.run_sync(_generate, shape))


class Tape:
    """The private keys of one command: recorded when it runs live, played back when it runs again."""

    __slots__ = ("_pool", "_recorded", "_replaying")

    def __init__(self, pool: KeyPool, recorded: tuple[bytes, ...] | None = None) -> None:
        self._pool = pool
        self._replaying = deque(recorded) if recorded is not None else None
        self._recorded: list[bytes] = []

    def key(self, shape: type_shape) -> Any:
        """The next key of the command; raises TapeEnded on replay when the record holds no more."""
        if self._replaying is not None:
            if not self._replaying:
                raise TapeEnded(
                    f"the record holds no further private key, but the command asks for one of shape {shape}"
                )
            return key_from_der(self._replaying.popleft())
        key = self._pool.take(shape)
        self._recorded.append(key_to_der(key))
        return key

    @property
    def recorded(self) -> tuple[bytes, ...]:
        """What was generated, in order: goes into the command's record."""
        return tuple(self._recorded)


def install(tape: Callable[[], Tape | None]) -> None:
    """Route key generation through the running command's tape. Once, before anything imports a generator by name."""

    def rsa_key(public_exponent: int, key_size: int, backend: Any = None) -> Any:
        current = tape()
        if current is None:
            return _rsa_generate(public_exponent, key_size)
        return current.key(("rsa", public_exponent, key_size))

    def ec_key(curve: ec.EllipticCurve, backend: Any = None) -> Any:
        current = tape()
        return _ec_generate(curve) if current is None else current.key(("ec", type(curve)))

    def ed25519_key() -> Any:
        current = tape()
        return _ed25519_generate() if current is None else current.key(("ed25519",))

    rsa.generate_private_key = rsa_key
    ec.generate_private_key = ec_key
    ed25519.Ed25519PrivateKey.generate = staticmethod(ed25519_key)  # type: ignore[method-assign]
