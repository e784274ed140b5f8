"""A JSON body is not a form: moto 5.2.5 reads every body as one when a request has neither form nor query.

So text inside a JSON value counts as parameters: an SQS message `x&Action=PurgeQueue&y` purges the queue it is sent to, and a
secret `x&SecretId=other&y` is stored under another name (moto.core.responses.BaseResponse.setup_class).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

__all__ = ["install", "parse_form"]


def parse_form(text: str, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
    """The fields of a form; none for a JSON document, which no form can look like: `{`, `[` and `"` are percent-encoded there."""
    if text.lstrip()[:1] in {"{", "[", '"'}:
        return []
    return parse_qsl(text, *args, **kwargs)


def install() -> None:
    """Put `parse_form` in the place of the parser that moto's responses use."""
    import moto.core.responses

    moto.core.responses.parse_qsl = parse_form
