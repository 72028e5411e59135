"""Inversions of pictures, against the originals' own runs (fixtures/diffusion)."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from support.diffusion import assert_near, golden
from support.editing_nets import Net, images

from jaxgen.diffusion.guidance import guide
from jaxgen.diffusion.schedules import Schedule
from jaxgen.edit import edit_friendly, null_text
from jaxgen.edit.path import ascend, check_ascent, descend, make_path
from jaxgen.errors import UserError

SCHEDULE = Schedule()


def under(net, context):
    """The net under one text, or one for each row."""
    return lambda x, t: net(x, t, jnp.broadcast_to(context, (len(x), *context.shape[-2:])))


def guided(net, asked, unasked, scale):
    """As `guidance.guided`, of texts (tokens, width) for all rows or (b, tokens, width)."""

    def led(x, t):
        texts = [jnp.broadcast_to(c, (len(x), *c.shape[-2:])) for c in (asked, unasked)]
        said = net(jnp.concatenate([x, x]), jnp.concatenate([t, t]), jnp.concatenate(texts))
        return guide(*jnp.split(said, 2), scale)

    return led


@pytest.fixture(scope="module")
def net(fixtures_dir):
    return Net(fixtures_dir)


@pytest.fixture(scope="module")
def file(fixtures_dir):
    return golden(fixtures_dir, "inversion")


def test_ddim_inversion(net, file):
    path = make_path(SCHEDULE, "eps", 10)
    np.testing.assert_array_equal(path.times, file["timesteps"])
    source = file["context"][0]
    states = net.run(lambda net, x: ascend(under(net, source), path, x), images(file["x0"]))
    # 10 x what float64 differs by (README).
    assert_near(states, images(file["ddim_traj"]), 1.2e-5)


@pytest.mark.slow  # a UNet's gradient, minutes of compiling; the next is of the same loop
def test_null_text_optimisation(net, file):
    meta, path = json.loads(str(file["meta"])), make_path(SCHEDULE, "eps", 10)
    states = jnp.asarray(images(file["ddim_traj"]))

    def run(net, states, epsilon):
        return null_text.null_text(
            under(net, file["context"][0]), lambda x, t, e: under(net, e)(x, t), path, states,
            jnp.asarray(file["uncond"]), meta["guidance"], inner=meta["inner"], epsilon=epsilon,
        )  # fmt: skip

    learnt = net.run(run, states, 1e-5)
    np.testing.assert_array_equal(learnt.counts, 3)
    assert_near(learnt.losses.reshape(-1), file["null_losses"])
    assert_near(learnt.embeddings, file["null_uncond"], 2e-3)
    assert_near(learnt.reconstruction, images(file["null_rec"])[-1], 2e-5)


@pytest.mark.slow
def test_null_text_stops_where_it_is_near_enough(fixtures_dir, net):
    file, path = golden(fixtures_dir, "null_text_stop"), make_path(SCHEDULE, "eps", 10)
    meta = json.loads(str(file["meta"]))

    def run(net, states):
        return null_text.null_text(
            under(net, file["cond"]), lambda x, t, e: under(net, e)(x, t), path, states,
            jnp.asarray(file["uncond0"]), meta["guidance"], inner=meta["max_inner"],
            epsilon=meta["epsilon"],
        )  # fmt: skip

    learnt = net.run(run, jnp.asarray(images(file["ddim_traj"])))
    np.testing.assert_array_equal(learnt.counts, file["inner_counts"])
    losses = np.asarray(learnt.losses)
    assert_near(losses[~np.isnan(losses)], file["losses"])
    assert_near(learnt.embeddings, file["learnt"], 2e-3)
    assert_near(learnt.reconstruction, images(file["rec"])[-1], 3e-5)


@pytest.mark.slow
def test_v_models_invert_by_the_level_of_the_sample(fixtures_dir):
    file, path = golden(fixtures_dir, "v_ddim_inversion"), make_path(SCHEDULE, "v", 10)
    net, context = Net(fixtures_dir, "sd2_unet_tiny"), file["context"][0]
    np.testing.assert_array_equal(path.times, file["rec_t"])
    inverted, back = images(file["inv"]), images(file["rec"])
    assert_near(net.run(lambda net, x: ascend(under(net, context), path, x), inverted[0]), inverted)
    assert_near(
        net.run(lambda net, x: descend(under(net, context), path, x), inverted[-1]), back[-1]
    )


def test_edit_friendly_noise(fixtures_dir, net):
    file, path = golden(fixtures_dir, "edit_friendly_ddpm"), make_path(SCHEDULE, "eps", 10)
    meta = json.loads(str(file["meta"]))
    source, target = file["context"]
    free, x0 = file["uncond"], images(file["x0"])

    def there(net, x, draws):
        return edit_friendly.noises_of(guided(net, source, free, meta["w_src"]), path, x, draws)

    found = net.run(there, x0, images(file["noise_in_call_order"]))
    assert_near(found.states[:, 0], images(file["xts"]))
    # The original writes them from the picture on.
    assert_near(found.noises[::-1, 0], images(file["zs"]))

    skip = meta["skip"]
    back = net.program(
        lambda net, x, noises, context, scale: edit_friendly.redraw(
            guided(net, context, free, scale), path.part(skip), x, noises
        )
    )
    rest = found.states[10 - skip], found.noises[skip:]
    assert_near(back(*rest, source, meta["w_src"]), images(file["rec"]), 2e-5)
    assert_near(back(*rest, target, meta["w_tgt"]), images(file["edit"]), 2e-5)


def test_a_flow_goes_up_and_comes_back():
    path = make_path(Schedule(kind="flow"), "flow", 50)
    x = jnp.linspace(-1, 1, 8).reshape(1, 2, 2, 2)

    def denoise(x, t):
        return 0.5 * x + t.reshape(-1, 1, 1, 1) / 1000

    states = ascend(denoise, path, x)
    assert len(states) == 51
    np.testing.assert_allclose(descend(denoise, path, states[-1]), x, atol=0.02)


def test_bad_paths_are_refused():
    with pytest.raises(UserError, match="leaves none to do"):
        make_path(SCHEDULE, "eps", 10, 0.05)
    with pytest.raises(UserError, match="strength is above 0"):
        make_path(SCHEDULE, "eps", 10, 1.5)
    with pytest.raises(UserError, match="1 to 1000 steps"):
        make_path(SCHEDULE, "eps", 0)


def test_a_net_of_x0_is_not_asked_for_the_noise_of_a_picture():
    check_ascent(Schedule(kind="flow"), "flow")
    check_ascent(SCHEDULE, "x0")
    with pytest.raises(UserError, match="cannot be inverted down to a picture without noise"):
        check_ascent(Schedule(kind="flow"), "x0")
