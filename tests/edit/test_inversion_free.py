"""Edits without inversion, against the originals' own runs (fixtures/diffusion)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.diffusion import assert_near, golden
from support.editing_nets import Net, images
from test_inversion import guided, under

from jaxgen.diffusion import sampling
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.schedules import Schedule
from jaxgen.edit import delta, diffedit, imagic, low_rank
from jaxgen.edit.inversion_free import shift_path
from jaxgen.edit.path import Path, descend, make_path
from jaxgen.weights.keymap import flatten

SCHEDULE = Schedule()


@pytest.fixture(scope="module")
def net(fixtures_dir):
    return Net(fixtures_dir)


@pytest.mark.parametrize("case", ["default", "avg2", "nmin", "full"])
def test_flowedit(fixtures_dir, case):
    file = golden(fixtures_dir, "flowedit")
    meta = json.loads(str(file["meta"]))[case]
    schedule = Schedule(kind="flow", shift=meta["shift"])
    path = make_path(schedule, "flow", 20, spacing="linspace")
    if meta["shift"] == 3:
        np.testing.assert_allclose(path.times, file["timesteps_shift3"], rtol=1e-6)
    path = path.part(20 - meta["n_max"])

    def net(x, t, e):
        mixed = jnp.einsum("dc,bhwc->bhwd", file["W"], x) + (file["C"] @ e.reshape(-1)).reshape(
            1, 1, 1, 4
        )
        return 1.2 * jnp.tanh(mixed + file["b"].reshape(1, 1, 1, 4) * jnp.cos(jnp.pi * t[0] / 1000))

    def led(e, scale):
        return lambda x, t: (
            net(x, t, file["e_neg"]) + scale * (net(x, t, e) - net(x, t, file["e_neg"]))
        )

    noise = jnp.asarray(images(file["noise"]))
    found = shift_path(
        led(file["e_src"], meta["src_guidance_scale"]),
        led(file["e_tar"], meta["tar_guidance_scale"]),
        path, jnp.asarray(images(file["x_src"])), lambda i: noise[i],
        average=meta.get("n_avg", 1), tail=meta.get("n_min", 0),
    )  # fmt: skip
    assert_near(found, images(file[case]))


@pytest.mark.parametrize("grid", ["ddim_grid", pytest.param("lcm_grid", marks=pytest.mark.slow)])
def test_ddcm(fixtures_dir, net, grid):
    """The picture that is in the path's mind after its last step; its noise does not reach that."""
    file = golden(fixtures_dir, "ddcm_infedit")
    meta, times = json.loads(str(file["meta"])), file[f"{grid}:t"]
    kept = SCHEDULE.alphas_cumprod
    above = np.stack([np.sqrt(kept[times]), np.sqrt(1 - kept[times])], 1).astype(np.float32)
    below = np.concatenate([above[1:], [[1, 0]]]).astype(np.float32)
    path = Path(times.astype(np.float32), above, below, "eps")
    source, target = file["context"]
    x0, noise = images(file["x0"]), images(file["noise"])
    # The original begins at noise itself, not at the picture under noise.
    noise[0] = (noise[0] - above[0, 0] * x0) / above[0, 1]
    noise = jnp.asarray(noise)

    def run(net, x):
        return shift_path(
            guided(net, source, file["uncond"], meta["w_src"]),
            guided(net, target, file["uncond"], meta["w_tgt"]),
            path, x, lambda i: noise[i], eta=1.0,
        )  # fmt: skip

    assert_near(net.run(run, jnp.asarray(x0)), images(file[f"{grid}:pred_x0"])[-1], 2e-5)


def test_the_same_caption_changes_nothing_and_a_mask_keeps_the_rest():
    path = make_path(SCHEDULE, "v", 6)
    x = jnp.linspace(-1, 1, 32).reshape(1, 4, 4, 2)
    noise = jax.random.normal(jax.random.key(0), (7, *x.shape))

    def net(add):
        return lambda x, t: jnp.tanh(x) + add

    same = shift_path(net(0.0), net(0.0), path, x, lambda i: noise[i])
    np.testing.assert_allclose(same, x, atol=1e-5)
    mask = jnp.zeros((1, 4, 4, 1)).at[:, :2].set(1.0)
    for tail in (0, 2):
        other = shift_path(
            net(0.0), net(1.0), path, x, lambda i: noise[i], mask=mask, tail=tail, average=1
        )
        np.testing.assert_array_equal(other[:, 2:], x[:, 2:])
        assert np.abs(other[:, :2] - x[:, :2]).max() > 0.1


def test_dds(fixtures_dir, net):
    file = golden(fixtures_dir, "dds")
    meta = json.loads(str(file["meta"]))
    source, target = file["context"]
    x, noise = jnp.asarray(images(file["z_source"])), jnp.asarray(images(file["eps"]))

    def run(net, x):
        before, after = (guided(net, c, file["uncond"], meta["guidance"]) for c in (source, target))
        return delta.delta_denoise(
            before, after, SCHEDULE.levels, "eps", x, jnp.asarray(file["t"], jnp.float32),
            lambda i: noise[i], meta["lr"],
        )  # fmt: skip

    # In float64 ours is 1.0e-5 from the golden run, which is float32's, and 1.4e-5 from ours here.
    assert_near(net.run(run, x), images(file["z_traj"]), 2e-5)


@pytest.mark.parametrize(
    "case",
    ["ddim|0.3", *(pytest.param(c, marks=pytest.mark.slow) for c in ("dpmpp2m|0.3", "euler|0.6"))],
)
def test_sdedit(fixtures_dir, net, case):
    """The verb's img2img with a net of ours in one program."""
    file, (name, strength) = golden(fixtures_dir, "sdedit_img2img"), case.split("|")
    sampler, spacing = {
        "ddim": ("ddim", "leading"), "dpmpp2m": ("dpmpp-2m", "linspace"),
        "euler": ("euler", "leading"),
    }[name]  # fmt: skip
    plan = make_plan(SCHEDULE, "eps", sampler, 10, spacing=spacing, strength=float(strength))

    def run(net, noise, x):
        led = guided(net, file["context"], file["uncond"], 7.5)
        return sampling.sample(led, plan, noise, x)

    drawn = net.run(run, images(file["noise"]), images(file["x0"]))
    assert_near(drawn, images(file[case]))


def test_diffedit_finds_where_two_texts_differ():
    x = jnp.zeros((1, 8, 8, 2))
    inside = jnp.zeros((1, 8, 8, 1)).at[:, 2:4, 2:4].set(1.0)
    draws = jax.random.normal(jax.random.key(0), (3, *x.shape))
    found = diffedit.difference_mask(
        lambda x, t: x, lambda x, t: x + inside + 0.01, SCHEDULE.levels, "eps", x,
        jnp.full(1, 500), draws,
    )  # fmt: skip
    np.testing.assert_array_equal(found, inside)


@pytest.mark.slow  # two gradients of a UNet, two minutes of compiling
def test_imagic(fixtures_dir):
    file = golden(fixtures_dir, "imagic")
    meta = json.loads(str(file["meta"]))
    net = Net(fixtures_dir)
    module, variables = net.module, net.variables
    x0, noises = jnp.asarray(images(file["x0"])), jnp.asarray(images(file["noises"]))
    times = jnp.asarray(file["timesteps"], jnp.float32)[:, None]
    first = meta["emb_steps"]

    def embed(net, e):
        return imagic.fit_picture(
            lambda e, x, t: net(x, t, e), e, SCHEDULE.levels, "eps", x0, times[:first],
            lambda i: noises[i], meta["emb_lr"],
        )  # fmt: skip

    embedding, losses = net.run(embed, jnp.asarray(file["e_target"]))
    assert_near(losses, file["losses"][:first])
    assert_near(embedding, file["e_opt"])
    tuned, losses = jax.jit(
        lambda v: imagic.fit_picture(
            lambda v, x, t: module.apply(v, x, t, embedding), v, SCHEDULE.levels, "eps", x0,
            times[first:], lambda i: noises[first + i], meta["ft_lr"],
        )
    )(variables)  # fmt: skip
    assert_near(losses, file["losses"][first:])
    last = tuned["params"]["conv_out"]["kernel"].transpose(3, 2, 0, 1)
    assert_near(last, file["after:conv_out.weight"])
    path = make_path(SCHEDULE, "eps", meta["steps"])

    @jax.jit
    def draw(tuned, share):
        asked = imagic.between(jnp.asarray(file["e_target"]), embedding, share)
        led = guided(
            lambda x, t, c: module.apply(tuned, x, t, c), asked, file["uncond"], meta["guidance"]
        )
        return descend(led, path, images(file["x_T"]))

    for share in meta["alphas"]:
        assert_near(draw(tuned, share), images(file[f"sample_alpha{share:g}"]), 4e-5)


def test_low_rank_changes_begin_at_nothing_and_learn(fixtures_dir):
    params = {
        "attn1": {"q": {"kernel": jnp.ones((6, 4))}},
        "conv": {"kernel": jnp.ones((3, 3, 2, 2)), "bias": jnp.zeros(2)},
    }
    change = low_rank.begin(params, 2, jax.random.key(0))
    assert list(change) == ["attn1/q/kernel"]
    for path, leaf in flatten(low_rank.added(params, change)).items():
        np.testing.assert_array_equal(leaf, flatten(params)[path])
    x = jnp.full((1, 2, 3, 4), 0.5)

    def predict(change, x, t):
        return x * low_rank.added(params, change)["attn1"]["q"]["kernel"].mean()

    learnt, losses = imagic.fit_picture(
        predict, change, SCHEDULE.levels, "eps", x, jnp.full((60, 4), 500.0),
        lambda i: jax.random.normal(jax.random.key(0), (4, 2, 3, 4)), 0.1,
    )  # fmt: skip
    # All that can be learnt is one factor of what the net sees: least squares says the best.
    eps = jax.random.normal(jax.random.key(0), (4, 2, 3, 4))
    alpha, sigma = (level[0] for level in SCHEDULE.levels(jnp.full(1, 500.0)))
    noisy = alpha * x + sigma * eps
    best = jnp.mean(jnp.square((noisy * eps).sum() / jnp.square(noisy).sum() * noisy - eps))
    assert losses[0] > best + 5e-4
    np.testing.assert_allclose(losses[-1], best, rtol=1e-3)
    assert np.abs(learnt["attn1/q/kernel"]["up"]).max() > 0


def test_under_gives_each_row_its_text():
    said = under(lambda x, t, c: c, jnp.arange(4.0).reshape(2, 2, 1))(jnp.zeros((2, 1)), None)
    np.testing.assert_array_equal(said[:, :, 0], [[0, 1], [2, 3]])
