"""The environment variables around the settings: those accepted silently, and those a user should hear are without effect."""

# ruff: noqa: SIM905 - forty names read better as words than as forty lines

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

__all__ = ["without_effect"]

SILENT = frozenset(
    # LocalStack's, accepted for the sake of people who come from there; nothing here needs a licence or a host folder.
    {"LOCALSTACK_API_KEY", "LOCALSTACK_AUTH_TOKEN", "HOST_TMP_FOLDER"}
    # Ours, for the commands that talk to a daemon; and systemd's mark of a log connected to its journal.
    | {"HOLDFAST_ENDPOINT", "JOURNAL_STREAM"}
)

OUR_PREFIXES = ("LOCALSTACK_", "HOLDFAST_", "SNAPSHOT_", "JOURNAL_", "POD_", "PROVIDER_OVERRIDE_")

LOCALSTACK_ONLY = frozenset(
    """
    ACTIVATE_PRO ALLOW_NONSTANDARD_REGIONS AUTO_LOAD_POD DISABLE_CUSTOM_CORS_APIGATEWAY DISABLE_CUSTOM_CORS_S3
    DISABLE_EVENTS DNS_ADDRESS DNS_SERVER DYNAMODB_ERROR_PROBABILITY DYNAMODB_IN_MEMORY DYNAMODB_SHARE_DB EDGE_BIND_HOST
    EDGE_PORT ENABLE_CONFIG_UPDATES ENFORCE_IAM EXTRA_CORS_ALLOWED_HEADERS EXTRA_CORS_EXPOSE_HEADERS HOSTNAME_EXTERNAL
    IAM_SOFT_MODE KINESIS_ERROR_PROBABILITY KINESIS_LATENCY LAMBDA_DOCKER_FLAGS LAMBDA_DOCKER_NETWORK LAMBDA_EXECUTOR
    LAMBDA_KEEPALIVE_MS LAMBDA_REMOTE_DOCKER LAMBDA_REMOVE_CONTAINERS LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT
    LAMBDA_RUNTIME_EXECUTOR MAIN_CONTAINER_NAME MAIN_DOCKER_NETWORK OPENSEARCH_ENDPOINT_STRATEGY OUTBOUND_HTTP_PROXY
    OUTBOUND_HTTPS_PROXY PARITY_AWS_ACCESS_KEY_ID S3_SKIP_KMS_KEY_VALIDATION S3_SKIP_SIGNATURE_VALIDATION
    SKIP_SSL_CERT_DOWNLOAD SQS_DELAY_PURGE_RETRY SQS_ENDPOINT_STRATEGY STRICT_SERVICE_LOADING
    TRANSPARENT_LOCAL_ENDPOINTS USE_SSL
    """.split()
)
"""Variables of LocalStack's documentation that change nothing here. A user who set one should hear that it does not."""


def without_effect(names: Iterable[str], known: Collection[str]) -> Iterator[str]:
    """Those of `names` that were meant for LocalStack or for us and are acted on by nobody here, in order."""
    for name in sorted(names):
        if name in known or name in SILENT:
            continue
        if name in LOCALSTACK_ONLY or name.startswith(OUR_PREFIXES):
            yield name
