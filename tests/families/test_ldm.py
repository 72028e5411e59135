"""Latent diffusion: what is learned, and what its verb makes of options, pictures and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.tiny_ldm import tiny_drawer, tiny_latent_config, tiny_ldm_config, tiny_nets

from jaxgen.errors import UserError
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.models.ldm.task import make_task, parts
from jaxgen.models.ldm.unet import _located
from jaxgen.verbs.generate.stepwise import Watch

# Less to compile, where attention is not what is tested.
PLAIN = {"model__denoiser__middle_attention": False}
TEXTS = ["a large red circle", "a small blue square"]


@pytest.fixture(scope="module")
def drawer():
    return tiny_drawer(tiny_ldm_config())


@pytest.fixture(scope="module")
def latent_drawer():
    """Among latents of 2 pixels on a side."""
    return tiny_drawer(tiny_latent_config())


def programs(drawer):
    return sum(program._cache_size() for program in drawer.verb.stepwise._programs)


@pytest.fixture
def photo():
    return np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)


# --------------------------------------------------------------------------------- what is learned


class Silent:
    """A denoiser that says zero of everything."""

    def apply(self, variables, x, t, **asked):
        return jnp.zeros_like(x)


@pytest.mark.parametrize(
    ("target", "schedule"),
    [("flow", "flow"), ("eps", "scaled-linear"), ("v", "cosine"), ("x0", "linear")],
)
def test_the_error_of_a_net_that_says_nothing_is_the_targets_square(target, schedule):
    config = tiny_ldm_config(model__target=target, model__schedule__kind=schedule)
    losses = LDMLosses(config)
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8),
        "tokens": np.zeros((2, 12), np.int32),
        "mask": np.ones((2, 12), bool),
    }
    losses.net = Silent()
    nets = {"g": {}, "text": jax.tree.map(jnp.zeros_like, tiny_nets(config)["text"])}
    t = jnp.array([100.0, 700.0])
    key = jax.random.key(3)
    found = losses.errors(nets, {}, batch, key, t)

    noise = np.asarray(jax.random.normal(jax.random.split(key)[1], (2, 16, 16, 3)))
    x = batch["image"] / 127.5 - 1.0
    alpha, sigma = (np.asarray(a)[:, None, None, None] for a in losses.schedule.levels(t))
    wanted = {"flow": noise - x, "eps": noise, "v": alpha * noise - sigma * x, "x0": x}[target]
    np.testing.assert_allclose(found, (wanted**2).mean(axis=(1, 2, 3)), rtol=1e-5)


def test_the_first_steps_are_at_the_noisiest_times():
    """`times.early`: what the net is told in the steps before it, and from it on."""
    told = []

    class Told(Silent):
        def apply(self, variables, x, t, **asked):
            told.append(np.asarray(t))
            return super().apply(variables, x, t, **asked)

    config = tiny_ldm_config()
    config.model.times.update(density="uniform", early=3)
    losses = LDMLosses(config)
    losses.net = Told()
    nets = tiny_nets(config)
    params = {net: tree["params"] for net, tree in nets.items()}
    size = config.data.size
    batch = {
        "image": np.zeros((64, size, size, 3), np.uint8),
        "tokens": np.zeros((64, config.data.length), np.int32),
        "mask": np.ones((64, config.data.length), bool),
    }
    for step in (2, 3):
        losses.loss(params, {}, {}, batch, jax.random.key(0), jnp.int32(step))
    assert 900 <= told[0].min() < told[0].max() <= 1000
    assert told[1].min() < 200
    np.testing.assert_allclose(told[0], 900 + told[1] / 10, rtol=1e-5)


def test_a_config_of_before_early_times_learns_as_without_them():
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8),
        "tokens": np.zeros((2, 12), np.int32),
        "mask": np.ones((2, 12), bool),
    }
    found = []
    for config in (tiny_ldm_config(model__times__early=0), tiny_ldm_config()):
        with config.unlocked():
            if config.model.times.early:
                del config.model.times.early
        losses = LDMLosses(config)
        losses.net = Silent()
        params = {"g": {}, "text": tiny_nets(config)["text"]["params"]}
        found.append(losses.loss(params, {}, {}, batch, jax.random.key(3), 0)[0])
    np.testing.assert_array_equal(*found)


def test_dropped_conditions_ask_for_nothing():
    condition = LDMLosses(tiny_ldm_config()).condition
    prompt = condition.read(TEXTS[0])
    tokens, mask = (np.stack([a] * 400) for a in (prompt.tokens, prompt.mask))
    dropped = condition.dropped(jax.random.key(0), tokens, mask, 0.25)
    empty = condition.read("")
    gone = (np.asarray(dropped[0]) == empty.tokens).all(axis=1)
    assert 70 < gone.sum() < 130
    np.testing.assert_array_equal(np.asarray(dropped[1])[gone], [empty.mask] * gone.sum())
    np.testing.assert_array_equal(np.asarray(dropped[0])[~gone], tokens[~gone])


def test_where_a_place_is_and_a_texts_one_vector_reach_the_net():
    losses = LDMLosses(tiny_ldm_config())
    nets = tiny_nets(losses.config)
    assert nets["g"]["params"]["conv_in"]["kernel"].shape == (3, 3, 4 * 3 + 2, 8)
    where = np.asarray(_located(jnp.zeros((1, 2, 3, 1))))[0]
    np.testing.assert_array_equal(where[..., 1], [[-1, 0, 1]] * 2)
    np.testing.assert_array_equal(where[..., 2], [[-1] * 3, [1] * 3])
    prompt = losses.condition.read(TEXTS[0])
    tokens, mask = prompt.tokens[None], prompt.mask[None]
    asked = losses.condition.embed(nets["text"], tokens, mask)
    sentence = losses.condition.encoder.apply(nets["text"], tokens, mask).sentence
    np.testing.assert_array_equal(asked["label"], sentence)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__target": "eps"}, "target eps and schedule flow do not go together"),
        (
            {"model__schedule__kind": "linear", "model__schedule__zero_snr": True,
             "model__target": "eps"},
            "zero_snr do not go together",
        ),
        ({"model__condition": "none"}, "set model.drop_condition=0"),
        ({"model__condition": "class"}, "needs model.classes"),
        ({"model__denoiser__patch": 3}, "patch=3 does not divide the 16 places"),
        ({"model__denoiser__groups": 3}, "no multiple of model.denoiser.groups=3"),
        ({"data__embeddings": "x"}, "leaves no text encoder to train"),
        ({"model__latents": "x"}, "needs the autoencoder that made them"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(UserError, match=message):
        make_task(tiny_ldm_config(**changes))


def test_parts_that_there_is_no_use_for():
    config = tiny_ldm_config(model__condition="none", model__drop_condition=0.0, parts__text="x")
    with pytest.raises(UserError, match=r"parts\.text is of model\.condition=text"):
        parts(config)


# ------------------------------------------------------------------------------------ what is drawn


def test_a_picture_is_the_same_in_any_batch_and_however_it_is_watched(drawer):
    seen = []

    def look(done, calls, see):
        seen.append((done, calls, see().shape))

    ours = drawer(TEXTS[0], 3, seed=5, batch=2)
    again = drawer(TEXTS[0], 3, seed=5, batch=2, watch=Watch(2, look))
    np.testing.assert_array_equal(ours, again)
    assert seen == [(1, 3, (2, 16, 16, 3)), (3, 3, (2, 16, 16, 3)),
                    (1, 3, (1, 16, 16, 3)), (3, 3, (1, 16, 16, 3))]  # fmt: skip
    one = drawer(TEXTS, 1, seed=5, first=1, batch=2)[0]
    np.testing.assert_array_equal(ours[1], one[0])
    assert np.abs(np.diff(ours.astype(int), axis=0)).max() > 0


def test_other_wishes_compile_nothing(drawer, photo):
    mask = np.zeros((16, 16), bool)
    mask[:5] = True
    drawer(TEXTS[0], batch=1)
    drawer(TEXTS[0], batch=1, init=photo)
    drawer(TEXTS[0], batch=1, init=photo, mask=mask)
    before = programs(drawer)
    drawer(TEXTS[1], batch=1, seed=9, guidance=7.5, negative="red", steps=7, rescale=0.5)
    drawer(TEXTS[1], batch=1, spacing="linspace", guidance_from=0.2, guidance_to=0.9)
    drawer(TEXTS[1], batch=1, init=255 - photo, strength=0.4, steps=20)
    drawer(TEXTS[1], batch=1, init=255 - photo, mask=~mask, strength=0.9)
    assert programs(drawer) == before
    drawer(TEXTS[0], batch=1, guidance=1)  # without the half that is not needed
    assert programs(drawer) == before + 3


def test_options_have_their_effect(drawer):
    def draw(**options):
        return drawer(TEXTS[0], batch=1, **options)

    usual = draw()
    for options in (
        {"guidance": 4}, {"steps": 5}, {"negative": "blue"}, {"guidance_to": 0.5},
    ):  # fmt: skip
        assert (draw(**options) != usual).any(), options
    assert (draw(guidance=9, rescale=1) != draw(guidance=9)).any()
    np.testing.assert_array_equal(draw(negative=""), usual)
    # An empty prompt draws unconditionally: guidance has nothing to lead to.
    free = drawer("", batch=1)
    assert np.abs(free.astype(int) - drawer("", batch=1, guidance=5)).max() <= 1


def test_a_picture_to_begin_with(drawer, photo):
    def distance(strength):
        drawn = drawer(TEXTS[0], batch=1, init=photo, strength=strength, steps=20)
        return np.abs(drawn[0].astype(int) - photo).mean()

    near, far = distance(0.1), distance(0.95)
    assert near < far
    drawn = drawer(TEXTS[0], batch=1, init=np.zeros((40, 30, 3), np.uint8))
    assert drawn.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("which", ["drawer", "latent_drawer"])
def test_outside_of_a_mask_the_picture_stays(which, photo, request):
    drawer = request.getfixturevalue(which)
    mask = np.zeros((16, 16), bool)
    mask[3:9, 5:] = True
    for options in ({}, {"strength": 0.5, "steps": 10}):
        drawn = drawer(TEXTS[0], 2, batch=2, init=photo, mask=mask, **options)
        np.testing.assert_array_equal(drawn[:, ~mask], [photo[~mask]] * 2)
        assert (drawn[0][mask] != photo[mask]).any()
        assert (drawn[0][mask] != drawn[1][mask]).any()


def test_latents_of_any_size(latent_drawer, caplog):
    drawn = latent_drawer(TEXTS[0], batch=1, size=(20, 27))
    assert drawn.shape == (1, 20, 26, 3)
    assert "20 x 27 is drawn as 20 x 26" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.5}, "strength is of a picture to begin with"),
        ({"negative": "red", "guidance": 1.0}, "a negative prompt acts by guidance"),
        ({"spacing": "leading"}, "spacing leading does not go with a flow"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 2000}, "at most 1000, not 2000"),
        ({"sampler": "ddim"}, "sampler must be one of euler"),
        ({"eta": 0.5}, "has no option 'eta'"),
        ({"guidance_from": 0.8, "guidance_to": 0.2}, "guidance_from=0.8 is above"),
        ({"mask": np.ones((16, 16), bool)}, "give init"),
        ({"init": np.zeros((16, 16, 3), np.uint8), "mask": np.ones((8, 16), bool)}, "16x8"),
        ({"init": np.zeros((16, 16, 3), np.uint8), "mask": np.zeros((16, 16), bool)}, "nothing"),
        ({"init": np.zeros((16, 16, 3))}, "uint8"),
        ({"init": np.zeros((16, 16, 3), np.uint8), "strength": 0.1, "steps": 5}, "leaves none"),
    ],
)
def test_mistakes_are_one_line(drawer, options, message):
    with pytest.raises(UserError, match=message) as caught:
        drawer(TEXTS[0], **options)
    assert "\n" not in str(caught.value)


def test_classes_and_nothing_at_all():
    config = tiny_ldm_config(model__condition="class", model__classes=3, **PLAIN)
    verb = tiny_drawer(config)
    drawn = verb(["0", "2", ""], batch=1, guidance=3.0)
    assert (drawn[0] != drawn[1]).any()
    with pytest.raises(UserError, match="from 0 to 2, not '3'"):
        verb("3")
    config = tiny_ldm_config(model__condition="none", model__drop_condition=0.0, **PLAIN)
    free = tiny_drawer(config)
    assert free("", 2, batch=2).shape == (2, 16, 16, 3)
    assert "guidance" not in free.verb.options


def test_betas_have_their_own_samplers():
    config = tiny_ldm_config(
        model__target="v", model__schedule__kind="scaled-linear", model__schedule__zero_snr=True,
        model__sampling__sampler="ddim", **PLAIN,
    )  # fmt: skip
    verb = tiny_drawer(config)
    drawn = verb(TEXTS[0], batch=1, eta=1.0)
    assert (drawn != verb(TEXTS[0], batch=1)).any()
    with pytest.raises(UserError, match="eta is DDIM's"):
        verb(TEXTS[0], sampler="euler", eta=1.0)
    with pytest.raises(UserError, match="spacing trailing"):
        verb(TEXTS[0], spacing="leading")
