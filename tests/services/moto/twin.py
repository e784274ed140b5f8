"""One process of a twin test: makes the world and saves it, or restores what the other one saved, and answers the same reads.

python twin.py populate FOLDER          the world of world.py; writes <service>/{backend,store}, reads.json
python twin.py flood FOLDER             the world, and every call of flood.py, over all services
python twin.py restore FOLDER           writes reads-after.json
"""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

os.environ.update(
    AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE",
    AWS_SECRET_ACCESS_KEY="x",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_ACCOUNT_ID_ENDPOINT_MODE="disabled",
)

import flood
import world

from holdfast.daemon.services.moto import backends
from holdfast.daemon.services.moto.state import MotoSource

LATER = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
CREATED_US = 1_790_000_000_000_000
STAMPS = ("ResponseMetadata",)


@contextmanager
def seeded(key: str, account: str, region: str) -> Iterator[None]:
    """Make a backend as the determinism layer would: its ids follow from where it lives, so both twins draw the same."""
    from moto.moto_api._internal import mock_random

    kept = mock_random.getstate(), random.getstate()
    mock_random.seed(f"{key} {account} {region}")
    random.seed(f"{key} {account} {region}")
    yield
    mock_random.setstate(kept[0])
    random.setstate(kept[1])


def start(load: Callable[[str], None] = lambda _: None, creating: Any = seeded) -> set[str]:
    """moto in this process, behind the hooks; returns the set that collects the services touched."""
    touched: set[str] = set()
    backends.install(touched.add, load, creating)
    from moto import mock_aws

    mock_aws(
        config={
            "lambda": {"use_docker": False},
            "batch": {"use_docker": False},
            "iam": {"load_aws_managed_policies": False},
        }
    ).start()
    return touched


def client(name: str, **options: Any) -> Any:
    import boto3

    return boto3.client(name, region_name=options.pop("region_name", world.REGION), **options)


class Part(io.BytesIO):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(self.getvalue())
        super().close()


def save(source: MotoSource, folder: Path, services: Any) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Dump `services` into `folder`: (links, failures by service)."""
    links: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    with source.cut():
        for service in sorted(services):
            try:
                links[service] = sorted(
                    source.dump(service, lambda part, service=service: Part(folder / service / part))
                )
            except Exception as error:
                failed[service] = f"{type(error).__name__}: {error}"
    return links, failed


def load(source: MotoSource, folder: Path) -> tuple[list[Any], dict[str, str]]:
    """Load every service saved in `folder`: (dangling references, failures by service)."""
    failed: dict[str, str] = {}
    with source.loading() as loading:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                try:
                    source.load(path.name, {part.name: part.read_bytes() for part in path.iterdir()})
                except Exception as error:
                    failed[path.name] = f"{type(error).__name__}: {error}"
        return loading.dangling(), failed


def answer(reads: list[Any], client: Any = client) -> list[str]:
    """The replies to `reads` as text, errors included; each under the same clock and seed, for some of them draw."""
    import time_machine
    from moto.moto_api._internal import mock_random

    answers = []
    with time_machine.travel(LATER, tick=False):
        for number, read in enumerate(reads):
            mock_random.seed(number)
            random.seed(number)
            answers.append(json.dumps(_reply(client, *read), default=_plain, sort_keys=True))
    return answers


def _reply(client: Any, name: str, method: str, parameters: dict[str, Any]) -> Any:
    try:
        reply = getattr(client(name), method)(**parameters)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return {key: value for key, value in reply.items() if key not in STAMPS}


def _plain(value: Any) -> Any:
    return value.read().hex() if hasattr(value, "read") else value.hex() if isinstance(value, bytes) else str(value)


def populate(folder: Path) -> None:
    touched = start()
    reads: list[Any] = []
    for service, recipe in world.RECIPES.items():
        reads += _made(service, recipe)
    reads += [read for name in sorted({read[0] for read in reads}) for read in world.sweep(client, name)]
    for _ in range(3):
        answer(reads)  # life cycles advance on read: let them come to rest
    answers = answer(reads)
    source = MotoSource()
    links, failed = save(source, folder, touched)
    (folder / "reads.json").write_text(
        json.dumps(
            {"reads": reads, "answers": answers, "links": links, "failed": failed},
            default=lambda b: {"bytes": b.hex()},
        )
    )


def _made(service: str, recipe: Any) -> list[Any]:
    try:
        return list(recipe(client))
    except Exception as error:
        raise RuntimeError(f"the recipe of {service} failed") from error


def restore(folder: Path) -> None:
    start()
    source = MotoSource()
    dangling, failed = load(source, folder)
    saved = json.loads(
        (folder / "reads.json").read_text(), object_hook=lambda o: bytes.fromhex(o["bytes"]) if "bytes" in o else o
    )
    (folder / "reads-after.json").write_text(
        json.dumps({"answers": answer(saved["reads"]), "dangling": dangling, "failed": failed})
    )


# --- half before, half after -----------------------------------------------------------------------------------------


class Player:
    """Makes calls under the controls that commands run under, each with a clock and a seed of its own number."""

    def __init__(self) -> None:
        from holdfast.daemon.services.determinism import Determinism

        self.determinism = Determinism(CREATED_US)
        self.determinism.install()
        self.touched = start(creating=self.determinism.aside)
        self.answers: flood.Answers = {}
        self.tapes: dict[str, list[str]] = {}

    def call(self, number: int, name: str, method: str, parameters: dict[str, Any]) -> str:
        """Make one call; its answer as text, and kept under its number."""
        made = client(name)
        tape = self.tapes.get(str(number))
        recorded = tuple(bytes.fromhex(der) for der in tape) if tape is not None else None
        with self.determinism.command(CREATED_US + number * 1_000_000, number, recorded) as used:
            answer = _reply(lambda _: made, name, method, flood.resolve(parameters, self.answers))
            text = json.dumps(answer, default=_plain, sort_keys=True)
        self.tapes[str(number)] = [der.hex() for der in used.recorded]
        self.answers[number] = json.loads(text)
        return text

    def go_on(self, calls: list[Any], second: list[int], reads: list[Any]) -> list[str]:
        """What follows the save: the second half of the calls, then every read."""
        done = [self.call(number, *calls[number]) for number in second]
        return done + [self.call(len(calls) + number, *read) for number, read in enumerate(reads)]


def flood_and_save(folder: Path) -> None:
    player = Player()
    recorded = json.loads(flood.CALLS.read_text())
    calls, reads = recorded["calls"], recorded["reads"]
    first, second = flood.halves(calls)
    for number, recipe in enumerate(world.RECIPES.values()):
        with player.determinism.command(CREATED_US, 10_000 + number):
            recipe(client)
    for number in first:
        player.call(number, *calls[number])
    for number, read in enumerate(reads):  # services that can only be read have backends too
        player.call(20_000 + number, *read)
    links, failed = save(MotoSource(), folder, player.touched)
    first_answers = dict(player.answers)
    answers = player.go_on(calls, second, reads)
    what = [calls[number] for number in second] + reads
    (folder / "reads.json").write_text(
        json.dumps(
            {
                "reads": what,
                "answers": answers,
                "links": links,
                "failed": failed,
                "first": first_answers,
                "tapes": player.tapes,
            }
        )
    )


def restore_and_go_on(folder: Path) -> None:
    player = Player()
    saved = json.loads((folder / "reads.json").read_text())
    source = MotoSource()
    with player.determinism.aside("load"):
        dangling, failed = load(source, folder)
    player.answers = {int(number): answer for number, answer in saved["first"].items()}
    player.tapes = saved["tapes"]
    recorded = json.loads(flood.CALLS.read_text())
    answers = player.go_on(recorded["calls"], flood.halves(recorded["calls"])[1], recorded["reads"])
    (folder / "reads-after.json").write_text(json.dumps({"answers": answers, "dangling": dangling, "failed": failed}))


ACTS = {"populate": populate, "restore": restore, "flood": flood_and_save, "go-on": restore_and_go_on}

if __name__ == "__main__":
    ACTS[sys.argv[1]](Path(sys.argv[2]))
