"""Nothing that a service does is lost because it happens outside its backends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SAVED = {
    "moto.ec2.models.transit_gateway_attachments:TransitGatewayAttachmentBackend.backend_refs",
    "moto.ec2.models.vpc_peering_connections:VPCPeeringConnectionBackend.vpc_pcx_refs",
    "moto.ec2.models.vpcs:VPCBackend.vpc_refs",
    "moto.logs.models:LogEvent._event_id",
    "moto.logs.models:LogStream._log_ids",
    "moto.securityhub.models:SecurityHubBackend._org_configs",
}
"""Saved, or derived again, by outside.py."""

NO_STATE = {
    "moto.cloudformation.parsing:get_model_list": "a cache of what is imported",
    "moto.cloudformation.parsing:get_model_map": "a cache of what is imported",
    "moto.core.authorization:ActionAuthenticatorMixin.request_count": "counts requests until IAM is enforced, which is off",
    "moto.core.base_backend:AccountSpecificBackend._generate_regions": "a cache of botocore's data",
    "moto.core.base_backend:BackendDict._instances": "the dictionaries themselves",
    "moto.dynamodb.parsing.reserved_keywords:ReservedKeywords.KEYWORDS": "read from a file on first use",
    "moto.ec2.models.amis:AMIS": "dates parsed on first use",
    "moto.ec2.models.amis:environ": "the process's environment",
}
NO_STATE_ENDINGS = (
    "get_service_model",
    "get_pagination_model",
    "get_service_router",
    "_host_prefix_regex",
    "_config_query",
    ":logger",
)
NO_STATE_ENDINGS += (
    "service_name_from_moto_package_name",
    "_access_block_query",
    "RESOURCE_MAP",
    ":model_data",
    ":mock_random",
    ":random",
)
"""Caches of data files, views on the backends, and the random generator, which every command seeds."""


def hidden(*arguments: str) -> list[str]:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("hidden.py")), *arguments]
    return subprocess.run(
        command, check=True, env={"PYTHONHASHSEED": "0", "PATH": ""}, capture_output=True, text=True
    ).stdout.splitlines()


def test_what_changes_outside_the_backends_is_known() -> None:
    """All services used, nothing in moto's modules and classes has changed but what is saved or is no state."""
    changed = {name for name in hidden() if not name.endswith(NO_STATE_ENDINGS)}
    assert changed - SAVED - NO_STATE.keys() == set()
    assert changed >= {"moto.logs.models:LogEvent._event_id", "moto.securityhub.models:SecurityHubBackend._org_configs"}


def test_no_two_images_hold_a_copy_of_one_thing() -> None:
    """Dictionaries, lists and helpers that belong to no service are held by one service each."""
    assert [line for line in hidden("copies") if line] == []
