"""The key pool: keys are ready before they are asked for, and shapes it has not seen are learned."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from holdfast.daemon.services.keys import KEYS_AHEAD, RSA_DEFAULT, KeyPool, Tape, key_from_der, key_to_der

pytestmark = pytest.mark.anyio


async def test_refilled_pool_hands_out_ready_keys() -> None:
    """After refilling, KEYS_AHEAD keys are ready, all different, and taking one makes the pool want another."""
    pool = KeyPool()
    while pool.wanted:
        await pool.refill()
    keys = [pool.take(RSA_DEFAULT) for _ in range(KEYS_AHEAD)]
    assert len({key_to_der(key) for key in keys}) == KEYS_AHEAD
    assert pool.wanted == RSA_DEFAULT


async def test_unseen_rsa_shape_is_made_at_once_and_wanted_from_then_on() -> None:
    """The first key of a shape is made in place; the pool then keeps that shape ready too. Elliptic keys are never pooled."""
    pool = KeyPool()
    while pool.wanted:
        await pool.refill()
    assert pool.take(("rsa", 65537, 1024)).key_size == 1024
    assert pool.wanted == ("rsa", 65537, 1024)
    assert pool.take(("ec", ec.SECP384R1)).curve.name == "secp384r1"
    assert pool.wanted == ("rsa", 65537, 1024)


async def test_tape_plays_back_what_it_recorded() -> None:
    """A recorded tape gives the same keys in the same order."""
    recording = Tape(KeyPool())
    keys = [recording.key(("ec", ec.SECP256R1)), recording.key(("ed25519",))]
    playing = Tape(KeyPool(), recording.recorded)
    again = [playing.key(("ec", ec.SECP256R1)), playing.key(("ed25519",))]
    assert [key_to_der(key) for key in keys] == [key_to_der(key) for key in again]
    assert key_to_der(key_from_der(recording.recorded[0])) == recording.recorded[0]
