"""Cryptographic keys and certificates to DER and back: the part of the reducers that knows the cryptography library.

The functions without an underscore and with a DER argument are named in images, under this module's name.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["KEYS", "KEYS_MAX", "KeyCache", "key_reducer", "prepare_for_fork"]

Reducer = Callable[[Any], Any]

KEYS_MAX: Final = 4096
"""Keys whose DER is remembered: 6 MB at 1.5 KB each; the oldest go first and are encoded again when they are met."""


class KeyCache:
    """The DER of keys, remembered when they are made or loaded.

    Encoding a key enters OpenSSL, which must not happen in a forked child (another thread may have held one of its locks at the
    fork), and costs more than everything else of a small service. Key objects take no attribute and no weak reference, so the
    cache holds them, up to KEYS_MAX.
    """

    def __init__(self) -> None:
        self._der: collections.OrderedDict[int, tuple[Any, bytes]] = collections.OrderedDict()

    def remember(self, key: Any, der: bytes) -> None:
        """Keep `der`, which must be PKCS #8 for a private and SubjectPublicKeyInfo for a public key."""
        self._der[id(key)] = (key, der)
        if len(self._der) > KEYS_MAX:
            self._der.popitem(last=False)

    def der(self, key: Any, encode: Callable[[Any], bytes]) -> bytes:
        """The key's DER, from the cache or encoded now."""
        known = self._der.get(id(key))
        if known is None:
            self.remember(key, encode(key))
            known = self._der[id(key)]
        return known[1]


KEYS: Final = KeyCache()
"""The process's: whatever makes a key may put its DER here."""


def _encode_private(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return bytes(key.private_bytes(s.Encoding.DER, s.PrivateFormat.PKCS8, s.NoEncryption()))


def _encode_public(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return bytes(key.public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo))


def _encode_certificate(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return bytes(certificate.public_bytes(s.Encoding.DER))


def private_key(der: bytes) -> Any:
    """Named in images: a private key from PKCS #8 DER."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_der_private_key(der, None)
    KEYS.remember(key, der)
    return key


def public_key(der: bytes) -> Any:
    """Named in images: a public key from SubjectPublicKeyInfo DER."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_der_public_key(der)
    KEYS.remember(key, der)
    return key


def certificate(der: bytes) -> x509.Certificate:
    """Named in images: an X.509 certificate from DER."""
    from cryptography import x509

    return x509.load_der_x509_certificate(der)


def signing_request(der: bytes) -> x509.CertificateSigningRequest:
    """Named in images: a PKCS #10 signing request from DER."""
    from cryptography import x509

    return x509.load_der_x509_csr(der)


def key_reducer(cls: type) -> Reducer | None:
    """The reducer for one of cryptography's compiled classes, by its name: they are met only when the library is loaded."""
    if not cls.__module__.startswith("cryptography.hazmat.bindings._rust"):
        return None
    name = cls.__qualname__
    if name.endswith("PrivateKey"):
        return lambda key: (private_key, (KEYS.der(key, _encode_private),))
    if name.endswith("PublicKey"):
        return lambda key: (public_key, (KEYS.der(key, _encode_public),))
    if name == "Certificate":
        return lambda one: (certificate, (_encode_certificate(one),))
    if name == "CertificateSigningRequest":
        return lambda one: (signing_request, (_encode_certificate(one),))
    return None


def prepare_for_fork() -> None:
    """Import what a reducer would import, so that a forked child imports nothing. Cheap after the first time."""
    if "cryptography" in sys.modules:
        import cryptography.hazmat.primitives.serialization
        import cryptography.x509  # noqa: F401
