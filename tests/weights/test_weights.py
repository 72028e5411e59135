"""Weight files are read safely; key maps work both ways and name every error."""

import os
import pickle
import tracemalloc
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import conv_tensors
from support.referees import pytorch

from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.weights import CONV, DENSE, Rule


def _assert_equal(ours, theirs):
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value)
        assert ours[key].dtype == value.dtype


# ----------------------------------------------------------------------------------- reading


@pytest.fixture
def torch():
    return pytorch()


def _as_torch(torch, tensors):
    return {key: torch.tensor(value) for key, value in tensors.items()}


def test_safetensors_and_npz(tmp_path):
    tensors = conv_tensors()
    weights.write_safetensors(tmp_path / "w.safetensors", tensors)
    np.savez(tmp_path / "w.npz", **tensors)
    _assert_equal(weights.read_tensors(tmp_path / "w.safetensors"), tensors)
    _assert_equal(weights.read_tensors(str(tmp_path / "w.npz")), tensors)


def test_torch_files_of_every_wrapping(torch, tmp_path):
    tensors, other = conv_tensors(0), _as_torch(torch, conv_tensors(1))
    plain = _as_torch(torch, tensors)
    prefixed = {f"module._orig_mod.{key}": value for key, value in plain.items()}
    cases = {
        "plain": plain,
        "ema first": {"params": other, "params_ema": plain},
        "params": {"params": plain},
        "trainer": {"epoch": 3, "state_dict": prefixed, "optimizer": {"lr": 0.1}},
        "twice": {"state_dict": {"params": prefixed}},
        "averaged": prefixed | {"n_averaged": torch.tensor(7)},
    }
    for name, content in cases.items():
        path = tmp_path / "w.pth"
        torch.save(content, path)
        read = weights.read_tensors(path)
        read.pop("n_averaged", None)
        assert set(read) == set(tensors), name
        _assert_equal(read, tensors)


def test_flat_wrappers_in_safetensors(tmp_path):
    tensors, other = conv_tensors(0), conv_tensors(1)
    wrapped = {f"params.{k}": v for k, v in other.items()}
    wrapped |= {f"params_ema.module.{k}": v for k, v in tensors.items()}
    weights.write_safetensors(tmp_path / "w.safetensors", wrapped)
    _assert_equal(weights.read_tensors(tmp_path / "w.safetensors"), tensors)
    # A tensor beside the wrapper means that it is no wrapper.
    beside = {"params.a": np.zeros(1), "b": np.ones(1)}
    weights.write_safetensors(tmp_path / "w.safetensors", beside)
    _assert_equal(weights.read_tensors(tmp_path / "w.safetensors"), beside)


def test_strides_dtypes_and_legacy_files(torch, tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    content = {
        "strided": base.permute(2, 0, 1),
        "parameter": torch.nn.Parameter(base.clone()),
        "half": base.half(),
        "brain": base.bfloat16(),
        "count": torch.tensor(5),
    }
    for zipped in (True, False):
        torch.save(content, tmp_path / "w.bin", _use_new_zipfile_serialization=zipped)
        read = weights.read_tensors(tmp_path / "w.bin")
        np.testing.assert_array_equal(read["strided"], base.numpy().transpose(2, 0, 1))
        np.testing.assert_array_equal(read["parameter"], base.numpy())
        assert read["half"].dtype == np.float16
        assert read["brain"].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(read["brain"].astype(np.float32), base.numpy())
        assert read["count"].shape == ()
        assert read["count"] == 5


class _Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_code_in_a_pickle_is_refused_and_not_run(torch, tmp_path):
    mark = str(tmp_path / "ran")
    torch.save({"w": _Bomb(mark)}, tmp_path / "zip.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps({"w": _Bomb(mark)}, protocol=2))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    for name in ("zip.pth", "raw.pth", "module.pth"):
        with pytest.raises(UserError, match=r"asks for .* holds code, which jaxgen never") as error:
            weights.read_tensors(tmp_path / name)
        assert "weights_only" not in str(error.value)  # no advice to switch the guard off
        assert "\n" not in str(error.value)
    np.savez(tmp_path / "w.npz", w=np.asarray([_Bomb(mark)], dtype=object))
    with pytest.raises(UserError, match="cannot read weights"):
        weights.read_tensors(tmp_path / "w.npz")
    assert not os.path.exists(mark)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_damaged_files_are_named(suffix, tmp_path):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch = pytorch()
        torch.save(_as_torch(torch, conv_tensors()), path)
    elif suffix == ".npz":
        np.savez(path, **conv_tensors())
    else:
        weights.write_safetensors(path, conv_tensors())
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[: len(flipped) // 4] = b"\xff" * (len(flipped) // 4)
    for content in (b"", b"hello world", whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            weights.read_tensors(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_wrong_paths_are_explained(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        weights.read_tensors(tmp_path / "none.pth")
    with pytest.raises(UserError, match="is not a file"):
        weights.read_tensors(tmp_path)


def test_what_a_file_is_its_bytes_say(tmp_path):
    tensors = conv_tensors()
    weights.write_safetensors(tmp_path / "a.pth", tensors)
    np.savez(tmp_path / "b.npz", **tensors)
    os.rename(tmp_path / "b.npz", tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        _assert_equal(weights.read_tensors(tmp_path / name), tensors)
    for content, reason in (
        (b"", "is empty"),
        (b"any", "unknown kind of weight file, or damaged; jaxgen reads .safetensors, .npz"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run git lfs pull"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"\x1f\x8b\x08\x00", "unpack it first"),
        (bytes(257) + b"ustar" + bytes(250), "PyTorch before 0.2"),
    ):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(UserError) as error:
            weights.read_tensors(tmp_path / "w.pth")
        assert reason in str(error.value)
        assert "\n" not in str(error.value)
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as file:
        file.writestr("netG.pth", b"")
    with pytest.raises(UserError, match="a zip archive without weights: unpack it"):
        weights.read_tensors(tmp_path / "w.zip")


def test_torch_files_with_several_networks_keep_their_names(torch, tmp_path):
    g, d = conv_tensors(0), conv_tensors(1)
    d_in_parallel = {f"module.{key}": value for key, value in d.items()}
    checkpoint = {"netG": _as_torch(torch, g), "netD": _as_torch(torch, d_in_parallel), "epoch": 1}
    torch.save(checkpoint, tmp_path / "w.pth")
    named = {f"{name}.{k}": v for name, net in (("netG", g), ("netD", d)) for k, v in net.items()}
    _assert_equal(weights.read_tensors(tmp_path / "w.pth"), named)


def test_torch_files_without_a_state_dict_are_explained(torch, tmp_path):
    torch.save({"optimizer": {"lr": 0.1}, "epoch": 1}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="has no tensors, only: optimizer, epoch"):
        weights.read_tensors(tmp_path / "w.pth")
    torch.save([torch.ones(1)], tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds a list"):
        weights.read_tensors(tmp_path / "w.pth")
    torch.save({"a": torch.ones(1), "module.a": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="collide"):
        weights.read_tensors(tmp_path / "w.pth")


# -------------------------------------------------------------------------------- conversion

RULES = [
    Rule("body.{i}.rdb{j}.conv.weight", "params/block_{i}/rdb{j}/kernel", CONV),
    Rule("body.{i}.rdb{j}.conv.bias", "params/block_{i}/rdb{j}/bias"),
    Rule("bn.running_mean", "batch_stats/bn/mean"),
    *weights.module_rules("head", "params/head", DENSE),
    Rule("*.num_batches_tracked", None),
]


def _published():
    rng = np.random.default_rng(0)
    tensors = {"bn.running_mean": rng.standard_normal(5).astype(np.float32)}
    for i, j in ((0, 1), (10, 1), (10, 2)):
        tensors[f"body.{i}.rdb{j}.conv.weight"] = rng.standard_normal((4, 2, 3, 5))
        tensors[f"body.{i}.rdb{j}.conv.bias"] = rng.standard_normal(4)
    tensors["head.weight"] = rng.standard_normal((7, 3))
    tensors["head.bias"] = rng.standard_normal(7)
    return {key: value.astype(np.float32) for key, value in tensors.items()}


def _expected():
    def leaf(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def rdb():
        return {"kernel": leaf(3, 5, 2, 4), "bias": leaf(4)}

    blocks = {"block_0": {"rdb1": rdb()}, "block_10": {"rdb1": rdb(), "rdb2": rdb()}}
    head = {"kernel": leaf(3, 7), "bias": leaf(7)}
    return {"params": {**blocks, "head": head}, "batch_stats": {"bn": {"mean": leaf(5)}}}


def test_convert_and_back():
    tensors = _published()
    tracked = {"bn.num_batches_tracked": np.asarray(3)}
    tree = weights.convert(tensors | tracked, RULES, _expected())
    assert jax.tree.structure(tree) == jax.tree.structure(_expected())
    np.testing.assert_array_equal(
        tree["params"]["block_10"]["rdb2"]["kernel"],
        tensors["body.10.rdb2.conv.weight"].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(tree["params"]["head"]["kernel"], tensors["head.weight"].T)
    _assert_equal(weights.to_torch(tree, RULES), tensors)


def test_convert_takes_the_expected_dtype():
    tensors = {key: value.astype(np.float16) for key, value in _published().items()}
    tree = weights.convert(tensors, RULES, _expected())
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype(np.float32)}


def test_every_problem_is_in_one_error():
    tensors = _published()
    del tensors["body.0.rdb1.conv.bias"], tensors["head.bias"]
    tensors["body.3.rdb1.conv.bias"] = np.zeros(4)  # a rule, but no such block
    tensors["tail.weight"] = np.zeros(4)  # no rule
    tensors["head.weight"] = np.zeros((7, 4))
    tensors["bn.running_mean"] = np.zeros((5, 1))
    tensors["body.10.rdb1.conv.weight"] = np.zeros((4, 2))
    with pytest.raises(UserError) as error:
        weights.convert(tensors, RULES, _expected())
    message = str(error.value)
    assert "\n" not in message
    missing, extra, misshapen = message.split("; ")
    assert "2 missing" in missing
    assert "body.0.rdb1.conv.bias (for params/block_0/rdb1/bias)" in missing
    assert "head.bias (for params/head/bias)" in missing
    assert extra == "2 extra: body.3.rdb1.conv.bias, tail.weight"
    assert "3 misshapen" in misshapen
    assert "head.weight (7, 4) gives (4, 7) where params/head/kernel is (3, 7)" in misshapen
    assert "body.10.rdb1.conv.weight (4, 2) has not 4 dimensions" in misshapen
    assert "bn.running_mean (5, 1)" in misshapen


def test_two_tensors_for_one_place_are_an_error():
    rules = [Rule("a", "x"), Rule("b", "x")]
    expected = {"x": jax.ShapeDtypeStruct((1,), jnp.float32)}
    with pytest.raises(UserError, match="1 extra: b"):
        weights.convert({"a": np.zeros(1), "b": np.zeros(1)}, rules, expected)


def test_to_torch_names_what_no_rule_covers():
    with pytest.raises(UserError, match="2 uncovered: a/kernel, b"):
        weights.to_torch({"a": {"kernel": np.zeros(1)}, "b": np.zeros(1)}, RULES)


def test_templates():
    with pytest.raises(ValueError, match="fields differ"):
        Rule("a.{i}", "a")
    with pytest.raises(ValueError, match="left out"):
        Rule("*.a", "a")
    # Dots are dots, numbers are numbers, and a field that comes twice is the same number twice.
    expected = {"x_1": jax.ShapeDtypeStruct((1,), jnp.float32)}
    rules = [Rule("a.{i}.b{i}", "x_{i}")]
    weights.convert({"a.1.b1": np.zeros(1)}, rules, expected)
    for key in ("a.1.b2", "aX1.b1", "a.one.bone", "a.1.b1.c"):
        with pytest.raises(UserError, match=r"1 missing.*1 extra"):
            weights.convert({key: np.zeros(1)}, rules, expected)


def test_layouts_equal_torch(torch):
    """The same numbers come out of torch and of lax after each change of layout."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 6, 5)).astype(np.float32)  # (b, c, h, w)
    nhwc = jnp.asarray(x.transpose(0, 2, 3, 1))
    for groups in (1, 2, 8):
        w = rng.standard_normal((16, 8 // groups, 3, 3)).astype(np.float32)
        theirs = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), groups=groups)
        ours = jax.lax.conv_general_dilated(
            nhwc,
            CONV.to_jax(w),
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-4)
    flat = weights.dense_after_flatten(6, 5, 8)
    w = rng.standard_normal((11, 8 * 6 * 5)).astype(np.float32)
    theirs = torch.tensor(x).flatten(1) @ torch.tensor(w).T
    np.testing.assert_allclose(nhwc.reshape(2, -1) @ flat.to_jax(w), theirs, atol=1e-4)
    np.testing.assert_array_equal(flat.to_torch(flat.to_jax(w)), w)


def test_dense_after_flatten_of_another_size_is_reported():
    rules = [Rule("fc.weight", "fc/kernel", weights.dense_after_flatten(6, 5, 8))]
    expected = {"fc": {"kernel": jax.ShapeDtypeStruct((240, 11), jnp.float32)}}
    with pytest.raises(UserError, match=r"1 misshapen: fc.weight \(11, 200\) does not fit"):
        weights.convert({"fc.weight": np.zeros((11, 200))}, rules, expected)


def test_published_srgan_generator_reads(data_dir):
    tensors = weights.read_tensors(data_dir / "weights" / "leftthomas_netG_x4.pth")
    assert len(tensors) == 79
    assert tensors["block1.0.weight"].shape == (64, 3, 9, 9)
    statistics = ("running_mean", "running_var")
    assert sum(v.size for k, v in tensors.items() if not k.endswith(statistics)) == 734_092
    npz = weights.read_tensors(data_dir / "weights" / "realesr-animevideov3-x4.srvgg.npz")
    assert sum(v.size for v in npz.values()) == 621_424


def test_npz_with_a_damaged_member_is_named(tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", b"\x93NUMPY\x01\x00")
    with pytest.raises(UserError, match="cannot read weights"):
        weights.read_tensors(path)


def test_a_file_is_in_memory_once(tmp_path):
    """Its digest and its arrays are read from the same bytes: 4 GB need no 12."""
    path = tmp_path / "large.safetensors"
    weights.write_safetensors(path, {"g": {str(i): np.ones((250, 1000)) for i in range(4)}})
    tracemalloc.start()
    tree = weights.read_tree(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.3 * path.stat().st_size
    np.testing.assert_array_equal(tree["g"]["3"], np.ones((250, 1000)))
