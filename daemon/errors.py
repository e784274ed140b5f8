"""What the daemon tells its user instead of a traceback: one sentence and an exit code.

exit code   meaning
---------   -----------------------------------------------------------------------------------------------
0           done
1           it was tried and did not work: volume in use, port taken, nobody listens, a failed journal
2           wrong usage or configuration: nothing was tried, and trying again without a change is useless
"""

from __future__ import annotations

__all__ = ["ConfigError", "HoldfastError", "ListenError", "UnreachableError", "VolumeError"]


class HoldfastError(Exception):
    """The base: its text is a sentence for the user, `exit_code` what the command ends with."""

    exit_code: int = 1


class ConfigError(HoldfastError):
    """Raised when a setting has a value that is not allowed. Names the key, the value and what is allowed."""

    exit_code = 2


class VolumeError(HoldfastError):
    """Raised when a folder cannot be the volume: not ours, not writable, of a newer format, or in use."""


class ListenError(HoldfastError):
    """Raised when an address cannot be listened on. Names the port and, if it is known, who has it."""


class UnreachableError(HoldfastError):
    """Raised when no daemon answers at an endpoint, or what answers is not a holdfast."""
