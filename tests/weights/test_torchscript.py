"""TorchScript archives are read without PyTorch, and nothing in them is run."""

import pickle
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from support.pickled import Call, Module, Named, Raw, Tensor, pickled
from support.referees import pytorch

from jaxgen import weights
from jaxgen.errors import UserError

LINEAR = """class Linear(Module):
  __parameters__ = ["weight", "bias", ]
  __buffers__ = []
  mask : Tensor
  def forward(self) -> int:
    return 1
"""


def archive(path, attributes, numbers=None, program=LINEAR, drop=""):
    """An archive of one module with these attributes, written without torch."""
    root = Module(Named("__torch__.nn", "Linear"), attributes)
    entries = {
        "data.pkl": b"\x80\x02" + pickled(root) + pickle.STOP,
        "constants.pkl": b"",
        "code/__torch__/nn.py": program.encode(),
    }
    entries |= {f"data/{key}": value.tobytes() for key, value in (numbers or {}).items()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            if name != drop:
                file.writestr(f"model/{name}", content)
    return path


def small(path, **changes):
    numbers = {"0": np.arange(8, dtype=np.float32), "1": np.arange(2, dtype=np.float16)}
    attributes = {
        "weight": Tensor("FloatStorage", "0", 2, (3, 2), (1, 3), 8),
        "bias": Tensor("HalfStorage", "1", 0, (2,), (1,), 2),
        "mask": Tensor("FloatStorage", "0", 0, (8,), (1,), 8),
        "training": False,
    }
    return archive(path, attributes, numbers, **changes)


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def test_parameters_are_read_without_torch(tmp_path, no_torch):
    read = weights.read_tensors(small(tmp_path / "m.pt"))
    # The mask is a tensor, but no parameter and no buffer.
    assert read.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(read["weight"], [[2, 5], [3, 6], [4, 7]])
    assert read["weight"].flags["C_CONTIGUOUS"]
    assert (read["weight"].dtype, read["bias"].dtype) == (np.float32, np.float16)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("FloatStorage", "0", 0, (9,), (1,), 8),
        Tensor("FloatStorage", "0", 7, (2,), (1,), 8),
        Tensor("FloatStorage", "0", -1, (2,), (1,), 8),
        Tensor("FloatStorage", "0", 4, (3,), (-1,), 8),
        Tensor("FloatStorage", "0", 0, (-1, -9), (1, 1), 8),
        Tensor("FloatStorage", "0", 0, (2, 2), (1,), 8),
    ],
)
def test_no_tensor_reaches_beyond_its_numbers(tmp_path, tensor, no_torch):
    path = archive(tmp_path / "m.pt", {"weight": tensor}, {"0": np.zeros(8, np.float32)})
    with pytest.raises(UserError, match="cannot read weights from") as error:
        weights.read_tensors(path)
    assert "\n" not in str(error.value)


def test_empty_tensors_and_scalars(tmp_path, no_torch):
    attributes = {
        "weight": Tensor("FloatStorage", "0", 0, (0, 3), (3, 1), 0),
        "bias": Tensor("LongStorage", "1", 0, (), (), 1),
    }
    numbers = {"0": np.zeros(0, np.float32), "1": np.full(1, 224)}
    read = weights.read_tensors(archive(tmp_path / "m.pt", attributes, numbers))
    assert (read["weight"].shape, read["bias"].shape, int(read["bias"])) == ((0, 3), (), 224)


def test_code_is_refused_and_not_run(tmp_path, no_torch):
    mark = tmp_path / "ran"
    for function in (("os", "mkdir"), ("builtins", "eval"), ("torch._utils", "_flatten")):
        call = Call(Named(*function), (str(mark),))
        path = archive(tmp_path / "m.pt", {"weight": call})
        with pytest.raises(UserError, match="holds code, which jaxgen never runs") as error:
            weights.read_tensors(path)
        assert "\n" not in str(error.value)
    program = f"import os\nos.mkdir({str(mark)!r})\n{LINEAR}"
    assert weights.read_tensors(small(tmp_path / "n.pt", program=program))
    assert not mark.exists()


def test_modules_in_each_other_without_end(tmp_path, no_torch):
    new = pickled(Named("__torch__.nn", "Linear")) + b")\x81"
    itself = Raw(new + b"q\x01}(X\x01\x00\x00\x00ah\x01ub")
    twice = new + b"q\x00}b0"  # each holds the one before twice
    for level in range(60):
        get = b"h" + bytes([level])
        twice += new + b"q" + bytes([level + 1]) + b"}(K\x00" + get + b"K\x01" + get + b"ub0"
    for deep in (itself, Raw(twice + b"h\x3c")):
        path = archive(tmp_path / "m.pt", {"deep": deep})
        with pytest.raises(UserError, match="lie in each other without end"):
            weights.read_tensors(path)


@pytest.mark.parametrize("drop", ["data.pkl", "data/0", "code/__torch__/nn.py"])
def test_archives_with_a_piece_missing(tmp_path, drop, no_torch):
    with pytest.raises(UserError, match="cannot read weights from"):
        weights.read_tensors(small(tmp_path / "m.pt", drop=drop))


def test_damaged_archives(tmp_path, no_torch):
    whole = small(tmp_path / "m.pt").read_bytes()
    at = whole.index(np.arange(8, dtype=np.float32).tobytes())
    flipped = bytearray(whole)
    flipped[at] ^= 1
    for content in (whole[: len(whole) // 2], bytes(flipped)):
        (tmp_path / "m.pt").write_bytes(content)
        with pytest.raises(UserError) as error:
            weights.read_tensors(tmp_path / "m.pt")
        assert "\n" not in str(error.value)


def test_a_module_without_parameters(tmp_path, no_torch):
    path = archive(tmp_path / "m.pt", {"training": False})
    with pytest.raises(UserError, match="is a TorchScript archive without parameters"):
        weights.read_tensors(path)


# ---------------------------------------------------------------------------- torch's own files


@pytest.fixture
def torch():
    return pytorch()


def networks(torch):
    """Modules within modules, each with what a state dict has and what it has not."""

    class Inner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
            self.mask = torch.ones(3, 3)  # no buffer
            self.listed = [torch.ones(2)]
            self.sizes = [1, 2]
            self.names = {"a": 1.5}

        def forward(self, x):
            more = self.sizes[0] + self.names["a"] + self.listed[0][0]
            return x @ self.w + self.mask[0].sum() + more

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()
            self.row = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4))
            self.brain = torch.nn.Parameter(torch.arange(4.0).bfloat16())
            self.part = torch.nn.Parameter(torch.arange(8.0).half()[2:6])
            self.frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
            self.shared = self.inner.w
            self.register_buffer("input_resolution", torch.tensor(224))
            self.register_buffer("flags", torch.tensor([True, False]))

        def forward(self, x):
            return self.row(self.inner(x)) + self.shared.sum() + self.part.sum()

    return Outer().eval()


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.filterwarnings("ignore")
def test_torchs_archives_give_its_state_dict(torch, tmp_path, how):
    net = networks(torch)
    scripted = torch.jit.script(net) if how == "script" else torch.jit.trace(net, torch.ones(5, 3))
    scripted.save(str(tmp_path / "net.pt"))
    read = weights.read_tensors(tmp_path / "net.pt")
    theirs = torch.jit.load(str(tmp_path / "net.pt")).state_dict()
    assert read.keys() == theirs.keys()
    for key, tensor in theirs.items():
        np.testing.assert_array_equal(
            read[key].astype(np.float32), tensor.detach().float().numpy(), err_msg=key
        )
        assert str(tensor.dtype) == f"torch.{read[key].dtype}"
    assert read["brain"].dtype == ml_dtypes.bfloat16
    assert read["row.1.num_batches_tracked"].shape == ()
