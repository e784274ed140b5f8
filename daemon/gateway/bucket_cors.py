"""S3's own CORS: a page of an origin that the gateway does not know may do what a bucket's owner allows it there.

The rules are S3's (Amazon S3 User Guide, "Elements of a CORS configuration"): the first rule whose origins, methods and, for a
preflight, headers all match decides. They are asked for by a GetBucketCors through the executor, so that no state is looked at
from outside.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from holdfast.daemon.command import Reply, Request

if TYPE_CHECKING:
    from holdfast.daemon.gateway.message import HttpRequest

__all__ = ["BucketCors", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a bucket's CORS configuration. Origins and headers may have one `*` in them."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age_s: str

    def allows(self, origin: str, method: str, headers: list[str]) -> bool:
        """True when a page of `origin` may send `method` with `headers` (lower case)."""
        return (
            any(_matches(pattern, origin) for pattern in self.origins)
            and method in self.methods
            and all(any(_matches(pattern.lower(), name) for pattern in self.headers) for name in headers)
        )

    def mark(self, reply: Reply, origin: str, asked: list[str]) -> Reply:
        """`reply` with what the page's browser is told."""
        anyone = "*" in self.origins
        told = [
            ("access-control-allow-origin", "*" if anyone else origin),
            ("access-control-allow-methods", ", ".join(self.methods)),
            ("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
        ]
        if not anyone:
            told.append(("access-control-allow-credentials", "true"))
        if asked:
            told.append(("access-control-allow-headers", ", ".join(asked)))
        if self.exposed:
            told.append(("access-control-expose-headers", ", ".join(self.exposed)))
        if self.max_age_s:
            told.append(("access-control-max-age", self.max_age_s))
        kept = tuple(
            pair
            for pair in reply.headers
            if not pair[0].lower().startswith("access-control-") and pair[0].lower() != "vary"
        )
        return Reply(reply.status, kept + tuple(told), reply.body)


class BucketCors:
    """Asks buckets for their rules. `run` executes a request."""

    def __init__(self, run: Callable[[Request], Awaitable[Reply]]) -> None:
        self._run = run

    async def rule_for(self, routed: Request, http: HttpRequest, origin: str) -> Rule | None:
        """The rule by which a page of `origin` may send this S3 request, or ask whether it may; None if there is none."""
        bucket = routed.target.partition("?")[0].strip("/").partition("/")[0]
        if routed.service != "s3" or not bucket:
            return None
        method = http.get("access-control-request-method") if http.method == "OPTIONS" else http.method
        for rule in await self._rules(routed, bucket):
            if rule.allows(origin, method, asked_headers(http)):
                return rule
        return None

    async def _rules(self, routed: Request, bucket: str) -> list[Rule]:
        asking = Request(
            service="s3",
            operation="GetBucketCors",
            region=routed.region,
            account=routed.account,
            method="GET",
            target=f"/{bucket}?cors",
            headers=tuple(pair for pair in routed.headers if pair[0] in {"host", "authorization"}),
            body=b"",
        )
        reply = await self._run(asking)
        return parse_rules(reply.body) if reply.status == 200 else []


def parse_rules(document: bytes) -> list[Rule]:
    """The rules of a CORSConfiguration; none when it is not one."""
    try:
        root = ET.fromstring(document)  # noqa: S314 - our own S3's reply, which declares no entities
    except ET.ParseError:
        return []
    rules = []
    for rule in root.iter():
        if _local(rule.tag) != "CORSRule":
            continue
        fields: dict[str, list[str]] = {}
        for element in rule:
            fields.setdefault(_local(element.tag), []).append(element.text or "")
        rules.append(
            Rule(
                origins=tuple(fields.get("AllowedOrigin", ())),
                methods=tuple(fields.get("AllowedMethod", ())),
                headers=tuple(fields.get("AllowedHeader", ())),
                exposed=tuple(fields.get("ExposeHeader", ())),
                max_age_s=fields.get("MaxAgeSeconds", [""])[0],
            )
        )
    return rules


def asked_headers(http: HttpRequest) -> list[str]:
    """The headers that a preflight asks for, lower case."""
    asked = http.get("access-control-request-headers") if http.method == "OPTIONS" else ""
    return [name.strip().lower() for name in asked.split(",") if name.strip()]


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _matches(pattern: str, value: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == value
    return re.fullmatch(f"{re.escape(before)}.*{re.escape(after)}", value) is not None
