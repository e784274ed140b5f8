"""Snapshots: every service's state as images, one cut, no pause, nothing executed when it is loaded again.

format      the bytes of images and manifests
errors      everything that is raised
source      what an embedding program implements: Source, Host
codec       objects to pickles and back
allowlist   what an image may name; generic.json is the list for the standard library
reducers    how the awkward is written; keys: cryptography's; paths: lambdas and closures
images      parts of services' states in the blob store
manifest    which images were valid at one LSN; quarantine: what cannot be read
dump        services to images, in place or in a child
fork        the child; memory: whether it fits; hugepages: how it gets cheap
checkpoint  one checkpoint, from cut to retention
strategy    when checkpoints are made, and who shares one
views       what people look at
restore     the newest whole checkpoint, or the one before it
fakes       a source and a host for tests
"""

from holdfast.snapshot.allowlist import GENERIC, AllowList, Use
from holdfast.snapshot.checkpoint import Checkpointer, CheckpointOptions, Timing
from holdfast.snapshot.codec import Codec
from holdfast.snapshot.errors import (
    ImageDamaged,
    IncompatibleFormat,
    ManifestDamaged,
    NotAllowed,
    NotLoadable,
    NotPicklable,
    NoUsableCheckpoint,
    SnapshotError,
    SnapshotFailed,
)
from holdfast.snapshot.images import ImageRef, ImageStore
from holdfast.snapshot.keys import KEYS
from holdfast.snapshot.manifest import Manifest, ManifestStore, ServiceEntry
from holdfast.snapshot.quarantine import Quarantine, Quarantined
from holdfast.snapshot.restore import Restore, restore
from holdfast.snapshot.source import CheckpointFailure, Cut, Host, OpenPart, Source
from holdfast.snapshot.strategy import SaveStrategy, Snapshotter
from holdfast.snapshot.views import Views

__all__ = [
    "GENERIC",
    "KEYS",
    "AllowList",
    "CheckpointFailure",
    "CheckpointOptions",
    "Checkpointer",
    "Codec",
    "Cut",
    "Host",
    "ImageDamaged",
    "ImageRef",
    "ImageStore",
    "IncompatibleFormat",
    "Manifest",
    "ManifestDamaged",
    "ManifestStore",
    "NoUsableCheckpoint",
    "NotAllowed",
    "NotLoadable",
    "NotPicklable",
    "OpenPart",
    "Quarantine",
    "Quarantined",
    "Restore",
    "SaveStrategy",
    "ServiceEntry",
    "SnapshotError",
    "SnapshotFailed",
    "Snapshotter",
    "Source",
    "Timing",
    "Use",
    "Views",
    "restore",
]
