"""A checkpoint saved on 8 devices is restored on 2, and that on 1: the same numbers."""

import jax
import numpy as np
from helpers import assert_bitwise, checkpoint_arrays, run, tiny

from jaxgen.weights.checkpoints import load_for_use


def test_eight_to_two_to_one(tmp_path):
    changes = {"model__discriminator__head": "dense", "mesh__fsdp_min_size": 64}
    run(tiny(train__steps=5, mesh__fsdp=8, **changes), tmp_path, devices=8)
    saved = checkpoint_arrays(tmp_path, 5)
    # No step is left to do: what is written next is what was read.
    for devices, fsdp in ((2, 2), (1, 1)):
        config = tiny(train__steps=5, mesh__fsdp=fsdp, **changes)
        restored = restored_arrays(config, tmp_path, devices)
        assert_bitwise(saved, restored)
    # And training goes on from there.
    assert run(tiny(train__steps=6, mesh__fsdp=2, **changes), tmp_path, devices=2).step == 6


def restored_arrays(config, workdir, devices):
    """Restores with the shardings of `devices` devices, saves elsewhere, reads that."""
    from jaxgen.train import loop
    from jaxgen.train import mesh as meshes
    from jaxgen.train.checkpoint import Checkpoints
    from jaxgen.train.state import make_optimizers

    mesh = meshes.make_mesh(config.mesh, jax.devices()[:devices])
    task = loop.load_task(config)
    batch = {
        "lr": jax.ShapeDtypeStruct((8, 8, 8, 3), np.uint8),
        "hr": jax.ShapeDtypeStruct((8, 32, 32, 3), np.uint8),
    }
    like = loop.fresh_state(task, make_optimizers(task, config), config, mesh, batch)
    checkpoints = Checkpoints(workdir)
    state, step = checkpoints.restore_latest(like)
    checkpoints.close()
    assert len(state.params["d"]["dense_0"]["kernel"].sharding.device_set) == devices
    copy = Checkpoints(workdir / f"copy{devices}")
    copy.save(step, state)
    copy.close()
    return checkpoint_arrays(workdir / f"copy{devices}", step)


def test_use_reads_averages_and_no_more(tmp_path):
    run(tiny(train__steps=5), tmp_path)
    arrays = checkpoint_arrays(tmp_path, 5)
    nets, step = load_for_use(tmp_path, nets=("g",))
    assert step == 5
    assert set(nets) == {"g"}
    kernel = nets["g"]["params"]["conv_in"]["kernel"]
    assert isinstance(kernel, np.ndarray)
    np.testing.assert_array_equal(kernel, arrays["ema_g/params/conv_in/kernel"])
    assert (kernel != arrays["net_g/params/conv_in/kernel"]).any()
