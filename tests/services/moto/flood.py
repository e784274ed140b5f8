"""Calls to every service moto has, found by trying: calls.json holds those that worked, `play` makes them again.

    python flood.py > calls.json        some minutes; only when moto or botocore change

The parameters are made up from botocore's models, identifiers are taken from what earlier calls answered: a value
{"$ref": [5, "Vpc", "VpcId"]} stands for that part of the answer to call 5. Only the first page of luck is kept: what needs a
human's understanding is in world.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import world

CALLS = Path(__file__).with_name("calls.json")
Client = Callable[..., Any]
Call = tuple[str, str, dict[str, Any]]

VERBS = (
    "create",
    "put",
    "register",
    "add",
    "import",
    "start",
    "allocate",
    "request",
    "run",
    "associate",
    "attach",
    "enable",
)
VERBS += ("tag", "publish", "send", "submit", "set", "update", "upload", "modify")
READS = ("describe", "list", "get", "batch_get", "search", "query", "scan")
NOT_CALLED = {
    ("s3", "get_bucket_location"),  # moto answers it differently in a second process: it depends on the endpoint
    ("ec2", "describe_vpc_endpoint_services"),  # imports all of moto
    ("ec2", "describe_instance_type_offerings"),
    ("ec2", "describe_spot_price_history"),
    ("cognito-identity", "get_id"),  # makes an identity
    ("support", "describe_cases"),  # draws the next status
    ("timestream-query", "query"),  # draws an id
    ("logs", "start_live_tail"),  # answers with a stream
}
DEPTH_MAX = 6


Answers = dict[int, Any]


def play(client: Client, calls: list[Call]) -> Answers:
    """Make `calls` in order, whatever comes of each: their answers."""
    answers: Answers = {}
    for number, (name, method, parameters) in enumerate(calls):
        try:
            answers[number] = getattr(client(name), method)(**resolve(parameters, answers))
        except Exception as error:
            answers[number] = str(error)
    return answers


def halves(calls: list[Call]) -> tuple[list[int], list[int]]:
    """The numbers of the first half of each service's calls, and of the second."""
    by_service: dict[str, list[int]] = {}
    for number, (name, *_) in enumerate(calls):
        by_service.setdefault(name, []).append(number)
    first = [number for numbers in by_service.values() for number in numbers[: (len(numbers) + 1) // 2]]
    return first, [number for number in range(len(calls)) if number not in set(first)]


def resolve(value: Any, answers: Answers) -> Any:
    """Parameters with every reference and every blob put in."""
    if isinstance(value, dict):
        if "$ref" in value:
            number, *path = value["$ref"]
            found = answers.get(number)
            for step in path:
                found = found[step] if isinstance(found, (dict, list)) else "missing"
            return found
        if "$bytes" in value:
            return bytes.fromhex(value["$bytes"])
        return {key: resolve(inner, answers) for key, inner in value.items()}
    return [resolve(inner, answers) for inner in value] if isinstance(value, list) else value


# --- finding the calls -----------------------------------------------------------------------------------------------


class Finder:
    """Tries what a client can do, and keeps what works."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, dict[str, list[Any]]] = {}
        self.calls: list[Call] = []
        self.reads: list[Call] = []
        self.answers: Answers = {}

    def explore(self, name: str) -> None:
        """All operations of one service: twice those that change, for some need what others made, then those that read."""
        client = self._client(name)
        operations = dict(client.meta.method_to_api_mapping)
        done: set[str] = set()
        for _ in range(2):
            for verb in VERBS:
                for method in sorted(operations):
                    if (
                        method.startswith(verb)
                        and method not in done
                        and self._try(name, client, method, operations[method])
                    ):
                        done.add(method)
        for method in sorted(operations):
            if method.startswith(READS) and (name, method) not in NOT_CALLED:
                self._try(name, client, method, operations[method], reads=True)

    def _try(self, name: str, client: Any, method: str, operation: str, reads: bool = False) -> bool:
        shape = client.meta.service_model.operation_model(operation).input_shape
        parameters = (
            {} if shape is None else {key: self._make(name, shape.members[key], key) for key in shape.required_members}
        )
        try:
            answer = getattr(client, method)(**resolve(parameters, self.answers))
        except Exception:
            return False
        if reads:
            self.reads.append((name, method, parameters))
        else:
            self._learn(name, answer, [len(self.calls)])
            self.answers[len(self.calls)] = answer
            self.calls.append((name, method, parameters))
        return True

    def _learn(self, name: str, value: Any, path: list[Any]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key == "ResponseMetadata":
                    continue
                if isinstance(inner, str) and inner:
                    known = self._known.setdefault(name, {})
                    parent = str(path[-1]) if len(path) > 1 else ""
                    for alias in (key, f"{parent}{key}"):
                        known[alias.lower()] = [*path, key]
                self._learn(name, inner, [*path, key])
        elif isinstance(value, list) and value:
            self._learn(name, value[0], [*path, 0])

    def _make(self, name: str, shape: Any, key: str, depth: int = 0) -> Any:
        kind = shape.type_name
        if kind == "string":
            return self._make_string(name, shape, key)
        if kind in ("integer", "long"):
            return max(1, shape.metadata.get("min", 1))
        if kind in ("float", "double"):
            return 1.0
        if kind == "boolean":
            return False
        if kind == "blob":
            return {"$bytes": b"data".hex()}
        if kind == "timestamp":
            return "2026-01-01T00:00:00Z"
        if depth > DEPTH_MAX:
            return None
        if kind == "list":
            return [self._make(name, shape.member, key.rstrip("s") or key, depth + 1)]
        if kind == "map":
            return {"key": self._make(name, shape.value, key, depth + 1)}
        wanted = shape.required_members or (list(shape.members)[:1] if getattr(shape, "is_tagged_union", False) else [])
        return {inner: self._make(name, shape.members[inner], inner, depth + 1) for inner in wanted}

    def _make_string(self, name: str, shape: Any, key: str) -> Any:
        if shape.enum:
            return shape.enum[0]
        lower = key.lower()
        known = self._known.get(name, {})
        if lower in known:
            return {"$ref": known[lower]}
        for suffix in ("identifier", "arn", "id", "name"):
            if lower.endswith(suffix):
                stem = lower.removesuffix(suffix)
                for other in ("id", "arn", "name", "identifier"):
                    if stem and stem + other in known:
                        return {"$ref": known[stem + other]}
        return plain(lower, shape.metadata.get("min", 0))


def plain(key: str, size: int) -> str:
    """A string that may do for a parameter of that name."""
    rules: tuple[tuple[tuple[str, ...], str], ...] = (
        (("rolearn", "iamrole"), world.ROLE),
        (("arn",), f"arn:aws:sqs:{world.REGION}:{world.ACCOUNT}:jobs"),
        (("email",), "a@example.com"),
        (("bucket",), "plain"),
        (("cidr",), "10.1.0.0/16"),
        (("policydocument",), world.POLICY),
        (("json", "definition", "schema", "document", "template"), "{}"),
        (("url", "uri"), "https://example.com/x"),
        (("domain",), "example.com"),
        (("version",), "1"),
        (("region",), world.REGION),
        (("accountid",), world.ACCOUNT),
    )
    for fragments, value in rules:
        if any(fragment in key for fragment in fragments):
            return value
    return f"name-{key[:10] or 'x'}".ljust(size, "x")


def services() -> Iterator[str]:
    """boto3's names of all services."""
    import botocore.session

    yield from botocore.session.Session().get_available_services()


def find(client: Client) -> dict[str, Any]:
    """What works, as data."""
    finder = Finder(client)
    for name in services():
        try:
            finder.explore(name)
        except Exception as error:  # a service that boto3 has no client for
            print(name, error, file=sys.stderr)
    return {"calls": finder.calls, "reads": finder.reads}


if __name__ == "__main__":
    import twin

    twin.start()
    for recipe in world.RECIPES.values():
        recipe(twin.client)
    found = find(twin.client)
    rows = {kind: [json.dumps(call) for call in calls] for kind, calls in found.items()}
    print("{")
    print(",\n".join(f'"{kind}": [\n' + ",\n".join(lines) + "\n]" for kind, lines in rows.items()))
    print("}")
