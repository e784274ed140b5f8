"""What goes in comes out: the awkward things any service may hold, and the identities between them."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import io
import ipaddress
import queue
import re
import threading
import time
import types
import uuid
import weakref
import zoneinfo
from pathlib import PurePosixPath
from typing import Any

import pytest
from snapshot_rig import Item

from holdfast.snapshot import GENERIC, AllowList, Codec, NotAllowed, NotLoadable, NotPicklable, Use
from holdfast.snapshot.keys import KEYS_MAX, KeyCache

HERE = __name__


class Tally(collections.defaultdict):  # type: ignore[type-arg]
    """A subclass, for which nobody gave a reducer."""


class Store:
    """Holds factories that have no name to be imported by."""

    def __init__(self, unit: int = 1) -> None:
        self.plain = collections.defaultdict(lambda: "plain")
        self.first, self.second = collections.defaultdict(lambda: 1), collections.defaultdict(lambda: 2)
        self.nested = collections.defaultdict(lambda: collections.defaultdict(lambda: unit))
        self.closing = collections.defaultdict(lambda: self)
        self.default = collections.defaultdict(lambda step=unit: step)

    def method(self) -> int:
        return 7

    @classmethod
    def make(cls) -> Any:
        return collections.defaultdict(lambda: cls)


class Point(collections.namedtuple("Point", "x y")):  # noqa: SLOT002, PYI024
    """A tuple whose content lives in its arguments."""


class Colour(types.SimpleNamespace):
    """A subclass of a builtin with a dict."""


class Text(str):  # noqa: SLOT000
    """A string with attributes."""


class Slotted:
    __slots__ = ("a", "b")


def listed(value: int) -> int:
    return value + 1


def keep(item: Any) -> Any:
    """A function whose closure keeps something."""
    return lambda: item


STORE = "Store.__init__.<locals>.<lambda>"
ALLOWED = AllowList.read(GENERIC) | AllowList(
    {
        (HERE, "Store"): Use.NEW,
        (HERE, STORE): Use.CODE,
        (HERE, f"{STORE}.<locals>.<lambda>"): Use.CODE,
        (HERE, "Store.method"): Use.CODE,
        (HERE, "Point"): Use.NEW,
        (HERE, "Colour"): Use.NEW,
        (HERE, "Text"): Use.NEW,
        (HERE, "Slotted"): Use.NEW,
        (HERE, "listed"): Use.VALUE,
        (HERE, "keep.<locals>.<lambda>"): Use.CODE,
        (HERE, ""): Use.MODULE,
        ("snapshot_rig", "Item"): Use.VALUE,
    }
)
CODEC = Codec(ALLOWED)


def through(state: Any, **options: Any) -> Any:
    """Written and read back."""
    file = io.BytesIO()
    CODEC.dump("service-under-test", state, file, **options)
    return CODEC.load("service-under-test", file.getvalue())


@pytest.mark.parametrize(
    "value",
    [
        None, True, 2**100, 1.5, 1j, "text", b"bytes", bytearray(b"array"), (1, (2,)), [1], {1: 2}, {1}, frozenset({1}), range(3),
        slice(1, 2), Ellipsis, NotImplemented, dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), dt.date(2026, 1, 2), dt.timedelta(1),
        dt.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Zurich")), decimal.Decimal("1.50"), uuid.UUID(int=5),
        ipaddress.ip_address("10.0.0.1"), ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"),
        PurePosixPath("/a/b"), collections.OrderedDict(b=1, a=2), collections.Counter("aab"), collections.deque([1, 2], 5),
        types.SimpleNamespace(a=1), re.compile("a+b", re.IGNORECASE), re.compile(b"a"), time.gmtime(0), Point(1, 2), Text("t"),
        Colour(red=1), Item("i", a=[1]),
    ],
    ids=lambda value: type(value).__qualname__,
)  # fmt: skip
def test_plain_values_come_back_equal(value: Any) -> None:
    """Of the same type, and equal."""
    back = through([value])[0]
    assert type(back) is type(value)
    assert back == value


def test_slots_and_attributes_of_builtins_come_back() -> None:
    """A slot without a value stays without; a string keeps its attributes."""
    one, text = Slotted(), Text("t")
    one.a = [1]
    text.note = "n"  # type: ignore[attr-defined]
    back, words = through((one, text))
    assert back.a == [1]
    assert not hasattr(back, "b")
    assert words.note == "n"


def test_locks_come_back_free_and_shared_where_they_were() -> None:
    """Held or free when saved: nobody holds them afterwards, and a condition still has the lock it was given."""
    lock, rlock = threading.Lock(), threading.RLock()
    condition, event, semaphore = threading.Condition(rlock), threading.Event(), threading.Semaphore(3)
    event.set()
    lock.acquire()
    rlock.acquire()
    state = through(
        {
            "lock": lock,
            "rlock": rlock,
            "condition": condition,
            "event": event,
            "other": threading.Event(),
            "n": semaphore,
        }
    )
    rlock.release()
    assert state["lock"].acquire(blocking=False)
    with state["condition"]:
        state["condition"].notify_all()
    assert vars(state["condition"])["_lock"] is state["rlock"]
    assert state["event"].is_set()
    assert not state["other"].is_set()
    assert [state["n"].acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


def test_queues_keep_their_items() -> None:
    """In order, and usable; the one that was saved is left as it was."""
    simple: queue.SimpleQueue[int] = queue.SimpleQueue()
    whole: queue.Queue[int] = queue.Queue()
    for number in range(3):
        simple.put(number)
        whole.put(number)
    one, other = through((simple, whole))
    for each in (one, other, simple, whole):
        assert [each.get_nowait() for _ in range(3)] == [0, 1, 2]
        assert each.empty()


def test_weak_things_point_to_the_same_objects() -> None:
    """References, proxies and collections lead to what the state holds, and do not keep it alive."""
    item, gone = Store(), Item("gone")
    dead = weakref.ref(gone)
    state = {
        "ref": weakref.ref(item), "dead": dead, "proxy": weakref.proxy(item), "item": item,
        "values": weakref.WeakValueDictionary(a=item), "keys": weakref.WeakKeyDictionary({item: 1}),
        "set": weakref.WeakSet([item]),
    }  # fmt: skip
    del gone
    back = through(state)
    found = back["item"]
    assert back["ref"]() is found
    assert back["dead"]() is None
    assert back["proxy"].method() == 7
    assert back["values"]["a"] is found
    assert back["keys"][found] == 1
    assert found in back["set"]
    del back["item"], found
    import gc

    gc.collect()
    assert back["ref"]() is None
    assert len(back["values"]) == len(back["set"]) == 0


def test_a_weak_reference_that_is_met_before_its_object_is_one() -> None:
    """Whichever comes first, reference or object, and in a circle."""
    store = Store()
    store.me = weakref.ref(store)  # type: ignore[attr-defined]
    back = through([store.me, store])  # type: ignore[attr-defined]
    assert back[0]() is back[1]
    assert back[1].me() is back[1]


def test_lambdas_come_back_as_the_factories_they_were() -> None:
    """By path, the right one of several, with their closures, defaults and the objects these hold."""
    back = through(Store(5))
    assert back.plain["x"] == "plain"
    assert (back.first["x"], back.second["x"]) == (1, 2)
    assert back.nested["x"]["y"] == 5
    assert back.closing["x"] is back
    assert back.default["x"] == 5
    assert vars(through(back)).keys() == vars(back).keys()


def test_named_factories_come_back() -> None:
    """Builtin types, listed functions, none at all."""
    made = {"list": collections.defaultdict(list, a=[1]), "none": collections.defaultdict(None, a=1)}
    back = through(made)
    assert back == made
    assert back["list"].default_factory is list
    assert back["none"].default_factory is None


def test_an_unlisted_factory_is_refused_when_it_is_written() -> None:
    """A lambda is named by its path, so that the list can be completed."""
    with pytest.raises(NotAllowed) as raised:
        through(collections.defaultdict(lambda: 1))
    assert raised.value.qualname == "test_an_unlisted_factory_is_refused_when_it_is_written.<locals>.<lambda>"
    with pytest.raises(NotAllowed):
        through(Store.make())


def test_a_lambda_that_moved_is_refused_and_not_guessed() -> None:
    """Where one of two lambdas was, only one is: nobody can tell which it is."""
    file = io.BytesIO()
    CODEC.dump("service-under-test", Store(), file)
    fewer = types.FunctionType((lambda self, unit=1: None).__code__, globals(), "__init__", (1,))
    fewer.__qualname__ = "Store.__init__"
    original = Store.__init__
    Store.__init__ = fewer  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(NotLoadable, match="no longer there"):
            CODEC.load("service-under-test", file.getvalue())
    finally:
        Store.__init__ = original  # type: ignore[method-assign]


def test_functions_and_classes_as_values_are_written_on_request() -> None:
    """With `functions`: by name where they have one, by path where not, checked against the list."""
    state = {"named": listed, "class": Item, "closure": keep([1, 2])}
    back = through(state, functions=True)
    assert back["named"] is listed
    assert back["class"] is Item
    assert back["closure"]() == [1, 2]
    with pytest.raises(NotAllowed):
        through({"class": Store}, functions=True)


def test_bound_methods_and_modules_come_back_if_they_are_listed() -> None:
    """A method with the object it is bound to; a module by its name."""
    import sys

    store = Store()
    back, same, module = through((store.method, store, sys.modules[HERE]))
    assert back() == 7
    assert back.__self__ is same
    assert module is sys.modules[HERE]
    with pytest.raises(NotAllowed):
        through(store.__init__)  # type: ignore[misc]
    with pytest.raises(NotAllowed):
        through(io)


def test_generators_are_written_only_when_they_are_exhausted() -> None:
    """What is left of one under way cannot be saved: it is refused by name, never lost in silence."""
    done = (n for n in ())
    list(done)
    assert list(through(done)) == []
    with pytest.raises(NotPicklable, match="generator that is under way"):
        through(n for n in range(3))


def test_keys_and_certificates_come_back_from_der() -> None:
    """Private and public keys of each kind, certificates and requests."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    signer = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(signer.public_key()).serial_number(1)
    )
    certificate = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(1)).sign(signer, hashes.SHA256())
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(signer, hashes.SHA256())
    keys = [signer, rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()]
    back_keys, back_public, back_certificate, back_request = through(
        (keys, [key.public_key() for key in keys], certificate, request)
    )
    for key, back, public in zip(keys, back_keys, back_public, strict=True):
        assert back.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) == key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, plain
        )
        assert public == key.public_key()
    assert back_certificate == certificate
    assert back_request == request


def test_the_key_cache_forgets_the_oldest() -> None:
    """It never holds more than KEYS_MAX keys, and encodes again what it forgot."""
    cache = KeyCache()
    keys = [object() for _ in range(KEYS_MAX + 1)]
    for number, key in enumerate(keys):
        cache.remember(key, b"%d" % number)
    assert cache.der(keys[-1], lambda _: b"again") == b"%d" % KEYS_MAX
    assert cache.der(keys[0], lambda _: b"again") == b"again"


def test_a_subclass_without_a_reducer_is_refused_by_name() -> None:
    """The table is of exact types: what its owner did not list is not written by its parent's rule."""
    with pytest.raises(NotAllowed, match="Tally"):
        through(Tally(list))


def test_an_owners_reducer_comes_first() -> None:
    """The embedding program may write its classes as it likes; it is asked once for each class."""
    asked: list[type] = []

    def reducer_for(service: str, cls: type) -> Any:
        asked.append(cls)
        return (lambda item: (listed, (len(vars(item)),))) if cls is Slotted.__class__ or cls is Store else None

    codec = Codec(ALLOWED, reducer_for)
    file = io.BytesIO()
    codec.dump("service-under-test", [Store() for _ in range(3)], file)
    assert codec.load("service-under-test", file.getvalue()) == [len(vars(Store())) + 1] * 3
    assert asked.count(Store) == 1


def test_equal_state_gives_equal_bytes() -> None:
    """Nothing of time, address or process gets into a pickle: images of equal state have one name."""
    one, other = io.BytesIO(), io.BytesIO()
    for file in (one, other):
        CODEC.dump("service-under-test", {"a": Item("x", n=[1, 2]), "t": dt.datetime(2026, 1, 1)}, file)  # noqa: DTZ001
    assert one.getvalue() == other.getvalue()


def test_the_collector_runs_again_after_a_load() -> None:
    """It is paused while loading and never left off, also when loading fails."""
    import gc

    assert gc.isenabled()
    through([1])
    with pytest.raises(NotLoadable):
        CODEC.load("service-under-test", b"")
    assert gc.isenabled()
