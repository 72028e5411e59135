"""PyTorch's files are read without PyTorch: the same numbers, and nothing that a file asks for."""

import argparse
import collections
import itertools
import pickle
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from support.pickled import NUMBERS, Call, Named, Raw, Tensor, old_file, refused, torch_file, whole
from support.referees import pytorch

from jaxgen import weights


@pytest.fixture(autouse=True)
def no_torch(request, monkeypatch):
    """Reading must not import it; tests that write by it have it."""
    if "torch" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture
def torch():
    return pytorch()


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
    content["expanded"] = torch.ones(1, 3).expand(5, 3)
    content["empty"] = torch.zeros(0, 3)
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
        "settings": argparse.Namespace(lr=0.1),
        "milestones": collections.Counter([3, 5]),
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
    arrays = {"a": np.arange(6.0, dtype="<f4").reshape(2, 3), "b": np.zeros(2, np.int8)}
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


def test_callbacks_of_lightning(tmp_path):
    """Before 1.5 their classes were keys: names only, nothing that is called."""
    callbacks = Raw(b"}cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n}s")
    content = {"callbacks": callbacks, "state_dict": {"w": whole("0", NUMBERS)}}
    path = torch_file(tmp_path / "w.ckpt", content, {"0": NUMBERS})
    assert weights.read_tensors(path).keys() == {"w"}


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


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path, how):
    path = torch_file(tmp_path / "w.pth", {"w": whole("0", NUMBERS)}, {"0": NUMBERS}, how=how)
    refused(path, "compressed in a way that PyTorch does not use")


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
        "a key that is a list": old_file(keys=([],)),
        "cut": old_file()[:-8],
        "no content": old_file()[:60],
        "code": old_file(content={"w": Call(Named("os", "system"), ("true",))}),
    }.items():
        path.write_bytes(data)
        refused(path, "holds code" if name == "code" else "cannot read weights from")
