"""A command: one AWS request, its reply, and everything that is needed to run it again.

The payload of a journal record of kind COMMAND is `Command.pack()`: a msgpack array, newest fields last, so that an older
record, which is shorter, still reads (a field that is missing takes its default). Bodies over the journal's blob limit are
not in the payload: `body` is then empty and `body_blob` names the blob that holds it (DESIGN section 4).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

__all__ = ["Command", "Reply", "Request"]

DIGEST_SIZE_BYTES = 16
"""Of a reply: enough that two different replies never share one by chance, small beside a record of 900 bytes."""

VOLATILE_HEADERS = frozenset({"date"})
"""Set by a front end rather than by the service; left out of the digest so that replaying behind another edge compares equal."""


@dataclass(frozen=True, slots=True)
class Request:
    """An AWS request as the executor takes it: no socket, no HTTP object, the same live and on replay.

    `service` is moto's own name of the backend ("sqs", "awslambda", "dynamodbstreams"); `operation` is AWS's ("SendMessage"),
    empty when the request names none. `target` is the raw path, with "?" and the raw query if there was one. Header names are
    lower case; hop-by-hop headers are gone.
    """

    service: str
    operation: str
    region: str
    account: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str, default: str = "") -> str:
        """The first value of the header `name` (lower case), or `default`."""
        for key, value in self.headers:
            if key == name:
                return value
        return default


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answered: status, headers as they go out, and the whole body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def digest(self) -> bytes:
        """A 16-byte digest of status, headers and body: equal exactly when a client could not tell two replies apart."""
        state = hashlib.blake2b(digest_size=DIGEST_SIZE_BYTES)
        state.update(b"%d\n" % self.status)
        for name, value in self.headers:
            if name.lower() not in VOLATILE_HEADERS:
                state.update(f"{name}:{value}\n".encode("utf-8", "surrogateescape"))
        state.update(b"\n")
        state.update(self.body)
        return state.digest()


@dataclass(frozen=True, slots=True)
class Command:
    """A request with the controls it ran under and what came of it.

    `clock_us` is the frozen wall clock in microseconds since 1970; `seed` feeds every source of randomness; `tape` holds, as
    PKCS #8 DER and in order, the private keys that were generated while it ran; `touched` names the services it reached, reads
    included.
    """

    request: Request
    clock_us: int
    seed: int
    tape: tuple[bytes, ...] = ()
    touched: tuple[str, ...] = ()
    status: int = 0
    digest: bytes = b""
    body_blob: bytes = field(default=b"")

    def pack(self) -> bytes:
        """The journal's payload."""
        r = self.request
        body = b"" if self.body_blob else r.body
        packed: bytes = msgpack.packb(
            (
                (r.service, r.operation, r.region, r.account, r.method, r.target, r.headers, body),
                self.clock_us,
                self.seed,
                self.tape,
                self.touched,
                self.status,
                self.digest,
                self.body_blob,
            ),
            use_bin_type=True,
            unicode_errors="surrogateescape",
        )
        return packed

    @classmethod
    def unpack(cls, payload: bytes) -> Command:
        """Read a payload back; raises ValueError when it is not one (its checksum was right, so a foreign writer made it)."""
        try:
            fields: list[Any] = msgpack.unpackb(payload, raw=False, use_list=False, unicode_errors="surrogateescape")
            request, *rest = fields
            return cls(Request(*request), *rest)
        except (TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError(f"not a command's payload: {error}") from error

    def with_body(self, body: bytes) -> Command:
        """The command with the body that its blob held."""
        return replace(self, request=replace(self.request, body=body))
