"""What cannot be saved is named; what must not be saved or filled is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest

from holdfast.daemon.services.moto import backends
from holdfast.daemon.services.moto.links import CrossServiceError, fill, links, listed_class, shared
from holdfast.daemon.services.moto.pickling import Session, UnpicklableState, read
from holdfast.daemon.services.moto.state import MotoSource
from holdfast.snapshot.errors import NotAllowed

ACCOUNT = "123456789012"
KEY = "moto.sqs.models:sqs_backends"


@pytest.fixture
def sqs(seen: Any) -> Any:
    """SQS's backend with one queue."""
    made = backends.backend_dict(KEY)[ACCOUNT]["us-east-1"]
    made.create_queue("jobs", {})
    return made


def dump(service: str) -> bytes:
    file = io.BytesIO()
    Session({}, {}).write(service, file)
    return file.getvalue()


def test_what_cannot_be_saved_is_named_with_its_path(sqs: Any) -> None:
    """The error says service, backend, attribute and type."""
    sqs.queues["jobs"].helper = {"inner": [1, (number for number in range(3))]}
    with pytest.raises(UnpicklableState) as caught:
        dump("sqs")
    assert caught.value.service == "sqs"
    assert "['queues']['jobs'].helper['inner'][1]" in str(caught.value)
    assert "generator" in str(caught.value)


def test_a_class_held_as_a_value_is_refused_when_it_is_written(sqs: Any) -> None:
    """No image gets a model's class in hand, so none is written that would be refused when it is needed."""
    sqs.queues["jobs"].kind = type(sqs.queues["jobs"])
    with pytest.raises(UnpicklableState, match="Queue is held as a value"):
        dump("sqs")


def test_an_object_of_no_listed_class_is_refused_when_it_is_written(sqs: Any) -> None:
    """A class that is not on the allow-list is found before the journal lets go of what made it."""

    class Unknown:
        pass

    sqs.queues["jobs"].unknown = Unknown()
    with pytest.raises(UnpicklableState, match="Unknown is not on the allow-list"):
        dump("sqs")


def test_a_leaf_of_another_service_is_no_silent_copy(sqs: Any) -> None:
    """Two services that hold one message would each save a message of their own."""
    sqs.queues["jobs"].add_message(message := _message())
    topics = backends.backend_dict("moto.sns.models:sns_backends")[ACCOUNT]["us-east-1"]
    topics.last_message = message
    with pytest.raises(UnpicklableState, match="holds a Message of sqs"):
        dump("sns")


def _message() -> Any:
    from moto.sqs.models import Message

    return Message("id", "body", {})


def test_a_service_that_waits_for_its_image_is_not_saved_empty(seen: Any) -> None:
    """A shell that another service's image made stands for state that is still in an image: dumping it would lose that."""
    backends.shell(backends.Place(KEY, ACCOUNT, "us-east-1"))
    with pytest.raises(UnpicklableState, match="has not been loaded"):
        dump("sqs")


def test_a_service_that_waits_for_its_image_can_be_reset(seen: Any) -> None:
    """A reset needs no load first: the shell becomes a backend that was just made."""
    shell = backends.shell(backends.Place(KEY, ACCOUNT, "us-east-1"))
    MotoSource().reset("sqs")
    assert backends.backend_dict(KEY)[ACCOUNT]["us-east-1"] is shell
    assert shell.queues == {}
    assert seen.loaded == []


def test_a_long_chain_is_saved(sqs: Any) -> None:
    """Objects that hold one another in a line of a thousand are no end of the stack."""
    chain: list[Any] = []
    for _ in range(1000):
        chain = [sqs.queues["jobs"], {"next": chain}]
    sqs.queues["jobs"].chain = chain
    assert dump("sqs")


def test_a_full_disk_is_not_blamed_on_the_service(sqs: Any) -> None:
    """What the file raises comes out as it is, without a search for what could not be pickled."""

    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError(28, "No space left on device")

    sqs.queues["jobs"].ballast = b"x" * 200_000
    with pytest.raises(Exception, match="No space left") as caught:
        Session({}, {}).write("sqs", Full())
    assert not isinstance(caught.value, UnpicklableState)


def test_the_same_state_gives_the_same_bytes(sqs: Any) -> None:
    """An unchanged service has one image, not one for every checkpoint."""
    assert dump("sqs") == dump("sqs")


def test_a_reload_refills_what_others_hold(sqs: Any) -> None:
    """Loading an older image over living state keeps the objects that other services hold, with the image's content."""
    queue = sqs.queues["jobs"]
    before = dump("sqs")
    queue.visibility_timeout = 77
    sqs.create_queue("later", {})
    MotoSource().load("sqs", {"backend": before})
    again = backends.backend_dict(KEY)[ACCOUNT]["us-east-1"]
    assert again is sqs
    assert list(sqs.queues) == ["jobs"]
    assert sqs.queues["jobs"] is queue
    assert queue.visibility_timeout == 30


def test_shared_objects_are_made_only_while_loading() -> None:
    """An image cannot be read past `loading()`."""
    with pytest.raises(CrossServiceError):
        shared("sqs", 1, "moto.sqs.models", "Queue")


def test_an_image_cannot_take_one_thing_for_another(seen: Any) -> None:
    """A reference names the class and its owner, and both must be what is there."""
    with MotoSource().loading():
        shared("sqs", 1, "moto.sqs.models", "Queue")
        with pytest.raises(CrossServiceError, match="Queue where a Topic"):
            links.loading.shell("sqs", 1, listed_class("moto.sns.models", "Topic"))  # type: ignore[union-attr]
        with pytest.raises(CrossServiceError, match="not a class of sns"):
            shared("sns", 2, "moto.sqs.models", "Queue")
        with pytest.raises(NotAllowed):
            shared("sqs", 3, "subprocess", "Popen")


def test_only_objects_of_listed_classes_are_filled() -> None:
    """What an image has in hand beside its own objects cannot be changed."""

    class Precious:
        secret = 1

    with pytest.raises(NotAllowed):
        fill(Precious(), ({"secret": 2}, None, ""))
    with pytest.raises(NotAllowed):
        fill(Precious, ((None, {"secret": 2}), None, ""))


def test_an_image_of_nonsense_is_refused(seen: Any) -> None:
    """Bytes that are no pickle of ours raise, and the service is not taken for loaded."""
    with pytest.raises(Exception, match="sqs"):
        read("sqs", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(Exception, match="sqs"):
        MotoSource().load("sqs", {"backend": b""})
    assert not backends.is_loaded("sqs")


def test_what_is_set_through_motos_own_interface_is_saved(seen: Any) -> None:
    """Custom ids and state transitions lie in no backend: they are the service moto_api."""
    from moto.moto_api import state_manager
    from moto.utilities.id_generator import moto_id_manager

    state_manager.set_transition("dax::cluster", {"progression": "immediate"})
    moto_id_manager._custom_ids["a.b"] = "custom"
    parts = {}

    class Part(io.BytesIO):
        def close(self) -> None:
            parts["backend" if not parts else "store"] = self.getvalue()
            super().close()

    source = MotoSource()
    source.dump("moto_api", lambda _: Part())
    source.reset("moto_api")
    assert state_manager._transitions == {}
    source.load("moto_api", parts)
    assert state_manager._transitions == {"dax::cluster": {"progression": "immediate"}}
    assert moto_id_manager._custom_ids == {"a.b": "custom"}
    source.reset("moto_api")
