"""Data-parallel, FSDP and tensor-parallel runs on 8 devices equal one device; where arrays lie."""

import jax
import jax.numpy as jnp
import pytest
from helpers import STEADY, assert_close, checkpoint_arrays, run, tiny
from jax.sharding import PartitionSpec

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.models.srgan.discriminator import Discriminator
from jaxgen.train import mesh as meshes

CHANGES = {
    **STEADY,
    "train__steps": 7,
    "model__discriminator__head": "dense",
    "data__hr_size": 64,
}
RULES = (("dense_0/kernel", (None, "model")), ("dense_1/kernel", ("model", None)))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    run(tiny(**CHANGES), folder)
    return checkpoint_arrays(folder, 7)


@pytest.mark.parametrize(
    "mesh",
    [
        {"mesh__data": 8},
        {"mesh__fsdp": 8, "mesh__fsdp_min_size": 64},
        {"mesh__data": 2, "mesh__fsdp": 2, "mesh__model": 2, "mesh__rules": RULES},
    ],
    ids=["data", "fsdp", "data x fsdp x model"],
)
def test_eight_devices_equal_one(tmp_path, single, mesh):
    run(tiny(**CHANGES, **mesh), tmp_path, devices=8)
    many = checkpoint_arrays(tmp_path, 7)
    assert_close(single, many, 1e-5)


def test_srgan_dense_layer_of_102_million_is_sharded():
    settings = configs.base("srgan").mesh
    mesh = meshes.make_mesh({"data": 1, "fsdp": 8, "model": 1})
    shapes = jax.eval_shape(
        lambda: Discriminator().init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    )
    # Adam's moments follow their parameter: same shape, path ending in the parameter's.
    tree = {"params": {"d": shapes["params"]}, "opt": {"d": {"0": {"mu": shapes["params"]}}}}
    placed = meshes.state_shardings(tree, mesh, settings)
    kernel = shapes["params"]["dense_0"]["kernel"]
    assert kernel.shape == (100_352, 1024)
    for where in (placed["params"]["d"], placed["opt"]["d"]["0"]["mu"]):
        assert where["dense_0"]["kernel"].spec == PartitionSpec("fsdp", None)
        assert where["dense_0"]["kernel"].shard_shape(kernel.shape) == (12_544, 1024)
        assert where["conv_0"]["kernel"].spec == PartitionSpec()


def test_state_is_really_cut_in_memory(tmp_path):
    from jaxgen.train import loop
    from jaxgen.train.state import make_optimizers

    config = tiny(mesh__fsdp=8, mesh__fsdp_min_size=64, **CHANGES)
    mesh = meshes.make_mesh(config.mesh)
    task = loop.load_task(config)
    batch = {
        "lr": jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.uint8),
        "hr": jax.ShapeDtypeStruct((8, 64, 64, 3), jnp.uint8),
    }
    state = loop.fresh_state(task, make_optimizers(task, config), config, mesh, batch)
    kernel = state.params["d"]["dense_0"]["kernel"]
    assert kernel.addressable_data(0).size * 8 == kernel.size
    moment = state.opt["d"][0].mu["d"]["dense_0"]["kernel"]
    assert moment.sharding == kernel.sharding


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ({"data": 3}, "does not fit 8 devices"),
        ({"data": -1, "fsdp": -1}, "at most one -1"),
        ({"data": -1, "fsdp": 3}, "does not fit 8 devices"),
    ],
)
def test_impossible_mesh(mesh, message):
    with pytest.raises(UserError, match=message):
        meshes.make_mesh(mesh)


def test_batch_that_devices_cannot_share(tmp_path):
    with pytest.raises(
        UserError, match=r"train.batch_size=6 is not divisible by 8 .* multiple of 8"
    ):
        run(tiny(train__batch_size=6), tmp_path, devices=8)


def test_rule_that_does_not_divide_names_the_parameter():
    settings = configs.base("srgan").mesh
    settings.rules = (("kernel", (None, "model")),)
    mesh = meshes.make_mesh({"data": 1, "fsdp": 1, "model": 8})
    with pytest.raises(UserError, match=r"params/g/out/kernel \(4, 3\) over model=8"):
        meshes.partition_spec("params/g/out/kernel", (4, 3), mesh, settings)
