# ruff: noqa: E501  # tables
"""Images that want to run something. None does, whatever opcode it uses and whether or not its digest is right."""

from __future__ import annotations

import builtins
import collections
import copyreg
import io
import os
import pickle
import struct
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest
from snapshot_rig import Item  # noqa: F401  # a name that leads elsewhere, see GADGETS

from holdfast.snapshot import GENERIC, AllowList, Codec, Use
from holdfast.snapshot.errors import CodecError, NotAllowed

FIRED: list[str] = []


def fire(*arguments: Any, **named: Any) -> str:
    """What an attack wants to reach. It is on no allow-list."""
    FIRED.append(f"fire{arguments}")
    return "fired"


class Loud:
    """A listed class (NEW) that tells when its own code runs."""

    def __new__(cls, *arguments: Any) -> Self:
        FIRED.append("Loud.__new__")
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        FIRED.append("Loud.__init__")

    def method(self) -> None:
        FIRED.append("Loud.method")

    class Inner:
        """Not listed, although it lies in a class that is."""

        def __init__(self) -> None:
            FIRED.append("Inner.__init__")


class Plain:
    """A listed class (NEW) without any code."""


def listed_value() -> None:
    """On the list as VALUE: may be held."""


alias_of_system = os.system
"""A name in a trusted module that leads elsewhere; the list below names it, by mistake as it were."""

HERE = __name__
ALLOWED = AllowList.read(GENERIC) | AllowList(
    {
        (HERE, "Loud"): Use.NEW,
        (HERE, "Plain"): Use.NEW,
        (HERE, "listed_value"): Use.VALUE,
        (HERE, "os"): Use.CALL,
        (HERE, "os.getpid"): Use.CALL,
        (HERE, "Item"): Use.NEW,
        (HERE, "Loud.method"): Use.CODE,
    }
)
CODEC = Codec(ALLOWED)

# --- what the process does while an image is loaded ---------------------------------------------------------------------

WATCHED = (
    "code.__new__",
    "compile",
    "exec",
    "function.__new__",
    "marshal.loads",
    "object.__setattr__",
    "open",
    "os.",
    "pickle.find_class",
    "shutil.",
    "socket.",
    "subprocess.",
    "sqlite3.",
    "ctypes.",
    "urllib.",
    "webbrowser.",
    "import",
)
_watching: list[bool] = []
_seen: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event.startswith(WATCHED):
        if event == "import" and arguments[0] in sys.modules:
            return
        _seen.append(f"{event}{arguments!r:.120}")


sys.addaudithook(_hook)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fail if anything of ours fired or the interpreter told of a call, an import, a file or a process."""
    FIRED.clear()
    _seen.clear()
    _watching.append(True)
    try:
        yield
    finally:
        _watching.clear()
    assert FIRED == []
    assert _seen == []


# --- an assembler ------------------------------------------------------------------------------------------------------

Op = bytes
MARK, STOP, REDUCE, BUILD, NEWOBJ, NEWOBJ_EX, OBJ, TUPLE, EMPTY_TUPLE = (
    b"(",
    b".",
    b"R",
    b"b",
    b"\x81",
    b"\x92",
    b"o",
    b"t",
    b")",
)
EMPTY_DICT, SETITEM, NONE, POP, APPENDS, EMPTY_LIST, TUPLE1, TUPLE2 = (
    b"}",
    b"s",
    b"N",
    b"0",
    b"e",
    b"]",
    b"\x85",
    b"\x86",
)


def text(value: str) -> Op:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def raw(value: bytes) -> Op:
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> Op:
    return b"J" + struct.pack("<i", value)


def tuple_of(*items: Op) -> Op:
    return MARK + b"".join(items) + TUPLE


def stack_global(module: str, name: str) -> Op:
    return text(module) + text(name) + b"\x93"


def old_global(module: str, name: str) -> Op:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def image(*ops: Op, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + b"".join(ops) + STOP


def value(item: Any) -> Op:
    """A constant's opcodes, without the frame around them."""
    return pickle.dumps(item, 2)[2:-1]


# How a global can be made use of. Each takes the opcodes of a global by both of its spellings.
USES: dict[str, Callable[[str, str], bytes]] = {
    "REDUCE": lambda m, n: image(stack_global(m, n), tuple_of(text("touch hostile")), REDUCE),
    "GLOBAL": lambda m, n: image(old_global(m, n), tuple_of(text("touch hostile")), REDUCE, protocol=2),
    "INST": lambda m, n: MARK + text("touch hostile") + b"i" + m.encode() + b"\n" + n.encode() + b"\n" + STOP,
    "OBJ": lambda m, n: MARK + old_global(m, n) + text("touch hostile") + OBJ + STOP,
    "NEWOBJ": lambda m, n: image(stack_global(m, n), tuple_of(text("touch hostile")), NEWOBJ),
    "NEWOBJ_EX": lambda m, n: image(stack_global(m, n), EMPTY_TUPLE, EMPTY_DICT, NEWOBJ_EX),
    "BUILD": lambda m, n: image(
        stack_global(m, n), tuple_of(NONE, EMPTY_DICT + text("x") + text("y") + SETITEM), BUILD
    ),
    "held": lambda m, n: image(stack_global(m, n)),
}

# Globals that have been used against unpicklers, and ones that scanners did not know.
GADGETS: list[tuple[str, str]] = [
    ("os", "system"), ("os", "popen"), ("os", "execv"), ("os", "_exit"), ("os", "getpid"), ("posix", "system"), ("posix", "fork"),
    ("nt", "system"), ("subprocess", "Popen"), ("subprocess", "check_output"), ("_posixsubprocess", "fork_exec"), ("pty", "spawn"),
    ("commands", "getoutput"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "compile"), ("builtins", "open"),
    ("builtins", "getattr"), ("builtins", "setattr"), ("builtins", "__import__"), ("builtins", "type"), ("builtins", "object"),
    ("builtins", "map"), ("builtins", "filter"), ("builtins", "iter"), ("builtins", "vars"), ("builtins", "globals"),
    ("builtins", "breakpoint"), ("builtins", "input"), ("builtins", "memoryview"), ("builtins", "classmethod"),
    ("builtins", "property"), ("builtins", "super"), ("__builtin__", "eval"), ("__builtin__", "apply"), ("io", "open"),
    ("_io", "FileIO"), ("_io", "open"), ("operator", "methodcaller"), ("operator", "attrgetter"), ("operator", "itemgetter"),
    ("_operator", "call"), ("functools", "partial"), ("_functools", "partial"), ("functools", "reduce"), ("types", "FunctionType"),
    ("types", "CodeType"), ("types", "MethodType"), ("types", "ModuleType"), ("types", "LambdaType"), ("builtins", "function"),
    ("pickle", "loads"), ("pickle", "Unpickler"), ("pickle", "_loads"), ("pickle", "_Unpickler"), ("_pickle", "loads"),
    ("_pickle", "Unpickler"), ("cPickle", "loads"), ("marshal", "loads"), ("shelve", "open"), ("copyreg", "__newobj__"),
    ("copyreg", "_reconstructor"), ("copyreg", "add_extension"), ("copyreg", "constructor"), ("copy_reg", "_reconstructor"),
    ("importlib", "import_module"), ("_frozen_importlib", "__import__"), ("importlib._bootstrap", "_gcd_import"),
    ("pkgutil", "resolve_name"), ("runpy", "run_path"), ("runpy", "_run_code"), ("code", "InteractiveInterpreter"), ("bdb", "Bdb"),
    ("pdb", "run"), ("cProfile", "runctx"), ("profile", "run"), ("timeit", "timeit"), ("trace", "Trace"), ("doctest", "debug_script"),
    ("pydoc", "pipepager"), ("pydoc", "locate"), ("ctypes", "CDLL"), ("ctypes", "PyDLL"), ("_ctypes", "dlopen"),
    ("webbrowser", "open"), ("antigravity", "geohash"), ("shutil", "rmtree"), ("socket", "create_connection"),
    ("http.client", "HTTPConnection"), ("urllib.request", "urlopen"), ("smtplib", "SMTP"), ("imaplib", "IMAP4_stream"),
    ("sqlite3", "connect"), ("ensurepip", "_run_pip"), ("venv", "create"), ("zipimport", "zipimporter"), ("logging.config", "dictConfig"),
    ("asyncio", "create_subprocess_shell"), ("asyncio.unix_events", "_UnixSubprocessTransport"), ("multiprocessing.util", "spawnv_passfds"),
    ("threading", "Thread"), ("signal", "raise_signal"), ("sys", "exit"), ("sys", "modules"), ("sys", "setrecursionlimit"),
    ("gc", "get_objects"), ("inspect", "getattr_static"), ("string", "Formatter"), ("codecs", "decode"), ("_codecs", "encode"),
    ("lib2to3.pgen2.pgen", "ParserGenerator"), ("idlelib.pyshell", "ModifiedInterpreter"), ("distutils.file_util", "write_file"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy", "load"), ("numpy.f2py.crackfortran", "getlincoef"),
    ("numpy.testing._private.utils", "runstring"), ("torch.storage", "_load_from_bytes"), ("torch.serialization", "load"),
    ("joblib", "load"), ("pandas", "read_pickle"), ("dill", "loads"), ("dill._dill", "_create_code"), ("cloudpickle", "loads"),
    ("cloudpickle.cloudpickle", "subimport"), ("cloudpickle.cloudpickle", "_make_function"), ("yaml", "unsafe_load"),
    ("moto.settings", "os.getpid"), ("moto.settings", "os"), ("moto.core", "DEFAULT_ACCOUNT_ID"), ("unittest.mock", "Mock"),
    ("holdfast.snapshot.codec", "pickle.loads"), ("holdfast.snapshot.codec", "Codec"), ("holdfast.snapshot.codec", "gc"),
    ("holdfast.snapshot.fork", "spawn"), ("holdfast.snapshot.reducers", "sys"), ("holdfast.snapshot.reducers", "Restorer"),
    ("holdfast.snapshot.reducers", "Restorer.named"), ("holdfast.snapshot.reducers", "Restorer.__init__"),
    ("holdfast.snapshot.reducers", "Restorer.function.__globals__"), ("holdfast.snapshot.reducers", "resolve"),
    ("holdfast.snapshot.keys", "KEYS"), ("holdfast.snapshot.reducers", "codes_at"), ("holdfast.snapshot.paths", "codes_at"), ("holdfast.snapshot.allowlist", "resolve"),
    ("holdfast.journal.blobs", "BlobStore"), ("holdfast.journal.disk", "LocalDisk"),
    (HERE, "fire"), (HERE, "os"), (HERE, "os.system"), (HERE, "os.getpid"), (HERE, "alias_of_system"), (HERE, "Item"),
    (HERE, "Loud.Inner"), (HERE, "Loud.__init__"), (HERE, "Loud.method"), (HERE, "Loud.__class__"), (HERE, "Loud.__dict__"),
    (HERE, "Loud.__init__.__globals__"), (HERE, "Loud.__mro__"), (HERE, "Plain.__subclasses__"), (HERE, "listed_value.__globals__"),
    ("builtins", "str.__class__"), ("builtins", "dict.__subclasses__"), ("builtins", "int.__class__.__call__"),
    ("collections", "OrderedDict.__class__"), ("collections", "namedtuple"), ("collections", "_sys.modules"),
    ("", "eval"), ("builtins", ""), ("builtins", "."), ("builtins", "eval "), (" builtins", "eval"), (".os", "system"),
    ("os.path", "os.system"), ("__main__", "fire"), ("\u03bfs", "system"), ("os", "syst\u0435m"),
]  # fmt: skip


@pytest.mark.parametrize("use", USES, ids=str)
def test_no_gadget_is_reached_by_any_opcode(use: str) -> None:
    """Each of the globals that attacks are made of, by each opcode that can take one: refused by name, and nothing ran."""
    for module, name in GADGETS:
        try:
            data = USES[use](module, name)
        except UnicodeEncodeError:
            continue
        with nothing_runs(), pytest.raises(CodecError) as raised:
            print("loaded, but should not be:", use, module, name, CODEC.load("service-under-test", data))
        assert raised.value.service == "service-under-test", (use, module, name)
        assert "service-under-test" in str(raised.value)


def test_there_are_well_over_a_hundred_of_them() -> None:
    """The number that issue 4 asks for, and distinct."""
    assert len(set(GADGETS)) == len(GADGETS)
    assert len(GADGETS) * len(USES) > 1000


def test_an_unlisted_global_is_named_by_the_error() -> None:
    """NotAllowed says which service and which global, so that a log line is enough."""
    with pytest.raises(NotAllowed) as raised:
        CODEC.load("sqs", image(stack_global("os", "system")))
    assert (raised.value.service, raised.value.module, raised.value.qualname) == ("sqs", "os", "system")


def test_a_gadget_that_works_without_the_list_is_one() -> None:
    """The canaries can sing: plain pickle runs what this module's images ask for."""
    data = image(stack_global(HERE, "fire"), EMPTY_TUPLE, REDUCE)
    FIRED.clear()
    assert pickle.loads(data) == "fired"
    assert FIRED == ["fire()"]
    with pytest.raises(AssertionError), nothing_runs():
        pickle.loads(data)
    with pytest.raises(AssertionError), nothing_runs():
        pickle.loads(image(stack_global("os", "listdir"), tuple_of(text("/")), REDUCE))


# --- what is listed, used for what it is not listed for ---------------------------------------------------------------

REDUCERS = "holdfast.snapshot.reducers"
KEYS = "holdfast.snapshot.keys"


def call(name: str, *arguments: Op) -> Op:
    return stack_global(REDUCERS, name) + tuple_of(*arguments) + REDUCE


EMPTY_DEFAULT_DICT = call("default_dict")
LOUD = stack_global(HERE, "Loud")
PLAIN = stack_global(HERE, "Plain")
SET_X = EMPTY_DICT + text("x") + number(1) + SETITEM

MISUSES: dict[str, bytes] = {
    "slots state on a class": image(LOUD, tuple_of(NONE, EMPTY_DICT + text("__init__") + number(1) + SETITEM), BUILD),
    "dict state on a class": image(LOUD, SET_X, BUILD),
    "__class__ of a class": image(LOUD, tuple_of(NONE, EMPTY_DICT + text("__class__") + LOUD + SETITEM), BUILD),
    "slots state on a callable": image(
        stack_global(REDUCERS, "lock"), tuple_of(NONE, EMPTY_DICT + text("_function") + LOUD + SETITEM), BUILD
    ),
    "dict state on a callable": image(stack_global(REDUCERS, "lock"), SET_X, BUILD),
    "slots state on a builtin type": image(
        stack_global("collections", "OrderedDict"), tuple_of(NONE, EMPTY_DICT + text("x") + number(1) + SETITEM), BUILD
    ),
    "a callable held": image(stack_global(REDUCERS, "lock")),
    "a class held": image(LOUD),
    "a class held in a list": image(EMPTY_LIST, MARK, LOUD, APPENDS),
    "a class held by an instance": image(PLAIN, EMPTY_TUPLE, NEWOBJ, EMPTY_DICT, text("x"), LOUD, SETITEM, BUILD),
    "a callable as NEWOBJ's class": image(stack_global(REDUCERS, "lock"), EMPTY_TUPLE, NEWOBJ),
    "a factory by name that is not listed": image(
        stack_global(REDUCERS, "Restorer.set_factory"),
        tuple_of(EMPTY_DEFAULT_DICT, tuple_of(text("name"), text("os"), text("system"))), REDUCE,
    ),
    "a factory by name that is listed for NEW": image(
        stack_global(REDUCERS, "Restorer.set_factory"),
        tuple_of(EMPTY_DEFAULT_DICT, tuple_of(text("name"), text(HERE), text("Loud"))), REDUCE,
    ),
    "a factory by path that is not listed": image(
        stack_global(REDUCERS, "Restorer.set_factory"),
        tuple_of(
            EMPTY_DEFAULT_DICT,
            tuple_of(text("code"), text(HERE), text("fire"), number(0), number(1), EMPTY_TUPLE, NONE, NONE),
        ), REDUCE,
    ),
    "a factory of another kind": image(
        stack_global(REDUCERS, "Restorer.set_factory"), tuple_of(EMPTY_DEFAULT_DICT, tuple_of(text("eval"), text("1"))), REDUCE
    ),
    "a factory for a class": image(
        stack_global(REDUCERS, "Restorer.set_factory"), tuple_of(LOUD, tuple_of(text("name"), text("builtins"), text("list"))), REDUCE
    ),
    "a function by path that is not listed": image(call("Restorer.function", text("os"), text("system"), number(0), number(1))),
    "a function by path of this module": image(call("Restorer.function", text(HERE), text("fire"), number(0), number(1))),
    "a function by a VALUE entry's path": image(call("Restorer.function", text(HERE), text("listed_value"), number(0), number(1))),
    "cells of a function that is not the image's": image(
        call("Restorer.fill_function", stack_global(HERE, "listed_value"), tuple_of(EMPTY_TUPLE, NONE, NONE))
    ),
    "a method that is not listed": image(call("Restorer.method", PLAIN + EMPTY_TUPLE + NEWOBJ, text("__init__"))),
    "a method of a list": image(call("Restorer.method", EMPTY_LIST, text("append"))),
    "__class__ as a method": image(call("Restorer.method", LOUD + EMPTY_TUPLE + NEWOBJ, text("__class__"))),
    "__init__ as a method": image(call("Restorer.method", LOUD + EMPTY_TUPLE + NEWOBJ, text("__init__"))),
    "a module that is not listed": image(call("Restorer.module", text("os"))),
    "a module of this package": image(call("Restorer.module", text(REDUCERS))),
    "a method of Restorer with a Restorer of its own": image(
        stack_global(REDUCERS, "Restorer.module"), tuple_of(EMPTY_LIST, text("os")), REDUCE
    ),
    "a private key of garbage": image(stack_global(KEYS, "private_key"), tuple_of(raw(b"garbage")), REDUCE),
    "a certificate of garbage": image(stack_global(KEYS, "certificate"), tuple_of(raw(b"garbage")), REDUCE),
    "a zone outside the zone database": image(call("zone", text("../../../../etc/passwd"))),
    "a persistent id": image(text("x"), b"Q"),
    "a persistent id in text": b"Pos.system\n.",
    "an unregistered extension": image(b"\x82\x01"),
    "an extension of two bytes": image(b"\x83\x01\x02"),
    "an extension of four bytes": image(b"\x84\x01\x02\x03\x04"),
    "STACK_GLOBAL with numbers": image(number(1), number(2), b"\x93"),
    "a buffer from outside": image(b"\x97", protocol=5),
    "a second pickle behind": image(NONE) + image(stack_global("os", "system"), tuple_of(text("true")), REDUCE),
    "bytes behind": image(NONE) + b"x",
    "nothing": b"",
    "no STOP": image(NONE)[:-1],
    "a stack that is empty": image(REDUCE),
    "a mark that is missing": image(NONE, TUPLE),
    "a memo that is empty": image(b"h\x05"),
    "a frame longer than the file": image(b"\x95" + struct.pack("<Q", 1 << 40), NONE),
    "bytes longer than the file": image(b"\x8e" + struct.pack("<Q", 1 << 62)),
    "a bytearray longer than memory": image(b"\x96" + struct.pack("<Q", 1 << 62), protocol=5),
    "a negative LONG4": image(b"\x8b" + struct.pack("<i", -1)),
    "protocol 255": b"\x80\xff.",
    "an unhashable key": image(EMPTY_DICT, EMPTY_LIST, NONE, SETITEM),
    "APPENDS to a number": image(number(1), MARK, number(2), APPENDS),
    "BUILD on a number": image(number(1), SET_X, BUILD),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_what_is_listed_serves_nothing_else(name: str) -> None:
    """Listed classes, functions and helpers, used in another way than the list says: a typed error, and nothing changed."""
    before = {cls: dict(vars(cls)) for cls in (Loud, Plain)}
    functions = {listed_value: (listed_value.__defaults__, listed_value.__code__)}
    if "certificate" in name or "key" in name:
        import cryptography.hazmat.primitives.serialization
        import cryptography.x509  # noqa: F401  # importing it is not what is watched for
    with nothing_runs() if "zone" not in name else _nothing_fired(), pytest.raises(CodecError):
        CODEC.load("service-under-test", MISUSES[name])
    assert {cls: dict(vars(cls)) for cls in (Loud, Plain)} == before
    assert functions == {listed_value: (listed_value.__defaults__, listed_value.__code__)}


@contextmanager
def _nothing_fired() -> Iterator[None]:
    """As nothing_runs, where the zone database may be looked into."""
    FIRED.clear()
    yield
    assert FIRED == []


@pytest.mark.parametrize(
    "ops",
    [
        LOUD + EMPTY_TUPLE + NEWOBJ,
        LOUD + EMPTY_TUPLE + EMPTY_DICT + NEWOBJ_EX,
        LOUD + EMPTY_TUPLE + REDUCE,
        MARK + LOUD + OBJ,
        MARK + b"i" + HERE.encode() + b"\nLoud\n",
    ],
    ids=["NEWOBJ", "NEWOBJ_EX", "REDUCE", "OBJ", "INST"],
)
def test_a_listed_class_gives_empty_instances_and_runs_no_code(ops: bytes) -> None:
    """However an image asks for an instance, neither `__init__` nor a `__new__` in Python runs."""
    with nothing_runs():
        made = CODEC.load("service-under-test", image(ops))
    assert type(made) is Loud
    assert vars(made) == {}


def test_a_registered_extension_gives_nothing_past_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """EXT opcodes look into copyreg's cache before they ask: what another unpickler left there is not found."""
    copyreg.add_extension(HERE, "fire", 200)
    try:
        data = image(b"\x82\xc8", EMPTY_TUPLE, REDUCE)
        assert pickle.loads(data) == "fired"  # and now it lies in the cache
        with nothing_runs(), pytest.raises(NotAllowed):
            CODEC.load("service-under-test", data)
    finally:
        copyreg.remove_extension(HERE, "fire", 200)


def test_an_image_cannot_change_the_next_load() -> None:
    """Stand-ins are made for each load; what one image does with them is gone with it."""
    with pytest.raises(CodecError):
        CODEC.load("first", MISUSES["slots state on a class"])
    made = CODEC.load("second", image(LOUD, EMPTY_TUPLE, NEWOBJ, SET_X, BUILD))
    assert made.x == 1


def test_pickled_pickles_stay_bytes() -> None:
    """A pickle inside a pickle is data: nobody looks at it."""
    inner = image(stack_global("os", "system"), tuple_of(text("touch hostile")), REDUCE)
    with nothing_runs():
        assert CODEC.load("service-under-test", image(raw(inner))) == inner


def test_what_is_refused_when_read_is_refused_when_written() -> None:
    """A service that holds something unlisted fails by name while the journal still covers it, not when it is needed back."""
    held: list[Any] = [
        subprocess.Popen, fire, os.system, operator_like(), types.ModuleType("x"), io.FileIO, Loud.Inner(), copyreg, builtins.eval,
        collections.defaultdict(Loud.Inner), collections.defaultdict(lambda: 1), Plain().__init__, Loud().__init__, iter([1]),
    ]  # fmt: skip
    refused = 0
    for item in held:
        file = io.BytesIO()
        with pytest.raises(CodecError):
            CODEC.dump("service-under-test", {"held": item}, file, functions=True)
        refused += 1
    assert refused == len(held)


def operator_like() -> Any:
    import operator

    return operator.attrgetter("x")
