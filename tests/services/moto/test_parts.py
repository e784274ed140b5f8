"""Objects of moto's container classes: what is written of them is all of them."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def test_missing_parameter_is_made_after_a_restore_too() -> None:
    """SSM's parameters are a defaultdict: filled into a blank object, it still makes a list for a name that it does not have."""
    script = """
    from holdfast.daemon.services.moto.links import blank, fill, parts_of
    from moto.ssm.models import ParameterDict
    was = ParameterDict("000000000000", "us-east-1")
    was["known"].append("value")
    now = blank(ParameterDict)
    fill(now, parts_of(was))
    now["new"].append("another")
    print(dict.items(now) == {"known": ["value"], "new": ["another"]}.items(), now.region_name)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == "True us-east-1", done.stderr
