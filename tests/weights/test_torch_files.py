"""PyTorch's files are read without PyTorch: the same numbers, and nothing that a file asks for."""

import io
import itertools
import os
import pickle
import random
import sys
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from support.pickled import Call, Named, Raw, Tensor, pickled, torch_file, whole

from jaxgen import weights
from jaxgen.errors import UserError

NUMBERS = np.arange(8, dtype=np.float32)


@pytest.fixture(autouse=True)
def no_torch(request, monkeypatch):
    """Reading must not import it; tests that write by it have it."""
    if "torch" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch.save writes the files to read")


def refused(path, reason):
    with pytest.raises(UserError) as error:
        weights.read_tensors(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert reason in str(error.value)


# ---------------------------------------------------------------------------------- honest files


def test_a_file_by_hand(tmp_path):
    content = {
        "w": Tensor("FloatStorage", "0", 2, (3, 2), (1, 3), 8),
        "n": Tensor("LongStorage", "1", 0, (), (), 1),
        "empty": Tensor("FloatStorage", "0", 8, (0, 3), (3, 1), 8),
        "epoch": 3,
    }
    path = torch_file(tmp_path / "w.pth", content, {"0": NUMBERS, "1": np.full(1, 224)})
    read = weights.read_tensors(path)
    np.testing.assert_array_equal(read["w"], [[2, 5], [3, 6], [4, 7]])
    assert (read["n"].shape, int(read["n"]), read["empty"].shape) == ((), 224, (0, 3))


@pytest.mark.parametrize("zipped", [True, False])
def test_every_dtype_equals_torch(torch, tmp_path, zipped):
    names = "bfloat16 bool complex64 complex128 float16 float32 float64 int8 int16 int32 int64 "
    names += "uint8 uint16 uint32 uint64 float8_e4m3fn float8_e5m2"
    base = torch.arange(12).reshape(3, 4)
    content = {name: base.to(getattr(torch, name)) for name in names.split()}
    content |= {"turned": base.T, "part": base[1:, 2:], "tied": base, "twice": base}
    content["parameter"] = torch.nn.Parameter(torch.ones(2))
    content["row"] = torch.arange(4).expand(1, -1)
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = weights.read_tensors(path)
    assert read.keys() == content.keys()
    for name, tensor in content.items():
        assert str(tensor.dtype) == f"torch.{read[name].dtype}"
        same = tensor.detach().to(torch.complex128).numpy()
        np.testing.assert_array_equal(read[name].astype(np.complex128), same, err_msg=name)
    assert read["bfloat16"].dtype == ml_dtypes.bfloat16


def test_what_else_lies_in_checkpoints(torch, tmp_path):
    """Optimizers, NumPy's scalars and arrays, dtypes, devices: neither refused nor read."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    content = {
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best": np.float64(31.5),
        "count": np.int32(3),
        "seen": np.arange(6.0).reshape(2, 3).T,
        "size": torch.ones(2, 3).shape,
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "set": {1, "a"},
        "big": 1 << 80,
        "path": b"bytes",
    }
    for protocol, zipped in itertools.product((2, 3, 4), (True, False)):
        torch.save(content, tmp_path / "w", pickle_protocol=protocol,
                   _use_new_zipfile_serialization=zipped)  # fmt: skip
        read = weights.read_tensors(tmp_path / "w")
        assert read.keys() == net.state_dict().keys()
        np.testing.assert_array_equal(read["0.weight"], net[0].weight.detach().numpy())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_pickles_of_arrays(tmp_path, protocol):
    arrays = {"a": np.arange(6.0, dtype=">f4").reshape(2, 3), "b": np.zeros(2, np.int8)}
    arrays["c"] = np.asfortranarray(np.arange(6).reshape(2, 3))
    if protocol == 5:  # which has them out of band
        arrays = {"a": np.float32(1.5)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(arrays, protocol))
    if protocol == 5:
        return refused(tmp_path / "w.pkl", "has no tensors, only: a")
    read = weights.read_tensors(tmp_path / "w.pkl")
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype.isnative


# --------------------------------------------------------------------------------- hostile pickles


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
    refused(path, "more than 1048576 tensors")


def test_copies_of_one_storage_have_an_end(tmp_path):
    numbers = np.zeros(1 << 16, np.float32)
    turned = Tensor("FloatStorage", "0", 0, (256, 256), (1, 256), numbers.size)
    content = {str(i): turned for i in range(4)}
    path = torch_file(tmp_path / "w.pth", content, {"0": numbers})
    assert len(weights.read_tensors(path)) == 4
    content = {str(i): turned for i in range(40)}
    refused(torch_file(tmp_path / "w.pth", content, {"0": numbers}), "many times the numbers")


# -------------------------------------------------------------------------------- hostile archives


def test_zip_bombs(tmp_path):
    zeros = np.zeros(1 << 25, np.float32)  # 128 MiB in 128 KiB
    content = {"w": whole("0", zeros)}
    path = tmp_path / "w.pth"
    torch_file(path, content, {"0": zeros}, how=zipfile.ZIP_DEFLATED)
    refused(path, "larger than such a file can hold")
    # A pickle that unpacks to more.
    text = Raw(b"X" + (1 << 27).to_bytes(4, "little") + bytes(1 << 27))
    refused(torch_file(path, {"w": text}, how=zipfile.ZIP_DEFLATED), "larger than such a file")


def test_entries_that_share_bytes_or_lie(tmp_path):
    path = torch_file(tmp_path / "w.pth", {"w": whole("0", NUMBERS)}, {"0": NUMBERS})
    data = bytearray(path.read_bytes())
    # The sizes of data/0 in the central directory: 2 GiB of 32 bytes.
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = (1 << 31).to_bytes(4, "little") * 2
    path.write_bytes(data)
    refused(path, "cannot read weights from")


@pytest.mark.parametrize("drop", ["data.pkl", "data/0"])
def test_archives_with_a_piece_missing(tmp_path, drop):
    path = torch_file(tmp_path / "w.pth", {"w": whole("0", NUMBERS)}, {"0": NUMBERS})
    with zipfile.ZipFile(path) as whole_file:
        entries = {name: whole_file.read(name) for name in whole_file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            if not name.endswith(drop):
                file.writestr(name, content)
    refused(path, "without weights" if drop == "data.pkl" else "cannot read weights from")


def test_big_endian_numbers_are_refused(tmp_path):
    content = {"w": whole("0", NUMBERS)}
    path = torch_file(tmp_path / "w.pth", content, {"0": NUMBERS}, byteorder=b"big")
    refused(path, "big-endian")
    path = torch_file(tmp_path / "w.pth", content, {"0": NUMBERS}, byteorder=b"little")
    assert weights.read_tensors(path).keys() == {"w"}


def old_file(content=None, machine=None, keys=("0",), numbers=NUMBERS, count=None):
    """A file of the older format, by hand."""
    content = {"w": Raw(pickled(whole("0", NUMBERS)).replace(b"tQ", b"NtQ"))} if content is None \
        else content  # fmt: skip
    parts = [0x1950A86A20F9469CFC6C, 1001, machine or {"little_endian": True}]
    file = io.BytesIO()
    for part in parts:
        file.write(pickle.dumps(part, protocol=2))
    file.write(b"\x80\x02" + pickled(content) + b".")
    file.write(pickle.dumps(list(keys), protocol=2))
    file.write((numbers.size if count is None else count).to_bytes(8, "little", signed=True))
    return file.getvalue() + numbers.tobytes()


def test_the_older_format(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(old_file())
    np.testing.assert_array_equal(weights.read_tensors(path)["w"], NUMBERS)
    for name, data in {
        "big-endian": old_file(machine={"little_endian": False}),
        "no such storage": old_file(keys=("1",)),
        "not listed": old_file(keys=()),
        "fewer numbers": old_file(numbers=NUMBERS[:4], count=8),
        "another count": old_file(count=4),
        "a negative count": old_file(count=-8),
        "the keys are no list": old_file(keys=(3,)),
        "cut": old_file()[:-8],
        "no content": old_file()[:60],
        "code": old_file(content={"w": CODE["os.system"]}),
    }.items():
        path.write_bytes(data)
        refused(path, "holds code" if name == "code" else "cannot read weights from")


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
