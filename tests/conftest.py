"""Nothing of the user's own settings reaches a test: each says itself what it sets."""

from __future__ import annotations

import os

OURS = ("HOLDFAST_", "SNAPSHOT_", "JOURNAL", "LOCALSTACK_")
KEPT = ("HOLDFAST_CRASH_",)  # how the crash tests are told their seed and rounds

for name in list(os.environ):
    if (name.startswith(OURS) and not name.startswith(KEPT)) or name in {"DATA_DIR", "PERSISTENCE", "GATEWAY_LISTEN"}:
        del os.environ[name]
