"""Hostile pickles in PyTorch's files: nothing is run, read beyond its end, or without an end."""

import io
import os
import pickle
import random
import sys
import time
import tracemalloc

import numpy as np
import pytest
from support.pickled import (
    NUMBERS,
    Call,
    Named,
    Raw,
    Tensor,
    old_file,
    pickled,
    refused,
    torch_file,
    whole,
)

from jaxgen import weights
from jaxgen.errors import UserError


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def called(*function_and_arguments):
    function, *arguments = function_and_arguments
    return Call(Named(*function), tuple(arguments))


CODE = {
    "os.system": called(("os", "system"), "touch MARK"),
    "posix.system": called(("posix", "system"), "touch MARK"),
    "eval": called(("builtins", "eval"), "open('MARK', 'w')"),
    "exec of Python 2": called(("__builtin__", "exec"), "open('MARK', 'w')"),
    "getattr": called(("builtins", "getattr"), called(("builtins", "__import__"), "os"), "system"),
    "dotted name": called(("collections", "OrderedDict.__class__"), ()),
    "of an allowed module": called(("torch", "load"), "MARK"),
    "within one of its functions": called(("torch._utils", "_rebuild_tensor_v2.__globals__"), ()),
    "of numpy": called(("numpy", "fromfile"), "MARK"),
    "objects": called(("numpy", "dtype"), "O8", False, True),
    "copyreg": called(("copyreg", "_reconstructor"), Named("os", "system")),
    "runpy": called(("runpy", "_run_code"), "open('MARK', 'w')"),
    "a call of what is no function": Raw(b"X\x01\x00\x00\x00a)R"),
    "a call of what was made": Raw(pickled(called(("torch", "device"), "cpu")) + b")R"),
    "a call of a dtype": Raw(pickled(Named("torch", "float32")) + b")R"),
    "an extension": Raw(b"\x82\x01"),
    "the old INST": Raw(b"(ios\nsystem\n"),
    "the old OBJ": Raw(b"(" + pickled(Named("collections", "OrderedDict")) + b"o"),
    "a callback's class that is called": called(("pytorch_lightning.callbacks.x", "Y"), "a"),
    "settings of another kind": Raw(pickled(Named("argparse", "ArgumentParser")) + b")\x81"),
    "a state for a function": Raw(pickled(Named("collections", "OrderedDict")) + b"}b"),
    "attributes of a function": Raw(pickled(Named("torch", "Size")) + b"N}\x86b"),
    "a name that is made": Raw(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93"),
    "a foreign id": Raw(pickled(("module", "os", "system", "x", 1)) + pickle.BINPERSID),
}


@pytest.mark.parametrize("name", CODE)
def test_no_code_is_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    refused(torch_file("w.pth", {"w": CODE[name]}), "holds code, which jaxgen never runs")
    (tmp_path / "raw").write_bytes(b"\x80\x02" + pickled({"w": CODE[name]}) + b".")
    refused("raw", "holds code, which jaxgen never runs")
    assert not os.path.exists("MARK")


def test_a_refused_name_is_named(tmp_path):
    path = torch_file(tmp_path / "w.pth", {"w": called(("os", "system"), "true")})
    refused(path, "asks for os.system, which is no part of weights")


VIEWS = {
    "beyond the end": (0, (9,), (1,), 8),
    "from the end": (7, (2,), (1,), 8),
    "before the start": (-1, (2,), (1,), 8),
    "backwards": (4, (3,), (-1,), 8),
    "negative sizes": (0, (-1, -9), (1, 1), 8),
    "one stride too few": (0, (2, 2), (1,), 8),
    "huge": (0, (1 << 62, 1 << 62), (1 << 40, 1), 8),
    "larger than any": (1 << 9999, (1 << 9999,), (1,), 8),
    "of very many dimensions": (0, (1,) * 9999, (1,) * 9999, 8),
    "huge without strides": (0, (1 << 40,), (0,), 8),
    "overlapping": (0, (4, 4), (1, 1), 8),
    "a size that lies": (0, (8,), (1,), 16),
    "a huge size that lies": (0, (8,), (1,), 1 << 60),
    "a negative size": (0, (8,), (1,), -8),
    "too many dimensions": (0, (1,) * 100, (1,) * 100, 8),
    "no numbers": (0, ("a",), (1,), 8),
    "truths": (0, (True,), (1,), 8),
    "no storage": (None, (1,), (1,), 8),
}


@pytest.mark.parametrize("name", VIEWS)
def test_no_tensor_reaches_beyond_its_numbers(tmp_path, name):
    content = {"w": Tensor("FloatStorage", "0", *VIEWS[name])}
    refused(torch_file(tmp_path / "w.pth", content, {"0": NUMBERS}), "cannot read weights from")


def test_one_storage_of_two_kinds(tmp_path):
    content = {"a": whole("0", NUMBERS), "b": Tensor("IntStorage", "0", 0, (8,), (1,), 8)}
    refused(torch_file(tmp_path / "w.pth", content, {"0": NUMBERS}), "of two kinds")


DEEP = b"".join((b"(" * 100_000, b"t" * 100_000))
LARGE = {
    "a memo far away": Raw(b"Nr\xff\xff\xff\xff"),
    "bytes that are not there": Raw(b"\x8e" + (1 << 62).to_bytes(8, "little") + b"a"),
    "a text that is not there": Raw(b"X\xff\xff\xff\x7fa"),
    "a bytearray": Raw(b"\x96" + (1 << 40).to_bytes(8, "little") + b"a"),
    "a number of many digits": Raw(b"L" + b"9" * 1_000_000 + b"L\n"),
    "a key deep down": Raw(b"}" + DEEP + b"Ns"),
    "a member deep down": Raw(b"\x8f(" + DEEP + b"\x90"),
    "a pair deep down": Raw(
        pickled(Named("collections", "OrderedDict")) + b"]]" + DEEP + b"aNaa\x85R"
    ),
    "a dtype deep down": Raw(pickled(Named("numpy", "dtype")) + b"(" + DEEP + b"tR"),
    "numbers deep down": Raw(
        pickled(called(("numpy", "dtype"), "f8", False, True))
        + b"q\x000"
        + pickled(called(("numpy.core.multiarray", "_reconstruct"), Named("numpy", "ndarray")))
        + b"(K\x01" + DEEP + b"h\x00\x89" + pickled("a" * 8) + b"tb"
    ),
    "unhashable keys": Raw(b"}]Ns"),
    "a list in itself as a key": Raw(b"]q\x00h\x00a}h\x00Ns"),
    "no mark": Raw(b"Nt"),
    "an empty stack": Raw(b"0000000"),
    "a mark taken for a value": Raw(b"(0"),
    "no such memo": Raw(b"h\x09"),
    "items of a number": Raw(b"K\x01NNs"),
    "an odd number of items": Raw(b"}(Nu"),
    "latin that is not": called(("_codecs", "encode"), "a", "rot13"),
    "an array larger than its bytes": Raw(
        pickled(called(("numpy", "dtype"), "f8", False, True))
        + b"q\x000"
        + pickled(called(("numpy.core.multiarray", "_reconstruct"), Named("numpy", "ndarray")))
        + b"(K\x01" + pickled((1 << 40,)) + b"h\x00\x89" + pickled("a" * 8) + b"tb"
    ),
    "a scalar of no bytes": called(
        ("numpy.core.multiarray", "scalar"), called(("numpy", "dtype"), "f8", False, True), ""
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_no_pickle_takes_more_than_its_size(tmp_path, name):
    path = torch_file(tmp_path / "w.pth", {"w": LARGE[name]})
    tracemalloc.start()
    begin = time.monotonic()
    with pytest.raises(UserError) as error:
        weights.read_tensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert peak < 200 << 20
    assert time.monotonic() - begin < 20


def doubled(levels, kind):
    """A dict or list that holds the next one twice, and so on: 2**levels of the last."""
    code = b"}" if kind == "dict" else b"]"
    code += b"q\x000"
    for level in range(levels):
        get = b"h" + bytes([level])
        if kind == "dict":
            code += b"}(K\x00" + get + b"K\x01" + get + b"u"
        else:
            code += b"](" + get + get + b"e"
        code += b"q" + bytes([level + 1]) + b"0"
    return Raw(code + b"h" + bytes([levels]))


@pytest.mark.parametrize("kind", ["dict", "list"])
@pytest.mark.parametrize("call", [b"", b")R", b"}b"])
def test_what_lies_in_itself_again_and_again(tmp_path, kind, call):
    content = {"state_dict": Raw(doubled(60, kind).code + call), "w": whole("0", NUMBERS)}
    path = torch_file(tmp_path / "w.pth", content, {"0": NUMBERS})
    if call and not (kind == "dict" and call == b"}b"):
        return refused(path, "holds code")
    np.testing.assert_array_equal(weights.read_tensors(path)["w"], NUMBERS)


def test_a_dict_that_holds_itself(tmp_path):
    loop = Raw(b"}q\x01(X\x05\x00\x00\x00modelh\x01X\x01\x00\x00\x00ah\x01u")
    refused(torch_file(tmp_path / "w.pth", loop), "has no tensors")


def test_one_dict_under_many_names(tmp_path):
    inner = pickled({str(i): Raw(b"h\x07") for i in range(2000)})
    tensor = pickled(whole("0", NUMBERS)) + b"q\x070" + inner + b"q\x080"
    names = b"}(" + b"".join(pickled(str(i)) + b"h\x08" for i in range(2000)) + b"u"
    path = torch_file(tmp_path / "w.pth", Raw(tensor + names), {"0": NUMBERS})
    refused(path, "more than 65536 tensors")
    # Of which only one holds a tensor: its many other items are looked at once.
    inner = pickled({str(i): None for i in range(5000)} | {"w": Raw(b"h\x07")})
    tensor = pickled(whole("0", NUMBERS)) + b"q\x070" + inner + b"q\x080"
    names = b"}(" + b"".join(pickled(str(i)) + b"h\x08" for i in range(5000)) + b"u"
    path = torch_file(tmp_path / "w.pth", Raw(tensor + names), {"0": NUMBERS})
    assert len(weights.read_tensors(path)) == 5000


TEXT = pickled("a" * 1_000_000) + b"q\x070"
CALLS = {
    "encode": pickled(Named("_codecs", "encode")) + b"h\x07" + pickled("latin1") + b"\x86R",
    "set": pickled(Named("builtins", "set")) + b"h\x07\x85R",
    "array": pickled(called(("numpy.core.multiarray", "_reconstruct"), Named("numpy", "ndarray")))
    + b"(K\x01" + pickled((1_000_000,)) + b"h\x08\x89h\x07tb",
}  # fmt: skip
DTYPE = pickled(called(("numpy", "dtype"), "i1", False, True)) + b"q\x080"
AGAIN = {
    "texts": TEXT + b"]" + (CALLS["encode"] + b"a") * 99,
    "sets": pickled(list(range(10_000))) + b"q\x070]" + (CALLS["set"] + b"a") * 9999,
    "arrays": TEXT + DTYPE + b"]" + (CALLS["array"] + b"a") * 99,
    "keys": pickled(tuple(range(10_000))) + b"q\x070}" + b"h\x07Ns" * 9999,
    "large keys": pickled(1 << 80_000) + b"q\x070}" + b"h\x07Ns" * 9999,
}


@pytest.mark.parametrize("name", AGAIN)
def test_what_is_given_again_and_again(tmp_path, name):
    """The same large thing, memorised once, to a function of ours each time."""
    path = torch_file(tmp_path / "w.pth", Raw(AGAIN[name]))
    reason = "a key that is" if "keys" in name else "asks for much more than it holds"
    refused(path, reason)


def test_big_endian_arrays_are_refused(tmp_path):
    (tmp_path / "w").write_bytes(pickle.dumps({"a": np.zeros(2, ">f4")}, protocol=2))
    refused(tmp_path / "w", "big-endian")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2Ja", "a\ud800"])
def test_names_that_can_not_be_shown(tmp_path, name):
    text = name.encode("utf-8", "surrogatepass")
    key = Raw(b"X" + len(text).to_bytes(4, "little") + text)
    content = Raw(b"}" + key.code + pickled(whole("0", NUMBERS)) + b"s")
    path = torch_file(tmp_path / "w.pth", content, {"0": NUMBERS})
    refused(path, f"is no weight file: a tensor's name is {name!a}")
    path = torch_file(tmp_path / "w.pth", Raw(b"}" + key.code + b"Ns"))
    refused(path, "has no tensors, only: ")
    path = torch_file(tmp_path / "w.pth", Raw(key.code + key.code + b"\x93"))
    refused(path, "holds code")
    with pytest.raises(UserError) as error:
        weights.read_tensors(path)
    assert str(error.value).isprintable()


def test_copies_of_one_storage_have_an_end(tmp_path):
    numbers = np.zeros(1 << 16, np.float32)
    turned = Tensor("FloatStorage", "0", 0, (256, 256), (1, 256), numbers.size)
    content = {str(i): turned for i in range(4)}
    path = torch_file(tmp_path / "w.pth", content, {"0": numbers})
    assert len(weights.read_tensors(path)) == 4
    content = {str(i): turned for i in range(40)}
    refused(torch_file(tmp_path / "w.pth", content, {"0": numbers}), "many times the numbers")


# ------------------------------------------------------------------------------------------- fuzz


def seeds():
    content = {"a": whole("0", NUMBERS), "b": {"c": Tensor("HalfStorage", "1", 1, (2,), (2,), 4)}}
    zipped = torch_file(io.BytesIO(), content, {"0": NUMBERS, "1": np.ones(4, np.float16)})
    plain = pickle.dumps({"a": NUMBERS, "b": np.float32(1)}, protocol=4)
    return [zipped.getvalue(), old_file(), plain]


@pytest.mark.parametrize("which", range(3))
def test_damaged_bytes_give_one_line_or_numbers(tmp_path, which):
    rng = random.Random(which)
    data, path = seeds()[which], tmp_path / "w"
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(changed))
            changed[at] = rng.choice((rng.randrange(256), changed[at] ^ 1 << rng.randrange(8)))
        if rng.random() < 0.3:
            del changed[rng.randrange(len(changed)) :]
        path.write_bytes(changed)
        one_line_or_numbers(path)


def test_random_operations_give_one_line_or_numbers(tmp_path):
    """Pickles that are grammatical as far as chance goes: the operations themselves, shuffled."""
    rng = random.Random(7)
    names = (("collections", "OrderedDict"), ("torch", "FloatStorage"), ("torch", "Size"),
             ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
             ("torch._utils", "_rebuild_tensor_v3"), ("numpy", "dtype"), ("numpy", "ndarray"),
             ("numpy.core.multiarray", "scalar"), ("numpy.core.multiarray", "_reconstruct"),
             ("_codecs", "encode"), ("os", "system"))  # fmt: skip
    pieces = [pickled(Named(*name)) for name in names]
    pieces += [pickled(x) for x in ("0", "latin1", "f4", 0, -1, 1 << 70, 1.5, (), (8,), {}, [])]
    pieces += [pickled(whole("0", NUMBERS)), b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b"]
    pieces += [b"s", b"u", b"a", b"e", b"Q", b"q\x00", b"h\x00", b"0", b"l", b"d", b"\x81", b"2"]
    for _ in range(1500):
        code = b"".join(rng.choice(pieces) for _ in range(rng.randrange(1, 30)))
        path = torch_file(tmp_path / "w", {"w": Raw(b"N" * 4 + code)}, {"0": NUMBERS})
        one_line_or_numbers(path)


def one_line_or_numbers(path):
    said, tensors = "", {}
    try:
        tensors = weights.read_tensors(path)
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert all(isinstance(value, np.ndarray) for value in tensors.values())
