"""All errors of this package, grouped by situation."""

from __future__ import annotations

__all__ = [
    "ChildDied",
    "ChildError",
    "ChildHung",
    "ChildRaised",
    "CodecError",
    "ForeignManifest",
    "FormatError",
    "ImageDamaged",
    "IncompatibleFormat",
    "ManifestDamaged",
    "NoUsableCheckpoint",
    "NotAllowed",
    "NotLoadable",
    "NotPicklable",
    "SnapshotError",
    "SnapshotFailed",
]


class SnapshotError(Exception):
    """The base of all errors of this package."""


# --- what lies on disk ---


class FormatError(SnapshotError):
    """The base of what can be wrong with a stored file; `path` or digest, and the reason, are in its text."""


class ImageDamaged(FormatError):
    """Raised when an image is missing, cut, or not the bytes that its name or its manifest promises."""

    def __init__(self, digest: bytes, reason: str) -> None:
        super().__init__(f"image {digest.hex()[:16]}: {reason}")
        self.digest = digest
        self.reason = reason


class ManifestDamaged(FormatError):
    """Raised when a manifest's bytes are not what was written: cut, changed, or fields of the wrong type."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"manifest {path or '(in memory)'}: {reason}")
        self.path = path
        self.reason = reason


class IncompatibleFormat(FormatError):
    """Raised when a file is whole but of a format version that this program does not read. It stays where it is."""

    def __init__(self, what: str, version: int, known: int) -> None:
        super().__init__(f"{what}: format {version}, and this program reads up to {known}")
        self.version = version
        self.known = known


class ForeignManifest(FormatError):
    """Raised when a manifest is whole but of another volume: somebody copied files between two. It stays where it is."""

    def __init__(self, path: str) -> None:
        super().__init__(f"manifest {path} belongs to another volume")
        self.path = path


class NoUsableCheckpoint(SnapshotError):
    """Raised when checkpoints were written but none can be read: nothing is ever started empty over them."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("no checkpoint can be read: " + "; ".join(reasons))
        self.reasons = reasons


# --- objects to bytes and back ---


class CodecError(SnapshotError):
    """The base of what stops one service's state from being written or read; `service` names it."""

    def __init__(self, service: str, text: str) -> None:
        super().__init__(f"{service}: {text}")
        self.service = service


class NotAllowed(CodecError):
    """Raised when a state or an image names a global that is not on the allow-list. Nothing of it was called or imported."""

    def __init__(self, service: str, module: str, qualname: str, reason: str = "is not on the allow-list") -> None:
        super().__init__(service, f"{module}:{qualname} {reason}")
        self.module = module
        self.qualname = qualname


class NotPicklable(CodecError):
    """Raised when a service's state holds something that cannot be written; the journal goes on covering the service."""


class NotLoadable(CodecError):
    """Raised when an image's pickle is not one that this program wrote, or does not fit the classes that are installed."""


# --- the child that pickles ---


class ChildError(SnapshotError):
    """The base of what can become of the fork that pickles."""


class ChildDied(ChildError):
    """Raised when the child was killed or ended without a whole result; `status` is its exit code, negative for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the child ended with status {status} and no result")
        self.status = status


class ChildHung(ChildError):
    """Raised when the child had no result by its deadline and was killed."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"the child had no result after {deadline_s:g} s and was killed")
        self.deadline_s = deadline_s


class ChildRaised(ChildError):
    """Raised when the work itself failed in the child; the text is the child's."""


# --- the snapshotter ---


class SnapshotFailed(SnapshotError):
    """Raised to those who asked for a checkpoint when none came of it; `reason` says why, the state stays dirty."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no checkpoint was written: {reason}")
        self.reason = reason
