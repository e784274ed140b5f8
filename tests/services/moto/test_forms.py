"""moto extended: text inside a JSON body is data, whatever it looks like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.daemon.command import Request
from holdfast.daemon.services.moto import forms
from holdfast.daemon.services.moto.dispatch import Dispatch


@pytest.fixture
def dispatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dispatch]:
    """moto as it is installed, whatever was put into it before."""
    import moto.core.responses

    monkeypatch.setattr(moto.core.responses, "parse_qsl", forms.parse_qsl)
    prepared = Dispatch()
    prepared.prepare("sqs")
    monkeypatch.setattr(moto.core.responses, "parse_qsl", forms.parse_qsl)
    return prepared


def call(dispatch: Dispatch, operation: str, **fields: Any) -> Any:
    headers = (
        ("host", "localhost:4566"),
        ("x-amz-target", f"AmazonSQS.{operation}"),
        ("content-type", "application/x-amz-json-1.0"),
    )
    body = json.dumps(fields).encode()
    reply = dispatch(Request("sqs", operation, "us-east-1", "0" * 12, "POST", "/", headers, body))
    return json.loads(reply.body)


MESSAGE = "x&Action=PurgeQueue&y"


def send_and_count(dispatch: Dispatch, queue: str) -> str:
    url = call(dispatch, "CreateQueue", QueueName=queue)["QueueUrl"]
    call(dispatch, "SendMessage", QueueUrl=url, MessageBody="kept")
    call(dispatch, "SendMessage", QueueUrl=url, MessageBody=MESSAGE)
    attributes = call(dispatch, "GetQueueAttributes", QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return str(attributes["Attributes"]["ApproximateNumberOfMessages"])


def test_message_that_looks_like_a_form_is_a_message(dispatch: Dispatch) -> None:
    """A message's text runs no operation: both messages are in the queue."""
    forms.install()
    assert send_and_count(dispatch, "forms-with") == "2"


def test_extension_is_still_needed(dispatch: Dispatch) -> None:
    """moto alone takes the message for a PurgeQueue; once it does not, the extension can go."""
    assert send_and_count(dispatch, "forms-without") == "0"


@pytest.mark.parametrize(
    ("text", "fields"), [("a=1&b=%7B", [("a", "1"), ("b", "{")]), (' {"a": "&b=1"}', []), ("[1]", [])]
)
def test_forms_stay_forms(text: str, fields: list[tuple[str, str]]) -> None:
    """Only what is JSON is left alone."""
    assert forms.parse_form(text, keep_blank_values=True) == fields
