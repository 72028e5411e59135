"""The losses and phases of text-to-image GANs, on networks small enough to work out by hand."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, checkpoint_arrays

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.losses import text_to_image
from jaxgen.models import dfgan
from jaxgen.nn.text import BagOfWords, Drawn, Judgement, Text
from jaxgen.nn.unet_discriminator import UNetDiscriminator
from jaxgen.task import Due
from jaxgen.tasks.common import to_float
from jaxgen.tasks.t2i import task as t2i
from jaxgen.tasks.t2i.config import t2i_config, t2i_loss
from jaxgen.tasks.t2i.losses import T2ILosses
from jaxgen.train import loop
from jaxgen.train.tally import NonFiniteError
from jaxgen.weights.checkpoints import read_metrics

N, B, E = 16, 6, 4
KEY = jax.random.key(0)


class Painter(nn.Module):
    """Flat colours: the first three numbers of the sentence plus z, times a parameter."""

    noise: tuple[int, ...] = (3,)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z, text, train=False):
        gain = self.param("gain", nn.initializers.ones, (1, 1))
        colour = gain * (z + text.sentence[:, :3])
        return Drawn(image=jnp.broadcast_to(colour[:, None, None], (len(z), N, N, 3)))


class Mean(nn.Module):
    """Logits: a mean over the picture plus one over the sentence, each times a parameter."""

    pixels: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, sentences, train=False):
        a = self.param("a", nn.initializers.constant(0.5), (1,))
        b = self.param("b", nn.initializers.constant(2.0), (1,))
        maps = a.reshape(1, 1, 1) * x.mean(axis=3)
        return tuple(
            Judgement(
                pair=maps.mean(axis=(1, 2)) + b * s.mean(axis=1),
                pixels=maps if self.pixels else None,
            )
            for s in sentences
        )


class Square(nn.Module):
    """Logit w |x|^2 / 2: its gradient's norm is w |x|, another one for each picture."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, sentences, train=False):
        w = self.param("w", nn.initializers.constant(0.1), (1,))
        logit = 0.5 * w * jnp.sum(jnp.square(x), axis=(1, 2, 3))
        return tuple(Judgement(pair=logit + 0.0 * s.sum(axis=1)) for s in sentences)


def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (B, N, N, 3)), jnp.uint8),
        "tokens": jnp.asarray(rng.integers(0, 10, (B, 5)), jnp.int32),
        "mask": jnp.asarray(np.arange(5)[None] < rng.integers(1, 6, (B, 1))),
        "meaning": jnp.asarray([0, 0, 1, 2, 2, 2], jnp.int32),
    }


def make(discriminator=None, trained_by="g", **loss):
    """(losses, params) of the networks above."""
    config = t2i_config("dfgan", loss=t2i_loss(**loss))
    config.model.text.trained_by = trained_by
    config.model.damsm_steps = 0
    losses = T2ILosses(BagOfWords(10, E), Painter(), discriminator or Mean(), config)
    params, mutable = losses.init(KEY, batch())
    assert mutable == {}
    return losses, params


def sentences_of(losses, params):
    return losses.read(params, batch(), KEY).sentence


# ---- pairs ---------------------------------------------------------------------------------------


def test_pairs_without_another_meaning_do_not_count():
    """A batch of one meaning: no term and no NaN; a mixed one: that of the sentences taken."""
    losses, params = make(kind="lsgan", real=0.0, fake=0.0, mismatch=1.0)
    images = losses.judge(params, {}, to_float(batch()["image"]), (jnp.zeros((B, E)),), KEY)
    part = images[0][0].pair
    sentence = sentences_of(losses, params)
    partner = np.array([2, 2, 3, 0, 0, 0])
    expected = 0.5 * jnp.square(part + 2.0 * sentence[partner].mean(axis=1))
    for same, value in ((False, expected.mean()), (True, 0.0)):
        data = batch() | ({"meaning": jnp.zeros(B, jnp.int32)} if same else {})
        found, _ = losses.discriminate(params, {}, {}, data, KEY, jnp.int32(0))
        assert float(found) == pytest.approx(float(value), rel=1e-5)


# ---- heads and terms -----------------------------------------------------------------------------


def test_d_and_g_weigh_pixels_and_whole_pictures():
    """hinge on constants: every term is known."""
    losses, _ = make(pixels=0.25, fake=0.5, mismatch=0.5, image_real=0.3, image_fake=0.7)

    def judged(pair, image, pixels):
        return Judgement(jnp.full(2, pair), jnp.full(2, image), jnp.full((2, 4, 4), pixels))

    right, mis, made = judged(0.5, 0.25, 0.1), judged(-0.5, 9.0, 0.2), judged(0.0, 0.5, 0.3)
    whole = 0.5 + 0.5 * 1.0 + 0.5 * 0.5 + 0.3 * 0.75 + 0.7 * 1.5
    pixels = 0.9 + 0.5 * 1.3 + 0.5 * 1.2
    found = text_to_image.judge_loss(losses.loss, right, mis, jnp.ones(2), made)
    assert float(found) == pytest.approx(0.75 * whole + 0.25 * pixels)
    assert float(text_to_image.fool_loss(losses.loss, made)) == pytest.approx(
        -(0.75 * 0.5 + 0.25 * 0.3)
    )
    plain = [dataclasses.replace(one, pixels=None, image=None) for one in (right, mis, made)]
    value = text_to_image.judge_loss(losses.loss, plain[0], plain[1], jnp.zeros(2), plain[2])
    assert float(value) == pytest.approx(0.5 + 0.5)
    assert float(text_to_image.fool_loss(losses.loss, plain[2])) == 0.0


def test_both_phases_see_the_same_noise():
    """So the generator's forward pass can be shared; with micro-batches each draws its own."""
    losses, params = make()
    keys, step = jax.random.split(KEY), jnp.int32(7)
    _, (_, d) = losses.discriminate(params, {}, {}, batch(), keys[0], step)
    _, (_, g) = losses.generate(params, {}, {}, batch(), keys[1], step)
    assert float(g["adversarial"]) == pytest.approx(-float(d["fake"]), rel=1e-6)

    def noise(key, step):
        return np.asarray(losses.noise(key, batch(), step))

    np.testing.assert_array_equal(noise(keys[0], step), noise(keys[1], step))
    assert not np.array_equal(noise(keys[0], step), noise(keys[0], step + 1))
    losses.config.train.accumulate = 2
    assert not np.array_equal(noise(keys[0], step), noise(keys[1], step))


def test_interpolated_texts_are_halfway_between_two():
    """GAN-INT: Painter and Mean are linear, so the mean over z is that of the sentences' means."""
    losses, params = make(interpolate=1.0)
    text = Text(
        words=jnp.arange(B * 5 * E, dtype=jnp.float32).reshape(B, 5, E),
        mask=batch()["mask"],
        sentence=jnp.asarray(np.random.default_rng(1).normal(size=(B, E)), jnp.float32),
    )
    drew = []
    original = losses.draw

    def draw(params, mutable, text, z):
        drew.append((text, z))
        return original(params, mutable, text, z)

    losses.draw = draw
    value = losses._interpolated(params, {}, text, KEY)
    ((between, z),) = drew
    half = 0.5 * (text.sentence[:3] + text.sentence[3:])
    np.testing.assert_allclose(between.sentence, half)
    np.testing.assert_allclose(between.words, 0.5 * (text.words[:3] + text.words[3:]))
    assert (between.mask.dtype, between.mask.shape) == (bool, (3, 5))
    logits = 0.5 * (z + half[:, :3]).mean(axis=1) + 2.0 * half.mean(axis=1)
    assert float(value) == pytest.approx(-float(logits.mean()), rel=1e-5)


def test_generators_terms_are_weighed_and_added():
    """Painter's pictures differ by |z_a - z_b|: the mode-seeking loss is 1 / (1 + 1e-5)."""
    losses, params = make(mode_seeking=3.0, interpolate=0.5)
    value, (_, parts) = losses.generate(params, {}, {}, batch(), KEY, jnp.int32(0))
    assert set(parts) == {"adversarial", "mode_seeking", "interpolate"}
    assert float(parts["mode_seeking"]) == pytest.approx(3.0, rel=1e-4)
    assert float(value) == pytest.approx(float(sum(parts.values())), rel=1e-6)


# ---- penalties -----------------------------------------------------------------------------------


def test_penalty_and_quantiles_of_a_linear_discriminator():
    """Mean: gradients of a / (n * n * 3) at each pixel and b / e at each number of the sentence."""
    losses, params = make(magp=2.0)
    _, (_, metrics) = losses.discriminate(params, {}, {}, batch(), KEY, jnp.int32(0))
    square = 0.5**2 / (N * N * 3) + 2.0**2 / E
    assert float(metrics["magp"]) == pytest.approx(2 * square**3, rel=1e-5)
    for p in (10, 50, 90):
        assert float(metrics[f"input_norm/p{p}"]) == pytest.approx(square**0.5, rel=1e-5)


def test_quantiles_are_those_of_the_pairs_norms():
    losses, params = make(Square(), magp=2.0, r1=4.0)
    _, (_, metrics) = losses.discriminate(params, {}, {}, batch(), KEY, jnp.int32(0))
    pictures = np.asarray(to_float(batch()["image"]), np.float64)
    norms = 0.1 * np.sqrt(np.square(pictures).sum(axis=(1, 2, 3)))
    for p in (10, 50, 90):
        expected = np.quantile(norms, p / 100)
        assert float(metrics[f"input_norm/p{p}"]) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["magp"]) == pytest.approx(2 * np.mean(norms**6), rel=1e-4)
    assert float(metrics["r1"]) == pytest.approx(2 * np.mean(norms**2), rel=1e-4)


@pytest.mark.parametrize("gain", [0.1, 0.0])
def test_lazy_penalty_has_the_same_mean_and_expected_gradient(gain):
    """Every third step, three times as strong; a silent D (gain 0) gives zeros, not NaN."""
    data, found = batch(), {}
    for every in (1, 3):
        losses, params = make(Square(), magp=2.0, r1=1.0, penalty_every=every)
        phase = t2i.d_phase("d", ("d",), losses, start=2)

        def compute(step, losses=losses, params=params, phase=phase):
            lazy = Due.at((phase,), step).lazy

            def value(w):
                now = phase.lazy.loss if lazy else phase.loss
                changed = {**params, "d": {"w": w}}
                total, (_, metrics) = now(changed, {}, {}, data, KEY, jnp.int32(0))
                return total, metrics

            (_, metrics), gradient = jax.value_and_grad(value, has_aux=True)(jnp.full(1, gain))
            return {"magp": 0.0, "r1": 0.0, **metrics, "gradient": gradient}

        found[every] = [compute(step) for step in (2, 3, 4)]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    kept = ("magp", "r1", "real", "gradient")
    lazily, always = ([{k: f[k] for k in kept} for f in found[every]] for every in (3, 1))
    mean = jax.tree.map(lambda *x: sum(x) / 3, *lazily)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), mean, always[0])
    now, *later = [float(metrics["magp"]) for metrics in lazily]
    assert later == [0.0, 0.0]
    assert (now > 0) == (gain > 0)


def test_cutmix_is_for_discriminators_with_pixels():
    losses, params = make(cutmix=1.0)
    with pytest.raises(UserError, match="U-Net discriminator"):
        losses.discriminate(params, {}, {}, batch(), KEY, jnp.int32(0))
    # Pixel by pixel: no inconsistency, whatever the augmentation before.
    losses, params = make(Mean(pixels=True), cutmix=1.0, cutmix_probability=1.0, augment="cutout")
    _, (_, metrics) = losses.discriminate(params, {}, {}, batch(), KEY, jnp.int32(3))
    assert float(metrics["cutmix_consistency"]) < 1e-10
    assert float(metrics["cutmix_augmentation"]) > 0.1


# ---- mixed precision -----------------------------------------------------------------------------


def mixed(form="own", **changes):
    """(losses of DF-GAN at 16 px in bfloat16, shapes of its params and of its state)."""
    config = configs.load(
        f"{REPOSITORY}/configs/dfgan.py:tiny",
        {"train.dtype": "bfloat16", "data.size": N, "model.discriminator.form": form, **changes},
    )
    losses = T2ILosses(
        t2i.make_text_encoder(config),
        dfgan.task.make_generator(config),
        dfgan.task.make_discriminator(config),
        config,
    )
    params, mutable = jax.eval_shape(losses.init, KEY, batch())
    assert {leaf.dtype for leaf in jax.tree.leaves((params, mutable))} == {jnp.dtype("float32")}
    return losses, params, mutable


@pytest.mark.parametrize("form", ["own", "unet"])
def test_logits_losses_and_gradients_are_float32_in_a_bfloat16_run(form):
    more = {"model.loss.cutmix": 1.0} if form == "unet" else {}
    losses, params, mutable = mixed(form, **more)
    picture = jax.ShapeDtypeStruct((B, N, N, 3), jnp.float32)
    sentence = jax.ShapeDtypeStruct((B, 8), jnp.bfloat16)
    judged, _ = jax.eval_shape(
        lambda p, m, x, s: losses.judge(p, m, x, (s,), KEY), params, mutable, picture, sentence
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(judged)} == {jnp.dtype("float32")}
    for loss in (losses.discriminate, losses.generate):

        def both(params, mutable, loss=loss):
            value = lambda p: loss(p, mutable, {}, batch(), KEY, jnp.int32(0))  # noqa: E731
            return jax.value_and_grad(value, has_aux=True)(params)

        found = jax.eval_shape(both, params, mutable)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    assert isinstance(losses.discriminator, UNetDiscriminator) == (form == "unet")


def test_the_penalty_runs_in_its_own_dtype():
    """penalty_dtype float32 by default: no bfloat16 in its forward pass or either gradient."""
    picture = jax.ShapeDtypeStruct((B, N, N, 3), jnp.float32)
    sentence = jax.ShapeDtypeStruct((B, 8), jnp.float32)
    for dtype, expected in (("float32", False), ("", True)):
        losses, params, mutable = mixed(**{"model.loss.penalty_dtype": dtype})

        def gradient(d, x, s, losses=losses, params=params, mutable=mutable):
            value = lambda d: losses.penalty({**params, "d": d}, mutable, x, s, KEY)[0]  # noqa: E731
            return jax.value_and_grad(value)(d)

        program = str(jax.make_jaxpr(gradient)(params["d"], picture, sentence))
        assert ("bf16[" in program) == expected


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def simple(monkeypatch):
    """A function that trains Painter against Mean, with MA-GP at every second step."""
    monkeypatch.setattr(dfgan.task, "make_generator", lambda config: Painter())
    monkeypatch.setattr(dfgan.task, "make_discriminator", lambda config: Mean())

    def train(workdir, **changes):
        changes = {f"train.{key}": value for key, value in changes.items()}
        config = configs.load(
            f"{REPOSITORY}/configs/dfgan.py:tiny",
            {
                "data.size": N, "train.eval_every": -1, "train.log_every": 2,
                "model.loss.magp": 2.0, **changes,
            },
        )  # fmt: skip
        return loop.train(config, workdir, devices=jax.devices()[:1])

    return train


@pytest.fixture
def broken_at_3(monkeypatch):
    """At step 3 alone, phase d sees a parameter of D that is NaN."""
    original = T2ILosses.discriminate

    def broken(self, params, mutable, frozen, batch, rng, step, **penalized):
        worse = jax.tree.map(lambda p: jnp.where(step == 3, jnp.nan, p), params["d"])
        changed = {**params, "d": worse}
        return original(self, changed, mutable, frozen, batch, rng, step, **penalized)

    monkeypatch.setattr(T2ILosses, "discriminate", broken)


def test_skips_count_and_quantiles_are_logged(tmp_path, simple, broken_at_3):
    simple(tmp_path, steps=6, max_skips=2)
    arrays = checkpoint_arrays(tmp_path, 6)
    assert all(np.isfinite(v).all() for v in arrays.values())
    counts = {k: int(v) for k, v in arrays.items() if k.startswith("opt/") and "count" in k}
    assert {v for k, v in counts.items() if k.startswith("opt/d/")} == {5}  # of six
    assert {v for k, v in counts.items() if k.startswith("opt/g/")} == {6}
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert [line.get("skipped_updates") for line in lines] == [None, 1.0, None]
    square = 0.5**2 / (N * N * 3) + 2.0**2 / 8  # see the linear discriminator above
    for p in (10, 50, 90):
        # Once in two steps, twice as strong; D has hardly moved.
        assert lines[0][f"d/input_norm/p{p}"] == pytest.approx(square**0.5, rel=1e-2)
    assert lines[0]["d/magp"] == pytest.approx(2 * square**3, rel=5e-2)
    for line in lines:
        assert all(np.isfinite(v) for v in line.values() if isinstance(v, float))


def test_too_many_skips_stop_the_run(tmp_path, simple, broken_at_3):
    with pytest.raises(NonFiniteError, match=r"loss of phase 'd' is NaN or infinite at step 3;"):
        simple(tmp_path, steps=6, max_skips=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.gan_stop": 2}, "model.gan_stop=2 leaves nothing to train until train.steps=4"),
        ({"model.text.kind": "lstm", "model.text.width": 7}, "width=7 must be even"),
        ({"model.text.kind": "transformer", "model.text.width": 6}, "multiple of model.text.heads"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    config = configs.load(f"{REPOSITORY}/configs/dfgan.py:tiny", changes)
    with pytest.raises(UserError, match=message):
        dfgan.make_task(config)
