"""A bucket's own CORS rules: the only way in for a page of an origin that the gateway does not know."""

from __future__ import annotations

import urllib.error
import urllib.request
import uuid
from typing import Any

import boto3
import pytest

from holdfast.daemon.gateway.bucket_cors import Rule, parse_rules

APP = "https://app.example"


@pytest.fixture
def bucket(served: Any) -> str:
    """A bucket that lets pages of one origin read, and upload with one header."""
    name = f"cors-{uuid.uuid4().hex[:8]}"
    s3 = boto3.client(
        "s3", endpoint_url=served.url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"data", ACL="public-read")
    rules = [
        {"AllowedOrigins": [APP], "AllowedMethods": ["PUT"], "AllowedHeaders": ["x-amz-*"]},
        {
            "AllowedOrigins": ["https://*.example"],
            "AllowedMethods": ["GET", "HEAD"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 60,
        },
    ]
    s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": rules})
    return name


def ask(served: Any, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{served.url}{path}", None if method != "PUT" else b"new", named, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def test_rule_lets_a_page_read(served: Any, bucket: str) -> None:
    """A matching rule: the object, and the headers that let the page's script see it."""
    status, headers, body = ask(served, "GET", f"/{bucket}/k", Origin=APP)
    assert (status, body) == (200, b"data")
    assert headers["access-control-allow-origin"] == APP
    assert headers["access-control-expose-headers"] == "ETag"
    assert headers["vary"].startswith("Origin")


def test_preflight_is_answered_by_the_rule(served: Any, bucket: str) -> None:
    """What the rule allows is allowed, and nothing else: method and every header must match."""
    path = f"/{bucket}/k"
    asked = {"Origin": APP, "Access_Control_Request_Method": "PUT"}
    status, headers, _ = ask(served, "OPTIONS", path, **asked, Access_Control_Request_Headers="X-Amz-Date, x-amz-acl")
    assert (status, headers["access-control-allow-headers"]) == (200, "x-amz-date, x-amz-acl")
    assert headers["access-control-allow-methods"] == "PUT"
    assert ask(served, "OPTIONS", path, **asked, Access_Control_Request_Headers="content-type")[0] == 403
    assert ask(served, "OPTIONS", path, Origin=APP, Access_Control_Request_Method="DELETE")[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "origin"),
    [
        ("DELETE", "/{}/k", APP),
        ("PUT", "/{}/k", "https://other.example"),
        ("GET", "/{}/k", "https://evil.invalid"),
        ("GET", "/{}/k", "null"),
        ("GET", "/no-such-bucket/k", APP),
        ("GET", "/", APP),
        ("PUT", "/moto-api/config", APP),
    ],
)
def test_page_without_a_rule_stays_out(method: str, path: str, origin: str, served: Any, bucket: str) -> None:
    """No rule for the bucket, the origin or the method, or no bucket: refused before anything of it is executed."""
    before = len(served.executor.requests)
    status, headers, _ = ask(served, method, path.format(bucket), Origin=origin)
    assert status == 403
    assert "access-control-allow-origin" not in headers
    assert {request.operation for request in served.executor.requests[before:]} <= {"GetBucketCors"}


def test_rules_match_as_s3s_do() -> None:
    """One `*` in an origin or header stands for anything; `*` alone is told to the browser as such."""
    rule = Rule(("*",), ("GET",), ("*",), (), "")
    assert rule.allows("https://x.invalid", "GET", ["authorization"])
    assert not rule.allows("https://x.invalid", "PUT", [])
    exact = Rule(("https://a.example",), ("GET",), (), (), "")
    assert not exact.allows("https://a.example.evil", "GET", [])
    assert not exact.allows("https://aXexample", "GET", [])
    assert not exact.allows("https://a.example", "GET", ["x-amz-date"])
    assert parse_rules(b"not xml") == []
