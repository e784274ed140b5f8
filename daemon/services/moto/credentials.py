"""Access keys: which account a request speaks for, and when its key's `last_used` is due.

moto notes on every request when its access key was last used. That would make every read a change, and IAM dirty for ever;
so the note is coalesced to once a minute a key (AWS itself updates it with a delay of minutes). A read on which it falls due
is journalled like a change, and since the rule looks only at state and the command's clock, a replay decides the same.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from holdfast.daemon.command import Request
from holdfast.daemon.services.moto import backends

__all__ = ["LAST_USED_EVERY_S", "access_key_of", "account_of", "install", "last_used_due"]

LAST_USED_EVERY_S = 60
"""`last_used` of a key is renewed when it is older than this."""

CREDENTIAL = re.compile(r"(?:Credential=|X-Amz-Credential=|AWSAccessKeyId=|^AWS )([^/&:%,\s]+)")

ISSUED = re.compile(r"A[KS]IA[A-Z0-9]{16}")
"""What IAM's and STS's access keys look like in moto: others ("test") are not looked for."""


def access_key_of(request: Request) -> str:
    """The access key that signed `request`, by header or by query; empty when it is not signed."""
    match = CREDENTIAL.search(request.header("authorization")) or CREDENTIAL.search(request.target.partition("?")[2])
    return match.group(1) if match else ""


def _find(access_key: str) -> tuple[str, str, Any] | None:
    """(account, partition, AccessKey) of a key that IAM or STS issued. Looking is no access: nothing counts as touched."""
    if not ISSUED.fullmatch(access_key):
        return None
    backends.ensure_loaded("iam")
    for _, holder in backends.imported("iam"):
        for account, partition, backend in backends.quiet_items(holder):
            key = backend.access_keys.get(access_key)
            if key is not None:
                return account, partition, key
    return None


def account_of(access_key: str) -> str | None:
    """The account that `access_key` belongs to: the key itself if it is 12 digits, else the one in which it was issued."""
    if len(access_key) == 12 and access_key.isdigit():
        return access_key
    found = _find(access_key)
    return found[0] if found else None


def last_used_due(access_key: str, clock_us: int) -> bool:
    """True when a command at `clock_us` signed with `access_key` renews its `last_used`."""
    found = _find(access_key)
    return found is not None and _due(found[2], clock_us / 1e6)


def _due(key: Any, now_s: float) -> bool:
    if key.last_used is None:
        return True
    noted = key.last_used.timestamp
    age_s: float = now_s - noted.replace(tzinfo=dt.UTC).timestamp()
    return age_s >= LAST_USED_EVERY_S


def install() -> None:
    """Put the coalesced note in the place of moto's. `moto.core.responses` looks the function up at every call."""
    from moto.core.utils import utcnow
    from moto.iam import models

    note = models.mark_account_as_visited

    def mark_account_as_visited(account_id: str, access_key: str, service: str, region: str) -> None:
        found = _find(access_key)
        if found is not None and _due(found[2], utcnow().replace(tzinfo=dt.UTC).timestamp()):
            note(account_id=account_id, access_key=access_key, service=service, region=region)

    models.mark_account_as_visited = mark_account_as_visited
