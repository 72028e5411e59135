"""Inversion and what edits by it, against the originals' own runs (fixtures/diffusion)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.diffusion import assert_near, golden
from support.editing_nets import images, predict

from jaxgen.diffusion.guidance import guide
from jaxgen.diffusion.schedules import Schedule
from jaxgen.edit import edit_friendly, inversion, null_text
from jaxgen.edit.path import ascend, descend, make_path
from jaxgen.errors import UserError

SCHEDULE = Schedule()


def under(net, context):
    """The net under one text, or one for each row."""
    return lambda x, t: net(x, t, jnp.broadcast_to(context, (len(x), *context.shape[-2:])))


def guided(net, asked, unasked, scale):
    """As `guidance.guided`, of texts (tokens, width) for all rows or (b, tokens, width)."""
    return lambda x, t: guide(under(net, asked)(x, t), under(net, unasked)(x, t), scale)


@pytest.fixture(scope="module")
def net(fixtures_dir):
    return predict(fixtures_dir)


@pytest.fixture(scope="module")
def file(fixtures_dir):
    return golden(fixtures_dir, "inversion")


def test_ddim_inversion_and_its_offsets(net, file):
    path = make_path(SCHEDULE, "eps", 10)
    np.testing.assert_array_equal(path.times, file["timesteps"])
    x0, (source, _) = images(file["x0"]), file["context"]
    states = jax.jit(lambda x: ascend(under(net, source), path, x))(x0)
    assert_near(states, images(file["ddim_traj"]))
    led = guided(net, file["context"], file["uncond"], 7.5)
    rows = jnp.repeat(states, 2, axis=1)
    found = jax.jit(lambda s: inversion.offsets(led, path, s))(rows)
    # 10 x what float64 differs by (README): the net multiplies differences by 7.5.
    assert_near(found, images(file["direct_offsets"]), 5.6e-5)


def test_direct_inversion_gives_the_picture_back(net, file):
    path = make_path(SCHEDULE, "eps", 10)
    states = jnp.asarray(images(file["ddim_traj"]))[:, 0]
    led = guided(net, file["context"], file["uncond"], 7.5)
    found = jax.jit(lambda s: inversion.direct(led, path, s, 2))(states)
    np.testing.assert_array_equal(found[0], states[0])
    assert np.abs(found[1] - states[0]).max() > 0.1


def test_negative_prompt_inversion_s_parts(file):
    source = file["context"][0]
    found = inversion.slerp(0.3, file["uncond"], source)
    assert (
        min(
            np.abs(found - file["npi_slerp0p3"]).max(),
            np.abs(inversion.slerp(0.7, file["uncond"], source) - file["npi_slerp0p3"]).max(),
        )
        < 1e-5
    )
    d = jnp.asarray([-4.0, -1.0, 0.5, 2.0, 3.0])
    np.testing.assert_array_equal(inversion.proximal(d, 0.5), [-4, 0, 0, 0, 3])
    np.testing.assert_array_equal(inversion.proximal(d, 0.5, shrink=True), [-2, 0, 0, 0, 1])


def test_null_text_optimisation(net, file):
    meta, path = json.loads(str(file["meta"])), make_path(SCHEDULE, "eps", 10)
    states = jnp.asarray(images(file["ddim_traj"]))

    def run(states, epsilon):
        return null_text.null_text(
            under(net, file["context"][0]), lambda x, t, e: under(net, e)(x, t), path, states,
            jnp.asarray(file["uncond"]), meta["guidance"], inner=meta["inner"], epsilon=epsilon,
        )  # fmt: skip

    learnt = jax.jit(run)(states, 1e-5)
    np.testing.assert_array_equal(learnt.counts, 3)
    assert_near(learnt.losses.reshape(-1), file["null_losses"])
    assert_near(learnt.embeddings, file["null_uncond"], 2e-3)
    assert_near(learnt.reconstruction, images(file["null_rec"])[-1], 8e-5)


def test_null_text_stops_where_it_is_near_enough(fixtures_dir, net):
    file, path = golden(fixtures_dir, "null_text_stop"), make_path(SCHEDULE, "eps", 10)
    meta = json.loads(str(file["meta"]))

    def run(states):
        return null_text.null_text(
            under(net, file["cond"]), lambda x, t, e: under(net, e)(x, t), path, states,
            jnp.asarray(file["uncond0"]), meta["guidance"], inner=meta["max_inner"],
            epsilon=meta["epsilon"],
        )  # fmt: skip

    learnt = jax.jit(run)(jnp.asarray(images(file["ddim_traj"])))
    np.testing.assert_array_equal(learnt.counts, file["inner_counts"])
    losses = np.asarray(learnt.losses)
    assert_near(losses[~np.isnan(losses)], file["losses"])
    assert_near(learnt.embeddings, file["learnt"], 2e-3)
    assert_near(learnt.reconstruction, images(file["rec"])[-1], 3e-5)


def test_v_models_invert_by_the_level_of_the_sample(fixtures_dir):
    file, path = golden(fixtures_dir, "v_ddim_inversion"), make_path(SCHEDULE, "v", 10)
    net = under(predict(fixtures_dir, "sd2_unet_tiny"), file["context"][0])
    np.testing.assert_array_equal(path.times, file["rec_t"])
    inverted, back = images(file["inv"]), images(file["rec"])
    assert_near(jax.jit(lambda x: ascend(net, path, x))(inverted[0]), inverted)
    assert_near(jax.jit(lambda x: descend(net, path, x))(inverted[-1]), back[-1])


def test_edit_friendly_noise(fixtures_dir, net):
    file, path = golden(fixtures_dir, "edit_friendly_ddpm"), make_path(SCHEDULE, "eps", 10)
    meta = json.loads(str(file["meta"]))
    source, target = file["context"]
    free, x0 = file["uncond"], images(file["x0"])

    def there(x, draws):
        return edit_friendly.noises_of(guided(net, source, free, meta["w_src"]), path, x, draws)

    found = jax.jit(there)(x0, images(file["noise_in_call_order"]))
    assert_near(found.states[:, 0], images(file["xts"]))
    # The original writes them from the picture on.
    assert_near(found.noises[::-1, 0], images(file["zs"]), 1e-4)

    def back(context, scale, skip):
        led = guided(net, context, free, scale)
        x, noises = found.states[10 - skip], found.noises[skip:]
        return jax.jit(lambda x, n: edit_friendly.redraw(led, path.part(skip), x, n))(x, noises)

    assert_near(back(source, meta["w_src"], meta["skip"]), images(file["rec"]), 2e-5)
    assert_near(back(target, meta["w_tgt"], meta["skip"]), images(file["edit"]), 2e-5)


@pytest.mark.parametrize("target", ["flow", "x0"])
def test_a_flow_goes_up_and_comes_back(target):
    path = make_path(Schedule(kind="flow"), "flow", 50)
    x = jnp.linspace(-1, 1, 8).reshape(1, 2, 2, 2)

    def denoise(x, t):  # of a picture that is 0.3 everywhere: the velocity is (x - 0.3) / time
        return (x - 0.3) / (t.reshape(-1, 1, 1, 1) / 1000)

    states = ascend(denoise, path, x)
    assert len(states) == 51
    back = descend(denoise, path, states[-1])
    assert np.isfinite(np.asarray(back)).all()


def test_bad_paths_are_refused():
    with pytest.raises(UserError, match="leaves none to do"):
        make_path(SCHEDULE, "eps", 10, 0.05)
    with pytest.raises(UserError, match="strength is above 0"):
        make_path(SCHEDULE, "eps", 10, 1.5)
    with pytest.raises(UserError, match="1 to 1000 steps"):
        make_path(SCHEDULE, "eps", 0)
