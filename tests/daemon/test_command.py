"""A command's payload: what is packed is unpacked, older and foreign payloads are told apart, digests compare replies."""

from __future__ import annotations

import msgpack
import pytest

from holdfast.daemon.command import Command, Reply, Request

REQUEST = Request(
    service="sqs",
    operation="SendMessage",
    region="eu-west-1",
    account="000000000000",
    method="POST",
    target="/?x=%20",
    headers=(("host", "localhost:4566"), ("x-odd", "\udcff")),
    body=b"\x00\xffbody",
)
COMMAND = Command(
    REQUEST, clock_us=17, seed=2**63, tape=(b"der",), touched=("kms", "sqs"), status=200, digest=b"d" * 16
)


def test_packed_command_comes_back_equal() -> None:
    """A payload holds everything of a command, bytes that are not UTF-8 in a header included."""
    assert Command.unpack(COMMAND.pack()) == COMMAND


def test_body_in_a_blob_is_not_packed() -> None:
    """A body that is a blob of its own is not written twice, and comes back with `with_body`."""
    command = Command(REQUEST, 17, 1, body_blob=b"b" * 32)
    assert REQUEST.body not in command.pack()
    assert Command.unpack(command.pack()).with_body(REQUEST.body).request == REQUEST


def test_older_payload_reads_with_defaults() -> None:
    """Fields are only ever added at the end: a shorter payload of an older version still reads."""
    fields = msgpack.unpackb(COMMAND.pack(), unicode_errors="surrogateescape")
    old = Command.unpack(msgpack.packb(fields[:5], unicode_errors="surrogateescape"))
    assert (old.touched, old.status, old.digest, old.body_blob) == (("kms", "sqs"), 0, b"", b"")


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", msgpack.packb(7), msgpack.packb([1, 2]), msgpack.packb([["sqs"], 1, 2])]
)
def test_foreign_payload_is_refused(payload: bytes) -> None:
    """What is not a command's payload is one typed error, whatever it is."""
    with pytest.raises(ValueError, match="not a command's payload"):
        Command.unpack(payload)


def test_digest_sees_everything_but_the_date() -> None:
    """Two replies have one digest exactly when a client could not tell them apart, the Date header aside."""
    reply = Reply(200, (("date", "today"), ("etag", "1")), b"body")
    assert reply.digest() == Reply(200, (("date", "tomorrow"), ("etag", "1")), b"body").digest()
    others = [
        Reply(201, reply.headers, b"body"),
        Reply(200, (("etag", "2"),), b"body"),
        Reply(200, reply.headers, b"bode"),
        Reply(200, (("etag", "1"), ("x", "y")), b"body"),
    ]
    assert len({each.digest() for each in [reply, *others]}) == 5
