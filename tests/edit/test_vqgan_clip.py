"""The guide's parts against the originals', and a tiny run of it with random nets."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import devices
from jaxgen.edit.clamp import clamp_with_gradient
from jaxgen.edit.cutouts import Cutouts
from jaxgen.edit.vqgan_clip import VQGANCLIP, Prompts, Settings, prompt_loss, quantise
from jaxgen.models.vqgan.networks import Autoencoder
from jaxgen.models.vqgan.quantize import make
from jaxgen.nn.autoencoder import Decoder, Encoder


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    return np.load(fixtures_dir / "vqgan_clip_ops.npz")


def test_clamp(golden):
    x, weights = golden["clamp_in"], golden["clamp_gw"]
    np.testing.assert_array_equal(clamp_with_gradient(x), np.clip(x, 0, 1))
    slope = jax.grad(lambda x: jnp.sum(clamp_with_gradient(x) * weights))(x)
    np.testing.assert_allclose(slope, golden["clamp_grad"], atol=1e-5)


def test_quantise(golden):
    z, vectors = jnp.asarray(golden["vq_z"]), jnp.asarray(golden["vq_cb"])
    np.testing.assert_array_equal(quantise(z, vectors), golden["vq_q"])
    slope = jax.grad(lambda z: quantise(z, vectors).sum())(z)
    np.testing.assert_allclose(slope, golden["vq_grad"], atol=1e-5)


def test_prompt_loss(golden):
    seen, wanted = jnp.asarray(golden["inp"]), jnp.asarray(golden["emb"])

    def loss(seen, weight, stop):
        return prompt_loss(seen, wanted, jnp.array([weight]), jnp.array([stop]))

    for pair, want in json.loads(str(golden["prompt_losses"])).items():
        weight, stop = map(float, pair.strip("()").split(","))
        np.testing.assert_allclose(loss(seen, weight, stop), want, atol=1e-5)
    slope = jax.grad(loss)(seen, 1.0, 0.9)
    np.testing.assert_allclose(slope, golden["prompt_grad_stop09"], atol=1e-5)


def test_equal_and_opposite_directions_have_a_finite_gradient():
    seen = jnp.array([[1.0, 0.0], [-2.0, 0.0]])
    wanted, stops = jnp.array([[3.0, 0.0], [0.0, 0.0]]), jnp.full(2, -math.inf)
    found, slope = jax.value_and_grad(prompt_loss)(seen, wanted, jnp.array([1.0, 0.0]), stops)
    np.testing.assert_allclose(found, math.pi**2 / 4, atol=1e-2)
    assert np.isfinite(slope).all()


def nets_and_guide(settings):
    encoder = Encoder(8, (1, 1), 1, latent=4, groups=4)
    net = Autoencoder(
        encoder, Decoder(8, (1, 1), 1, latent=4, groups=4), make("vq", codes=32, width=4), 4
    )
    look = jax.random.normal(jax.random.key(1), (8 * 8 * 3, 16)) / 14
    nets = {"g": jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3))), "clip": look}
    table = jax.random.normal(jax.random.key(2), (32, 4))
    nets["g"]["params"]["quantize"]["embedding"] = table
    guide = VQGANCLIP(
        vectors=lambda nets: net.apply(nets["g"], method=lambda net: net.quantize.vectors()),
        paint=lambda nets, z: net.apply(nets["g"], z, method=Autoencoder.draw),
        judge=lambda nets, x: jnp.tanh(x.reshape(len(x), -1) @ nets["clip"]),
        settings=settings,
    )
    return nets, guide


# Without the warps and colours, which take most of the time to compile; test_cutouts.py has them.
CUTOUTS = Cutouts(8, 6, "crops", changes=("erase",), chunk=4)
SETTINGS = Settings(CUTOUTS, anchor_weight=0.1, smoothing=0.8)


@pytest.fixture(scope="module")
def run():
    return nets_and_guide(SETTINGS)


def seeds(*numbers):
    return np.array([[number, 8, 9] for number in numbers], np.uint32)


def wanted(seeds):
    features = jnp.stack([jax.random.normal(jax.random.key(s), (2, 16)) for s in seeds])
    weights = jnp.broadcast_to(jnp.array([[1.0, -0.3]]), (len(seeds), 2))
    return Prompts(features, weights, jnp.full((len(seeds), 2), -math.inf))


@pytest.mark.slow
def test_the_loss_falls_within_the_codebooks_range(run):
    nets, guide = run
    state = guide.random(nets, seeds(0, 1), 6, 5)
    before = guide.pictures(nets, state)
    state, first = guide.advance_program(nets, state, wanted([0, 1]), 10)
    state, _ = guide.advance_program(nets, state, wanted([0, 1]), 40)
    state, last = guide.advance_program(nets, state, wanted([0, 1]), 10)
    assert first.shape == (2,)
    assert (last < first - 0.1).all()
    vectors = guide.vectors(nets)
    assert (state.z <= vectors.max(0)[None, None, None]).all()
    assert (state.z >= vectors.min(0)[None, None, None]).all()
    after = guide.pictures(nets, state)
    assert after.shape == (2, 12, 10, 3)
    assert np.abs(after).max() <= 1
    assert np.abs(after - before).max() > 0.01
    # What is shown is painted of codes.
    shown = dataclasses.replace(guide, settings=Settings(Cutouts()))
    start = shown.start(nets, state.seeds, guide.codes(nets, state))
    np.testing.assert_allclose(shown.pictures(nets, start), after, atol=1e-5)


@pytest.mark.slow
def test_a_row_is_its_seeds_alone(run):
    nets, guide = run
    rows = guide.random(nets, seeds(5, 7, 5), 6, 5)
    rows, _ = guide.advance_program(nets, rows, wanted([5, 7, 5]), 4)
    one = guide.random(nets, seeds(7), 6, 5)
    one, _ = guide.advance_program(nets, one, wanted([7]), 4)
    np.testing.assert_array_equal(rows.z[0], rows.z[2])
    np.testing.assert_array_equal(rows.z[1], one.z[0])
    draw = jax.jit(guide.pictures)
    np.testing.assert_array_equal(draw(nets, rows)[1], draw(nets, one)[0])
    assert np.abs(rows.z[0] - rows.z[1]).max() > 0.1


def test_resumed_equals_uninterrupted(run):
    nets, guide = run
    state, prompts = guide.random(nets, seeds(0, 1), 6, 5), wanted([0, 1])
    whole, _ = guide.advance_program(nets, state, prompts, 8)
    part, _ = guide.advance_program(nets, state, prompts, 7)
    part = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, part))  # as if saved
    again, _ = guide.advance_program(nets, part, prompts, 1)
    jax.tree.map(np.testing.assert_array_equal, again, whole)


@pytest.mark.parametrize("anchor", ["start", "zero"])
def test_anchors(anchor):
    _, guide = nets_and_guide(Settings(Cutouts(), anchor=anchor, anchor_weight=0.6))
    z, start = jnp.full((3, 3, 4), 2.0), jnp.full((3, 3, 4), 0.5)
    want = 0.3 * 1.5**2 if anchor == "start" else 0.3 * 4 / 7
    np.testing.assert_allclose(guide._anchor(z, start, jnp.int32(3)), want, rtol=1e-6)


def test_the_running_mean_is_corrected(run):
    nets, guide = run
    state = guide.random(nets, seeds(0), 6, 5)
    np.testing.assert_array_equal(guide._shown(state), state.z)
    once, _ = guide.advance_program(nets, state, wanted([0]), 1)
    np.testing.assert_allclose(guide._shown(once), once.z, rtol=1e-5)


def test_views_spread_over_eight_devices_are_the_same(run):
    nets, guide = run
    # Six views on eight devices: two of them compute views that nobody asked for.
    spread = dataclasses.replace(guide, mesh=devices.mesh(jax.devices()))
    state = guide.random(nets, seeds(0, 1), 6, 5)
    one, loss = guide.advance_program(nets, state, wanted([0, 1]), 3)
    everywhere = devices.replicate((nets, state, wanted([0, 1])), jax.devices())
    many, same = spread.advance_program(*everywhere, 3)
    np.testing.assert_allclose(same, loss, atol=1e-5)
    np.testing.assert_allclose(many.z, one.z, atol=1e-4)
