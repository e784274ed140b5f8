"""Caches of moto that hold state: moved to where the state is, so that it is saved with it.

moto 5.2.5 keeps the key with which an SNS subscription signs its messages in an `lru_cache` on the method. That is state of the
process: after a restart a publish would make another key, at a moment when the one that was acknowledged made none. The key
belongs to the subscription, so it is kept there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

__all__ = ["MENDS"]

KEY = "_holdfast_private_key"


def _keep_signing_keys(module: ModuleType) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    def private_key(self: Any) -> Any:
        key = vars(self).get(KEY)
        if key is None:
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            setattr(self, KEY, key)
        return key

    module.Subscription.private_key = private_key


MENDS: Mapping[str, Callable[[ModuleType], None]] = {"moto.sns.models": _keep_signing_keys}
"""By the name of a module of moto: what to do as soon as it is imported."""
