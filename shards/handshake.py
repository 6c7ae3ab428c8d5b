"""How the two ends of a data-plane connection prove to each other that they know the cluster's secret.

    shard -> caller   CHALLENGE      magic, protocol version, nonce of the shard
    caller -> shard   AUTHENTICATE   nonce of the caller, HMAC(secret, "caller" + both nonces)
    shard -> caller   WELCOME        HMAC(secret, "shard" + both nonces), then the shard's name as JSON

HMAC-SHA256 over fresh nonces: nothing secret travels, nothing recorded can be played again. Pure; nonces come from
outside.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from shards.batch import Buffer
from shards.errors import Corrupt, ShardUnavailable
from shards.wire import PROTOCOL_VERSION

NONCE_BYTES = 32
_PROOF_BYTES = 32
_MAGIC = b"SHOAL"
_CHALLENGE = struct.Struct("<5sH32s")


def encode_challenge(shard_nonce: bytes) -> bytes:
    """CHALLENGE's body."""
    return _CHALLENGE.pack(_MAGIC, PROTOCOL_VERSION, shard_nonce)


def decode_challenge(body: Buffer) -> bytes:
    """The shard's nonce. Raises Corrupt for another protocol, ShardUnavailable for another version of ours."""
    if len(body) != _CHALLENGE.size or bytes(body[:5]) != _MAGIC:
        raise Corrupt("the peer is not a Shoal shard")
    _, version, shard_nonce = _CHALLENGE.unpack(body)
    if version != PROTOCOL_VERSION:
        raise ShardUnavailable(f"the shard speaks protocol version {version}, this side {PROTOCOL_VERSION}")
    return bytes(shard_nonce)


def encode_authenticate(secret: bytes, shard_nonce: bytes, caller_nonce: bytes) -> bytes:
    """AUTHENTICATE's body."""
    return caller_nonce + _proof(secret, b"caller", shard_nonce, caller_nonce)


def check_authenticate(secret: bytes, shard_nonce: bytes, body: Buffer) -> bytes | None:
    """The caller's nonce if it knows the secret, else None."""
    caller_nonce, proof = bytes(body[:NONCE_BYTES]), bytes(body[NONCE_BYTES:])
    right = hmac.compare_digest(proof, _proof(secret, b"caller", shard_nonce, caller_nonce))
    return caller_nonce if right else None


def encode_welcome(secret: bytes, shard_nonce: bytes, caller_nonce: bytes, name: bytes) -> bytes:
    """WELCOME's body; `name` is JSON that says which shard this is."""
    return _proof(secret, b"shard", shard_nonce, caller_nonce) + name


def check_welcome(secret: bytes, shard_nonce: bytes, caller_nonce: bytes, body: Buffer) -> bytes:
    """The shard's name. Raises ShardUnavailable unless the shard knows the secret."""
    proof = bytes(body[:_PROOF_BYTES])
    if not hmac.compare_digest(proof, _proof(secret, b"shard", shard_nonce, caller_nonce)):
        raise ShardUnavailable("the shard does not know the cluster's secret: is it another cluster's?")
    return bytes(body[_PROOF_BYTES:])


def _proof(secret: bytes, role: bytes, shard_nonce: bytes, caller_nonce: bytes) -> bytes:
    return hmac.new(secret, role + shard_nonce + caller_nonce, hashlib.sha256).digest()
