"""Autoencoders: phases, the whole generator's gradient, data without captions, evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from PIL import Image

from jaxgen import config as configs
from jaxgen.data.captioned import depth, segmentation
from jaxgen.data.captioned.examples import train_pictures
from jaxgen.data.captioned.records import validation_data
from jaxgen.data.pipeline import train_dataset
from jaxgen.errors import UserError
from jaxgen.models.vqgan.task import VQGANLosses, make_autoencoder, make_task
from jaxgen.task import Due
from jaxgen.tasks.autoencoder.losses import adaptive_weight, load_perceptual
from jaxgen.tasks.autoencoder.task import make_discriminator
from jaxgen.train import loop

TINY = f"{REPOSITORY}/configs/vqgan.py:tiny"


def tiny(**changes):
    return configs.load(TINY, {key.replace("__", "."): value for key, value in changes.items()})


def batch_of(task, config):
    records, transform = task.train_data()
    return train_dataset(records, transform, batch_size=config.train.batch_size, seed=0)[0]


def losses_of(config):
    return VQGANLosses(make_autoencoder(config), make_discriminator(config), config, "photo")


@pytest.mark.parametrize(
    ("start", "warmup", "due"),
    [
        (3, 1, [("pretrain",), ("pretrain",), ("pretrain", "d"), ("d", "g")]),
        (2, 5, [("pretrain", "d"), ("pretrain", "d"), ("d", "g")]),
        (0, 0, [("d", "g")]),
        (-1, 0, [("pretrain",), ("pretrain",)]),
    ],
)
def test_the_discriminator_is_warm_before_it_counts(start, warmup, due):
    phases = make_task(tiny(model__gan_start=start, model__d_warmup=warmup)).phases
    assert [Due.at(phases, step).phases for step in range(len(due))] == due


def test_without_a_gan_there_is_no_discriminator():
    config = tiny(model__gan_start=-1)
    task = make_task(config)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch_of(task, config))
    assert list(params) == ["g"]


@pytest.mark.parametrize("adaptive", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_generator_s_gradient_is_that_of_the_formula(adaptive):
    """Which goes back through D once and through the decoder once; here it is written out."""
    config = tiny(model__loss__adaptive=adaptive, model__loss__perceptual=0.3)
    losses, task = losses_of(config), make_task(config)
    batch = batch_of(task, config)
    params, mutable = task.init(jax.random.key(0), batch)
    rng, step, frozen = jax.random.key(1), jnp.asarray(3), {"perceptual": load_perceptual(config)}
    x = losses.pictures(batch)

    def near(y):
        return losses.distance(frozen, y, x)[0]

    def fool(y):
        return -losses.judge(params, mutable, y)[0].mean()

    def apart(g):
        made, _ = losses.reconstruct({**params, "g": g}, mutable, batch, rng, step)
        weight = 1.0
        if adaptive:
            picture = jax.lax.stop_gradient(made.picture)
            kernel, most = g["decoder"]["conv_out"]["kernel"], config.model.loss.adaptive_most
            gradients = jax.grad(near)(picture), jax.grad(fool)(picture)
            weight = adaptive_weight(made.hidden, kernel, *gradients, most)
        return near(made.picture) + made.loss, 0.1 * weight * fool(made.picture)

    def ours(g):
        return losses.generate({**params, "g": g}, mutable, frozen, batch, rng, step)[0]

    assert config.model.loss.adversarial == 0.1
    value, found = jax.jit(jax.value_and_grad(ours))(params["g"])
    wanted = [jax.jit(jax.value_and_grad(lambda g, i=i: apart(g)[i]))(params["g"]) for i in (0, 1)]
    np.testing.assert_allclose(value, wanted[0][0] + wanted[1][0], rtol=1e-6)
    most = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found))
    for to_g, to_near, to_fool in zip(
        *map(jax.tree.leaves, (found, wanted[0][1], wanted[1][1])), strict=True
    ):
        # The two are opposed, and what is left of them has the rounding errors of the larger one;
        # and a bias before a softmax has no gradient but for these.
        scale = max(1e-2 * most, *(float(jnp.abs(leaf).max()) for leaf in (to_near, to_fool)))
        np.testing.assert_allclose(to_g, to_near + to_fool, rtol=0, atol=1e-5 * scale)


def test_the_adaptive_weight_of_patches_is_that_of_the_last_kernel_s_gradients():
    """Where the last convolution makes 2 x 2 pixels of a place."""
    config = tiny(data__size=16)
    with config.unlocked():
        config.model.autoencoder.patch = 2
    losses, task = losses_of(config), make_task(config)
    batch = batch_of(task, config)
    params, mutable = jax.jit(task.init)(jax.random.key(0), batch)
    x = losses.pictures(batch)
    rng = np.random.default_rng(0)
    weigh = [jnp.asarray(rng.normal(size=x.shape), jnp.float32) for _ in range(2)]

    def made(params):
        return losses.reconstruct(params, mutable, batch, jax.random.key(1), jnp.asarray(3))[0]

    def norms(params):
        back = jax.vjp(lambda g: made({**params, "g": g}).picture, params["g"])[1]
        return [jnp.linalg.norm(back(w)[0]["decoder"]["conv_out"]["kernel"]) for w in weigh]

    near, fool = jax.jit(norms)(params)
    result = made(params)
    assert result.picture.shape == x.shape
    assert result.hidden.shape[1] == x.shape[1] // 2
    kernel = params["g"]["decoder"]["conv_out"]["kernel"]
    found = adaptive_weight(result.hidden, kernel, *weigh, 1e4)
    np.testing.assert_allclose(found, near / (fool + 1e-4), rtol=1e-5)


def test_discriminator_sees_what_the_generator_is_judged_by():
    """One reconstruction serves both phases: with drawn codes, too."""
    config = tiny()
    losses, task = losses_of(config), make_task(config)
    batch = batch_of(task, config)
    params, mutable = task.init(jax.random.key(0), batch)
    a, b = (
        losses.reconstruct(params, mutable, batch, jax.random.key(i), jnp.asarray(5))[0]
        for i in (0, 1)
    )
    np.testing.assert_array_equal(a.picture, b.picture)


def test_temperature_falls_by_a_cosine():
    config = tiny(model__temperature__steps=10)
    losses = losses_of(config)
    at = [float(losses.schedules(jnp.asarray(step))["temperature"]) for step in (0, 5, 10, 99)]
    np.testing.assert_allclose(at, [1.0, (1 + 0.0625) / 2, 0.0625, 0.0625], rtol=1e-6)


# -------------------------------------------------------------------------------- other pictures


def folder(path, count, make):
    path.mkdir()
    for i in range(count):
        make(np.random.default_rng(i)).save(path / f"{i}.png")
    return path


def photo(rng):
    return Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8))


def classes(rng):
    values = rng.integers(0, 5, (20, 30)).astype(np.uint8)
    values[0] = 255  # none
    return Image.fromarray(values)


def rgba_depth(rng):
    values = rng.random((20, 30), np.float32) * 7 + 2
    return Image.fromarray(values.view(np.uint8).reshape(20, 30, 4), "RGBA")


def conditioned(tmp_path, source, make, **changes):
    path = folder(tmp_path / source, 10, make)
    return tiny(data__source=source, data__path=str(path), data__crop="random", **changes)


def test_plain_pictures_need_no_captions(tmp_path):
    data = conditioned(tmp_path, "plain", photo).data
    records, transform = train_pictures(data)
    held = validation_data(data, captioned=False)
    assert (len(records), len(held)) == (9, 1)
    assert not {r["_name"] for r in (records[i] for i in range(9))} & {held[0]["_name"]}
    example = train_dataset(records, transform, batch_size=4, seed=0)[0]
    assert {k: (v.shape, v.dtype) for k, v in example.items()} == {
        "image": ((4, 16, 16, 3), np.uint8)
    }
    with pytest.raises(UserError, match="has pictures without captions; this family needs some"):
        validation_data(data)


def test_a_folder_without_pictures_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    config = tiny(data__source="plain", data__path=str(tmp_path / "empty"))
    with pytest.raises(UserError, match="holds no pictures"):
        make_task(config).train_data()


def test_segmentation_s_classes_and_none(tmp_path):
    path = folder(tmp_path / "s", 1, classes) / "0.png"
    values = np.asarray(Image.open(path))
    found = segmentation.read_classes(path)
    assert (found[0] == 0).all()
    np.testing.assert_array_equal(found[1:], values[1:] + 1)
    photo(np.random.default_rng(0)).save(tmp_path / "photo.png")
    with pytest.raises(UserError, match="gray or palette picture of classes, not RGB"):
        segmentation.read_classes(tmp_path / "photo.png")


def test_depth_maps_of_all_kinds(tmp_path):
    rng = np.random.default_rng(0)
    wanted = rng.random((20, 30), np.float32) * 7 + 2
    rgba_depth(np.random.default_rng(0)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(depth.read_depth(tmp_path / "rgba.png"), wanted)
    deep = (wanted * 1000).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(depth.read_depth(tmp_path / "deep.png"), deep)
    stretched = depth.stretched(wanted)
    assert (stretched.min(), stretched.max()) == (-1.0, 1.0)
    assert (depth.stretched(np.ones((2, 2), np.float32)) == -1).all()


@pytest.mark.parametrize(
    ("source", "make", "metric", "changes"),
    [
        (
            "segmentation", classes, "right",
            {
                "model__channels": 6, "model__gan_start": -1, "model__loss__pixel_kind": "bce",
                "model__loss__perceptual": 0.0,
            },
        ),
        pytest.param(
            "depth", rgba_depth, "psnr_rgb", {"model__channels": 1}, marks=pytest.mark.slow
        ),
    ],
)  # fmt: skip
def test_conditioning_pictures_train(tmp_path, source, make, metric, changes):
    config = conditioned(tmp_path, source, make, **changes)
    result = loop.train(config, tmp_path / "run", devices=jax.devices()[:1])
    assert result.stopped == "done"
    assert np.isfinite(result.metrics[metric])
    assert 0 < result.metrics["usage"] <= 1
