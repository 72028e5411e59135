"""What a user may ask of samplers: grids, mistakes, seeds, steps without compiling, inpainting."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.diffusion import masks, sampling
from jaxgen.diffusion.plans import FLOW_SAMPLERS, GRIDS, SAMPLERS, make_plan
from jaxgen.diffusion.schedules import Schedule
from jaxgen.errors import UserError

SHAPE = (4, 4, 3)


def pull(x, t):  # a net that always has the same picture in mind, as eps of a schedule would say
    return 0.5 * x + 0.1 * jnp.sin(3 * x) * (t / 1000)[:, None, None, None]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_grids_of_every_number_of_steps(sampler):
    spacings = {"inverse-ddim": ("leading", "trailing"), "lcm": (None,)}
    for spacing, steps in itertools.product(
        spacings.get(sampler, ("leading", "linspace", "trailing")), (1, 2, 3, 7, 50, 333, 999, 1000)
    ):
        if steps > 50 and GRIDS[sampler] == "consistency":
            continue
        if steps > 900 and GRIDS[sampler] == "multistep" and spacing != "trailing":
            steps = 998
        plan = make_plan(Schedule(), "v", sampler, steps, spacing=spacing)
        calls = {"heun": 2 * steps - 1, "pndm": steps + (steps > 1)}.get(sampler, steps)
        assert plan.calls == calls
        assert len(plan.times) % 64 == 0
        for array in (plan.factors, plan.x0, plan.levels, plan.times):
            assert np.isfinite(array).all()
        times = plan.times[:calls]
        assert times.min() >= 0
        assert times.max() <= 999
        distinct = np.unique(times)
        assert len(distinct) == min(steps, calls), (spacing, steps)
    with pytest.raises(UserError, match=f"sampler {sampler} takes 1 to .* steps here, not 1001"):
        make_plan(Schedule(), "v", sampler, 1001)
    with pytest.raises(UserError, match="not 0"):
        make_plan(Schedule(), "v", sampler, 0)


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "lcm"])
def test_zero_snr_is_finite(sampler):
    eta = {"eta": 1.0} if sampler == "ddim" else {}
    for steps in (1, 10, 20, 25):  # published DDIM gives NaN at 25
        plan = make_plan(Schedule(zero_snr=True), "v", sampler, steps, **eta)
        assert np.isfinite(plan.factors).all()
    keys = jax.random.split(jax.random.key(0), 2)
    x = sampling.sample(
        pull, plan, sampling.first_noise(keys, SHAPE), draw=sampling.noise_of(keys, SHAPE)
    )
    assert np.isfinite(x).all()
    assert plan.times[0] == 999 or sampler == "inverse-ddim"


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
def test_flow_samplers_agree_where_there_are_many_steps(sampler):
    schedule = Schedule("flow", shift=2.0)
    noise = jax.random.normal(jax.random.key(0), (2, *SHAPE))

    def run(sampler, steps):
        return sampling.sample(pull, make_plan(schedule, "flow", sampler, steps), noise)

    truth = run("heun", 300)
    assert np.abs(run(sampler, 300) - truth).max() < 0.01
    assert np.abs(run("euler", 20) - truth).max() > np.abs(run("heun", 20) - truth).max()


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp-2m", "unipc", "ddim", "lms", "pndm"])
def test_a_net_that_knows_the_picture_draws_it(sampler):
    """Whatever the steps, the picture is reached: exactly, or to what noise DDIM leaves."""
    picture = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    schedule = Schedule()
    plan = make_plan(schedule, "x0", sampler, 12)
    noise = jax.random.normal(jax.random.key(2), picture.shape)
    drawn = sampling.sample(lambda x, t: picture, plan, noise)
    assert np.abs(drawn - picture).max() < (0.12 if sampler in ("ddim", "pndm") else 1e-5)


def test_a_pictures_noise_is_its_keys_alone():
    keys = jax.random.split(jax.random.key(7), 3)
    plan = make_plan(Schedule(), "v", "euler-a", 6)

    def run(keys):
        noise = sampling.first_noise(keys, SHAPE)
        return sampling.sample(pull, plan, noise, draw=sampling.noise_of(keys, SHAPE))

    together = run(keys)
    for i in range(3):
        np.testing.assert_array_equal(run(keys[i : i + 1])[0], together[i])
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_steps_and_strength_change_without_compiling():
    compiled = jax.jit(lambda plan, noise, source: sampling.sample(pull, plan, noise, source))
    noise = jax.random.normal(jax.random.key(0), (1, *SHAPE))
    results = []
    for steps, strength in ((10, 1.0), (20, 0.5), (50, 0.3), (64, 1.0)):
        plan = make_plan(Schedule(), "v", "dpmpp-2m", steps, strength=strength)
        results.append(np.asarray(compiled(plan, noise, 0.1 * noise)))
    assert compiled._cache_size() == 1
    assert all(np.abs(a - b).max() > 1e-4 for a, b in itertools.pairwise(results))


def test_in_parts_is_the_whole_and_shows_the_way():
    plan = make_plan(Schedule(), "v", "unipc", 9)
    noise = jax.random.normal(jax.random.key(0), (1, *SHAPE))
    whole = sampling.sample(pull, plan, noise)
    part = jax.jit(lambda state, a, b: sampling.advance(pull, plan, state, a, b))
    state, seen = sampling.begin(plan, noise), []
    for first, last in ((0, 2), (2, 7), (7, 9)):
        state = part(state, first, last)
        seen.append(state.x0)
    np.testing.assert_allclose(state.x, whole, atol=1e-6)
    assert len({float(x.sum()) for x in seen}) == 3
    np.testing.assert_allclose(seen[-1], whole, atol=1e-5)  # the last x0 is the picture


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "inverse-ddim"])
def test_inpainting_is_exact_outside(sampler):
    plan = make_plan(Schedule(), "v", sampler, 5)
    keys = jax.random.split(jax.random.key(0), 2)
    noise = sampling.first_noise(keys, SHAPE)
    source = jax.random.normal(jax.random.key(1), noise.shape)
    mask = jnp.zeros((1, 4, 4, 1)).at[:, 1:3, 1:3].set(1)
    held = sampling.Held(source, mask, noise)
    drawn = sampling.sample(pull, plan, noise, draw=sampling.noise_of(keys, SHAPE), held=held)
    outside = np.broadcast_to(np.asarray(mask) == 0, drawn.shape)
    np.testing.assert_array_equal(np.asarray(drawn)[outside], np.asarray(source)[outside])
    assert np.abs(drawn - source)[~outside].min() > 0


def test_masks():
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    wide, mask = masks.canvas(picture, 4, 0, 0, 4)
    assert wide.shape == (12, 16, 3)
    assert mask.shape == (12, 16)
    np.testing.assert_array_equal(wide[:8, 4:], picture)
    assert mask.sum() == 12 * 16 - 8 * 12
    np.testing.assert_array_equal(wide[0, :4], np.broadcast_to(picture[0, 0], (4, 3)))
    read = masks.read_mask(np.where(mask[..., None], 255, 0).astype(np.uint8), 12, 16)
    np.testing.assert_array_equal(read, mask)
    for wrong, says in (
        (lambda: masks.read_mask(mask, 8, 12), "the mask is 16x12, the picture 12x8"),
        (lambda: masks.read_mask(np.zeros((8, 12), np.uint8), 8, 12), "selects nothing"),
        (lambda: masks.canvas(picture, 0, 0, 0, 0), "adds pixels"),
        (lambda: masks.canvas(picture, 0, 0, 0, -1), "adds pixels"),
    ):
        with pytest.raises(UserError, match=says):
            wrong()


FLOW, ZERO = Schedule("flow"), Schedule(zero_snr=True)


@pytest.mark.parametrize(
    ("schedule", "target", "sampler", "steps", "options", "says"),
    [
        (Schedule(), "eps", "dpm++", 20, {}, "no sampler 'dpm\\+\\+'"),
        (Schedule(), "eps", "eular", 20, {}, "did you mean euler"),
        (Schedule(), "eps", "ddim", 20, {"spacing": "even"}, "no spacing 'even'"),
        (Schedule(), "eps", "ddim", 20, {"eta": 1.5}, "eta is from 0 to 1"),
        (Schedule(), "eps", "ddim", 20, {"eta": float("nan")}, "eta is from 0 to 1"),
        (Schedule(), "eps", "euler", 20, {"eta": 0.5}, "eta is DDIM's"),
        (Schedule(), "eps", "ddim", 20, {"karras": True}, "Karras' sigmas go with"),
        (Schedule(), "eps", "ddim", 20, {"strength": 0.0}, "strength is above 0"),
        (Schedule(), "eps", "ddim", 20, {"strength": 0.03}, "take 34 steps or more"),
        (Schedule(), "eps", "inverse-ddim", 20, {"spacing": "linspace"}, "by a stride"),
        (Schedule(), "eps", "lcm", 51, {}, "takes 1 to 50 steps"),
        (Schedule(), "eps", "unipc", 1000, {}, "takes 1 to 999 steps"),
        (Schedule(), "eps", "ddim", 2.5, {}, "not 2.5"),
        (ZERO, "eps", "ddim", 20, {}, "train with target v or x0"),
        (ZERO, "v", "ddim", 20, {"spacing": "leading"}, "spacing trailing"),
        (ZERO, "v", "lcm", 4, {}, "spacing trailing"),
        (FLOW, "flow", "ddim", 20, {}, "does not go with a flow"),
        (FLOW, "flow", "euler", 20, {"karras": True}, "Karras' sigmas and a flow"),
        (FLOW, "flow", "euler", 20, {"spacing": "leading"}, "trailing or linspace"),
        (FLOW, "eps", "euler", 20, {}, "take target flow or x0"),
    ],
)
def test_what_does_not_go_together_is_said_before_the_first_step(
    schedule, target, sampler, steps, options, says
):
    with pytest.raises(UserError, match=says) as caught:
        make_plan(schedule, target, sampler, steps, **options)
    assert "\n" not in str(caught.value)


def test_a_picture_is_the_same_on_eight_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    shared = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    keys = jax.random.split(jax.random.key(3), 8)
    plan = make_plan(Schedule(), "v", "euler-a", 4)

    @jax.jit
    def run(plan, keys):
        noise = sampling.first_noise(keys, SHAPE)
        return sampling.sample(pull, plan, noise, draw=sampling.noise_of(keys, SHAPE))

    spread = run(plan, jax.device_put(keys, shared))
    assert len(spread.sharding.device_set) == 8
    np.testing.assert_array_equal(spread, run(plan, keys))
