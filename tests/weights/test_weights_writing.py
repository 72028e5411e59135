"""Weight files are written whole or not at all, and come back as they were."""

import os
import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import conv_tensors
from support.referees import pytorch

from jaxgen import weights
from jaxgen.errors import UserError

DTYPES = (
    "bfloat16", "bool", "complex64", "complex128", "float16", "float32", "float64", "int8",
    "int16", "int32", "int64", "uint8",
)  # fmt: skip


def test_our_own_files_round_trip(tmp_path):
    tree = {
        "g": {
            "params": {
                "conv_in": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4).T},
                "scale": jnp.asarray(2.0),
                "half": jnp.ones((2, 3), jnp.bfloat16) * 1.5,
            },
            "batch_stats": {"count": np.asarray([1, 2], np.int32)},
        }
    }
    path = tmp_path / "w.safetensors"
    weights.write_safetensors(path, tree, {"family": "srgan"})
    assert weights.read_metadata(path) == {"family": "srgan"}
    read = weights.read_tree(path)
    assert jax.tree.structure(read) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(read), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert "g/params/conv_in/kernel" in weights.read_tensors(path)
    assert os.listdir(tmp_path) == ["w.safetensors"]
    weights.write_safetensors(path, {"a": np.zeros(1)})
    assert weights.read_metadata(path) == {}
    with pytest.raises(UserError, match="nothing to write"):
        weights.write_safetensors(path, {})


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.write_safetensors(path, conv_tensors())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # The kernel stops the write in the middle, as a full disk would.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        with pytest.raises(UserError, match=r"cannot write .*free some space"):
            weights.write_safetensors(path, {"big": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_kill_during_the_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    weights.write_safetensors(path, conv_tensors())
    before = path.read_bytes()
    with open(path, "rb") as reader:  # a rename leaves the old file to who has it open
        weights.write_safetensors(path, conv_tensors(2))
        assert reader.read() == before
    before = path.read_bytes()

    def die(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        weights.write_safetensors(path, conv_tensors(1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_unwritable_places_are_explained(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*No such file"):
        weights.write_safetensors(tmp_path / "none" / "w.safetensors", conv_tensors())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*Not a directory"):
        weights.write_safetensors(tmp_path / "file" / "w.safetensors", conv_tensors())
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(UserError, match=r"cannot write .*Permission denied"):
                weights.write_safetensors(tmp_path / "w.safetensors", conv_tensors())
        finally:
            tmp_path.chmod(0o700)


def test_a_foreign_safetensors_file_is_no_tree(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.write_safetensors(path, {"a": {"b": np.zeros(1)}, "a/b/c": np.zeros(1)})
    with pytest.raises(UserError, match="not a jaxgen file"):
        weights.read_tree(path)


def test_files_for_torch_are_written_without_it(tmp_path, monkeypatch):
    arrays = {name: np.arange(6).reshape(2, 3).astype(name) for name in DTYPES}
    arrays |= {"turned": np.arange(6.0).reshape(2, 3).T, "scalar": np.float32(3), "é": np.zeros(0)}
    arrays["big-endian"] = np.arange(3, dtype=">i4")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch", None)
        weights.write_tensors(tmp_path / "w.pth", arrays)
        read = weights.read_tensors(tmp_path / "w.pth")
        first = (tmp_path / "w.pth").read_bytes()
        weights.write_tensors(tmp_path / "w.pth", arrays)
        assert (tmp_path / "w.pth").read_bytes() == first
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    with pytest.raises(UserError, match="tensor a has dtype <U1, which PyTorch has not"):
        weights.write_tensors(tmp_path / "w.pth", {"a": np.asarray("a")})
    torch = pytorch()
    theirs = torch.load(tmp_path / "w.pth", weights_only=True)
    assert type(theirs) is dict
    assert list(theirs) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(
            theirs[name].to(torch.complex128).numpy(), array.astype("c16")
        )
        if name in DTYPES:
            assert str(theirs[name].dtype) == f"torch.{name}"
    # It also maps the file, and what it writes of it is read.
    torch.load(tmp_path / "w.pth", weights_only=True, mmap=True)
