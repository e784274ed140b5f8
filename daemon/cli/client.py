"""What commands that talk to a running daemon share: where it is, one request, clear sentences when it is not there.

The standard library's http.client, so that these commands start fast and work wherever Python does.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from holdfast.daemon.errors import UnreachableError

__all__ = ["Answer", "Client", "endpoint_option"]

DEFAULT_ENDPOINT = "http://localhost:4566"

ANSWER_TIMEOUT_S = 10.0
"""Health is answered from memory; ten seconds without an answer is a daemon that hangs or another program."""

ANSWER_MAX_BYTES = 16 << 20
"""Health with every service is 10 KB; what is larger was not sent by a holdfast."""

F = TypeVar("F", bound=Callable[..., Any])


def endpoint_option(command: F) -> F:
    """The option `--endpoint`, with HOLDFAST_ENDPOINT and the default behind it."""
    return click.option(
        "--endpoint",
        envvar="HOLDFAST_ENDPOINT",
        default=DEFAULT_ENDPOINT,
        show_default=True,
        metavar="URL",
        help="Where the daemon listens (also HOLDFAST_ENDPOINT).",
    )(command)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the daemon."""

    status: int
    body: bytes

    def object(self) -> dict[str, Any]:
        """The JSON object in the body; empty when there is none."""
        try:
            data = json.loads(self.body)
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}


class Client:
    """Talks to the daemon at one endpoint. Raises UnreachableError with a sentence when that does not work."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port:
            raise click.UsageError(f"--endpoint {endpoint}: it takes http://HOST:PORT")
        self.endpoint = f"http://{parts.netloc.rpartition('@')[2]}"
        self._host, self._port = parts.hostname, port

    def request(self, method: str, path: str, body: object = None) -> Answer:
        """One request; `body` is sent as JSON. HOLDFAST_TOKEN, where set, opens control routes of a daemon elsewhere."""
        headers = {"Accept": "application/json"}
        if token := os.environ.get("HOLDFAST_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.read(ANSWER_MAX_BYTES))
        except TimeoutError as error:
            raise UnreachableError(f"{self.endpoint} does not answer within {ANSWER_TIMEOUT_S:.0f} s") from error
        except http.client.HTTPException as error:
            raise UnreachableError(f"what listens at {self.endpoint} does not speak HTTP") from error
        except OSError as error:
            raise UnreachableError(
                f"nothing answers at {self.endpoint} ({error.strerror or error}); `holdfast start` starts a daemon,"
                " --endpoint or HOLDFAST_ENDPOINT names another place"
            ) from error
        finally:
            connection.close()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the daemon serves, and what its health says. Raises UnreachableError when it is not a holdfast."""
        answer = self.request("GET", "/_localstack/health")
        health = answer.object()
        features = health.get("features")
        if not isinstance(features, dict) or not isinstance(features.get("holdfast"), dict):
            raise UnreachableError(f"what listens at {self.endpoint} is not a holdfast")
        return answer.status == 200, health

    def listens(self) -> bool:
        """True while connections are accepted at the endpoint."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True
