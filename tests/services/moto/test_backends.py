"""The gate in front of moto's state: what is reached is told, what is missing loaded first, what is new made in context."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.daemon.services.moto import backends

ACCOUNT = "123456789012"


@pytest.fixture
def queues(seen: Any) -> Any:
    from moto.sqs.models import sqs_backends

    return sqs_backends


def test_a_service_is_named_by_its_folder_and_variants_by_the_service_they_serve() -> None:
    """Two dictionaries are called "lambda" by moto; both are the service awslambda, under keys of their own."""
    assert backends.keys_of("awslambda") == (
        "moto.awslambda.models:lambda_backends",
        "moto.awslambda_simple.models:lambda_simple_backends",
    )
    assert backends.service_of_key("moto.dynamodb_v20111205.models:dynamodb_backends") == "dynamodb"
    assert "stepfunctions" in backends.services()
    assert "core" not in backends.services()


def test_an_image_can_name_no_module_outside_the_inventory() -> None:
    """A key that is not in the inventory is refused before anything is imported."""
    with pytest.raises(KeyError):
        backends.backend_dict("moto.server:main")
    with pytest.raises(KeyError):
        backends.backend_dict("os:environ")


def test_every_access_tells_its_service(seen: Any, queues: Any) -> None:
    """Item access, iteration, views, get, membership and length are all seen, on both levels."""
    region = queues[ACCOUNT]
    for access in (
        lambda: queues[ACCOUNT],
        lambda: list(queues),
        queues.items,
        queues.keys,
        queues.values,
        lambda: queues.get(ACCOUNT),
        lambda: ACCOUNT in queues,
        lambda: len(queues),
        lambda: region["us-east-1"],
        lambda: list(region),
        region.items,
        region.keys,
        region.values,
        lambda: region.get("us-east-1"),
        lambda: "us-east-1" in region,
        lambda: len(region),
        lambda: list(queues.iter_backends()),
    ):
        seen.touched.clear()
        access()
        assert "sqs" in seen.touched


def test_making_a_shell_is_no_access(seen: Any, queues: Any) -> None:
    """A reference from one image to another service's backend loads nothing by itself: the loader follows the links."""
    shell = backends.shell(backends.Place("moto.sqs.models:sqs_backends", ACCOUNT, "us-east-1"))
    assert (seen.touched, seen.loaded) == ([], [])
    assert queues[ACCOUNT]["us-east-1"] is shell
    assert seen.loaded == ["sqs"]


def test_looking_in_order_to_save_is_no_access(seen: Any, queues: Any) -> None:
    """What saving reads is not told as touched: a checkpoint would make everything dirty."""
    made = queues[ACCOUNT]["us-east-1"]
    seen.touched.clear()
    assert list(backends.quiet_items(queues)) == [(ACCOUNT, "us-east-1", made)]
    assert seen.touched == []


def test_the_first_access_loads_and_no_later_one(seen: Any, queues: Any) -> None:
    """The image is loaded before the first access sees the dictionary, once."""
    queues.get(ACCOUNT)
    queues[ACCOUNT]["us-east-1"]
    assert seen.loaded == ["sqs"]
    backends.mark_unloaded("sqs")
    len(queues)
    assert seen.loaded == ["sqs", "sqs"]


def test_a_service_that_cannot_be_loaded_is_not_taken_for_empty(seen: Any, queues: Any) -> None:
    """A load that fails fails the access, and the next one again."""
    seen.fails = True
    for _ in range(2):
        with pytest.raises(OSError, match="cannot be read"):
            queues[ACCOUNT]
    assert seen.loaded == ["sqs", "sqs"]
    assert not backends.is_loaded("sqs")


def test_a_new_backend_is_made_in_the_callers_context(seen: Any, queues: Any) -> None:
    """What is made on first access is made inside `creating`: the account's part, then the backend at its place; once."""
    first = queues[ACCOUNT]["eu-west-1"]
    assert queues[ACCOUNT]["eu-west-1"] is first
    assert seen.created == [("sqs", ACCOUNT, ""), ("moto.sqs.models:sqs_backends", ACCOUNT, "eu-west-1")]


def test_the_global_region_is_the_partitions_backend(seen: Any) -> None:
    """moto resolves "global" to "aws"; the hooks do as well."""
    from moto.iam.models import iam_backends

    assert iam_backends[ACCOUNT]["global"] is iam_backends[ACCOUNT]["aws"]


def test_an_unknown_region_is_refused_as_moto_refuses_it(seen: Any, queues: Any) -> None:
    """No backend is made for a region that does not exist."""
    with pytest.raises(KeyError):
        queues[ACCOUNT]["nowhere-1"]
    assert seen.created == [("sqs", ACCOUNT, "")]


def test_no_object_is_kept_for_motos_dashboard(seen: Any, queues: Any) -> None:
    """Models are not collected in lists that never shrink, and are made as before."""
    queues[ACCOUNT]["us-east-1"].create_queue("q", {})
    (queue,) = queues[ACCOUNT]["us-east-1"].queues.values()
    assert queue.name == "q"
    assert not any(kept is queue for kept in type(queue).instances_tracked)


def test_motos_own_methods_come_back(seen: Any, queues: Any) -> None:
    """After `uninstall` nothing is told any more."""
    backends.uninstall()
    queues[ACCOUNT]["us-east-1"]
    assert seen.touched == []
    assert seen.created == []


def test_moto_is_still_written_as_the_hooks_assume() -> None:
    """The two methods that are replaced rather than wrapped are those that were read; a new moto must be read again."""
    import hashlib
    import inspect

    from moto.core.base_backend import AccountSpecificBackend, BackendDict

    digests = {
        cls.__name__: hashlib.sha256(inspect.getsource(cls.__getitem__).encode()).hexdigest()[:16]
        for cls in (BackendDict, AccountSpecificBackend)
    }
    made = inspect.getsource(BackendDict._create_account_specific_backend)
    digests["made"] = hashlib.sha256(made.encode()).hexdigest()[:16]
    assert digests == {
        "BackendDict": "16766ef9c002fbc6",
        "AccountSpecificBackend": "b10167294fc00376",
        "made": "efcc193ee3ca3337",
    }
