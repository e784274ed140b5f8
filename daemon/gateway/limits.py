"""Limits of the edge: every one has a name and a reason, and what happens beyond it is an AWS error."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all together, may take."""

    head_bytes_max: int = 64 * KIB
    """Request line and headers. S3 allows 8 KiB of headers; session tokens and presigned URLs of SSO are the longest seen."""

    uri_bytes_max: int = 16 * KIB
    """Path and query: S3 keys are 1 KiB, tripled by percent-encoding, beside a presigned query with a session token."""

    headers_max: int = 256
    """Header lines: S3 metadata of 2 KB as single letters is the most that AWS accepts."""

    object_bytes_max: int = 1 * GIB
    """The body of an S3 request. AWS takes 5 GiB in one PUT or part; here bodies are held in memory."""

    body_bytes_max: int = 128 * MIB
    """Any other body: the largest in AWS is a Lambda function's zip of 50 MB, in base64 within JSON."""

    bodies_bytes_max: int = 2 * GIB
    """All bodies in work together: beyond it a request is told to come again. Not less than what one may have."""

    requests_max: int = 2048
    """Requests in work together, long polls included: each holds a socket, and a process has 1,024 unless it raised that."""

    connections_max: int = 16_384
    """Open connections, idle ones included: a few kilobytes each."""

    head_timeout_s: float = 30.0
    """From a request's first byte to the end of its headers: a client that drips them is cut off (slow loris)."""

    idle_timeout_s: float = 75.0
    """A connection without a request: longer than the 60 s that SDKs keep one in their pools."""

    body_timeout_s: float = 60.0
    """Between two pieces of a body."""

    first_byte_s: float = 120.0
    """How long a request waits for recovery to end before it is told to come again."""
