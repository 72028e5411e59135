"""The decoder of composed features: its parts, its joint training, its verb and its commands."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import REPOSITORY, run
from PIL import Image
from support.first_stage import tiny_first_stage, tiny_retrieval, with_parts

import jaxgen
from jaxgen import config as configs
from jaxgen.data.triplets import examples
from jaxgen.errors import UserError
from jaxgen.evaluation import drawing
from jaxgen.models.tirg_decoder.draw import nearest
from jaxgen.models.tirg_decoder.networks import Asked, Decoder, Prior, normed, shuffled
from jaxgen.models.tirg_decoder.prior import drawn_changes, flow_loss, given
from jaxgen.verbs.edit.contract import Request

TINY = f"{REPOSITORY}/configs/tirg_decoder.py:tiny"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tirg_decoder") / "run"
    run(with_parts(configs.load(TINY, {"train.eval_every": -1})), folder)
    return folder


def _asked(keys, e=5):
    source = jax.random.uniform(next(keys), (2, 16, 16, 3), minval=-1)
    maps = jax.random.normal(next(keys), (2, 4, 4, 6))
    return Asked(source, maps, *(normed(jax.random.normal(next(keys), (2, e))) for _ in range(3)))


@pytest.mark.parametrize("keep", [True, False])
def test_a_decoder_sees_the_source_unless_it_is_alone(keep):
    keys = iter(jax.random.split(jax.random.key(0), 7))
    asked = _asked(keys)
    change = jax.random.normal(next(keys), (2, 5))
    net = Decoder(channels=(8, 4), groups=2, keep=keep)
    variables = jax.jit(net.init)(next(keys), asked, change)
    draw = jax.jit(net.apply)
    picture = draw(variables, asked, change)
    assert picture.shape == (2, 16, 16, 3)
    assert np.abs(picture).max() <= 1.0
    other = draw(variables, asked._replace(source=-asked.source), change)
    assert (np.abs(other - picture).max() > 1e-3) == keep, "alone, the source stays unseen"
    assert np.abs(draw(variables, asked, -change) - picture).max() > 1e-3


def test_the_prior_s_flow_goes_to_the_features_that_it_learned():
    """Of two changes that the same words may mean, each noise draws one; never their mean."""
    keys = iter(jax.random.split(jax.random.key(0), 9))
    n = 64
    features = [normed(jax.random.normal(next(keys), (1, 4))) for _ in range(3)]
    vector = features[0]
    rows = (jnp.repeat(feature, n, axis=0) for feature in features)
    asked = Asked(jnp.zeros((n, 1, 1, 3)), jnp.zeros((n, 1, 1, 1)), *rows)
    two = normed(jnp.array([[1.0, -1.0, 0.5, 0.2], [-0.5, 1.0, 0.8, 0.0]])) - vector
    change = jnp.tile(two, (n // 2, 1))
    net = Prior(width=32, blocks=1)
    params = net.init(next(keys), change, jnp.zeros(n), asked.said)["params"]
    optimizer = optax.adam(1e-2)

    @jax.jit
    def learn(params, state, rng):
        found = jax.grad(lambda p: flow_loss(net, p, rng, asked, change, 2, 0.1))(params)
        steps, state = optimizer.update(found, state)
        return optax.apply_updates(params, steps), state

    state = optimizer.init(params)
    for rng in jax.random.split(next(keys), 300):
        params, state = learn(params, state, rng)
    noise = jax.random.normal(next(keys), (1, *change.shape))
    settings = given({"steps": 16, "guidance": 1.0, "length": 1.0, "candidates": 1})
    drawn = np.asarray(drawn_changes(net, {"params": params}, asked, noise, settings))[0]
    apart = np.abs(drawn[:, None] - np.asarray(two)[None]).mean(axis=2)
    assert 0.2 < (apart[:, 0] < apart[:, 1]).mean() < 0.8, "both are drawn"
    assert (apart.min(axis=1) < 0.2).mean() > 0.9, apart


def test_features_count_by_their_direction():
    x = jax.random.normal(jax.random.key(0), (3, 7))
    np.testing.assert_allclose(normed(10.0 * x), normed(x), atol=1e-5)
    np.testing.assert_allclose(jnp.square(normed(x)).mean(axis=1), 1.0, atol=1e-5)


def test_levels_that_do_not_reach_the_pictures_are_refused():
    assert shuffled(64, 8, 3) == 2
    with pytest.raises(UserError, match="give fewer"):
        shuffled(16, 8, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts.retrieval": ""}, "needs a trained model as parts.retrieval"),
        ({"data.size": 32}, "data.size=32 must be 16"),
    ],
)
def test_parts_that_cannot_be(changes, message, tmp_path):
    config = configs.load(TINY, {"parts.retrieval": tiny_retrieval(), **changes})
    with pytest.raises(UserError, match=message):
        run(config, tmp_path)


def test_another_family_is_no_retrieval_model(tmp_path):
    config = configs.load(TINY, {"parts.retrieval": tiny_first_stage()})
    with pytest.raises(UserError, match="must be of tirg"):
        run(config, tmp_path)


@pytest.mark.slow
def test_a_jointly_trained_one_draws_and_searches(tmp_path):
    config = configs.load(f"{REPOSITORY}/configs/tirg_decoder.py:joint")
    tiny = configs.load(TINY)
    for section in ("data", "train", "eval"):
        config[section].update(tiny[section])
    config.optimizer.decoder.warmup = 0
    with config.unlocked():
        config.model.decoder = tiny.model.decoder
        config.model.prior = tiny.model.prior
    config.model.update(embed=8)
    config.model.text.update(vector=4, hidden=8)
    config.model.image.channels = (4, 8)
    run(config, tmp_path)
    model = jaxgen.load(tmp_path)
    assert set(model.nets) == {"decoder", "prior", "g"}
    assert set(model.verbs) == {"edit", "retrieve"}


def test_its_retrieval_is_the_part_s_own(decoder):
    ours, theirs = jaxgen.load(decoder), jaxgen.load(tiny_retrieval())
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    asked = [use.retrieve([picture], ["add object"]) for use in (ours, theirs)]
    np.testing.assert_array_equal(*asked)


def test_several_texts_of_a_picture_are_drawn_as_each_alone(decoder):
    model = jaxgen.load(decoder)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    texts = ["add object", "make red cube blue"]
    both = model.edit(picture, texts).pictures
    assert both.shape == (2, 16, 16, 3)
    alone = model.edit(picture, texts[0]).pictures[0]
    np.testing.assert_allclose(both[0].astype(int), alone, atol=1)
    again = model.edit.each([Request("", tuple(texts), picture, number=i) for i in (0, 1)])
    np.testing.assert_allclose(next(again).pictures.astype(int), both, atol=1)


def test_of_several_pictures_the_one_counts_that_shows_what_it_was_drawn_of(decoder):
    wanted = jnp.zeros((3, 2, 4))
    seen = jnp.array([[2.0, 1.0], [1.0, 3.0], [-0.5, 2.0]])[..., None] * jnp.ones((3, 2, 4))
    drawn = jnp.arange(6.0)[:, None]
    np.testing.assert_array_equal(nearest(drawn, seen, wanted), [[4.0], [1.0]])
    np.testing.assert_array_equal(nearest(drawn, seen, seen + 1e-3 * seen), [[4.0], [1.0]])

    model = jaxgen.load(decoder)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    several, alone = (model.edit(picture, "add object", candidates=n).pictures[0] for n in (8, 1))
    assert (several != alone).any()


def test_the_bundled_model_follows_words():
    model = jaxgen.load("tirg_css")
    counts = {net: sum(x.size for x in jax.tree.leaves(t)) for net, t in model.nets.items()}
    assert (counts["decoder"], counts["prior"]) == (699_296, 1_070_848)
    side = model.edit.verb.size[0]
    triplets, queries, pictures = drawing.asked_of(model.config, 24, examples.square, side)
    found = drawing.measure(drawing.drawn_by(model.edit), triplets, queries, pictures)
    assert found["objects"] > 0.85, found
    assert found["edited"] > 0.7, found


def test_the_commands(decoder, tmp_path, jaxgen_command):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("a", "b", "c"):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    code, _, err = jaxgen_command(
        "edit", "photos/a.png", "make red cube blue", "--model", decoder, "-o", "edited.png"
    )
    assert code == 0, err
    assert Image.open(tmp_path / "edited.png").size == (16, 16)
    edit = ("edit", "photos/a.png", "make red cube blue", "--model", decoder, "-o", "edited")
    code, _, err = jaxgen_command(*edit)
    assert code == 0, err
    code, out, err = jaxgen_command(*edit, "--upscale", "srgan_x4")  # of what is there already
    assert code == 0, err
    (large,) = (tmp_path / "edited").glob("*_x4.png")
    assert str(large.name) in out
    assert Image.open(large).size == (64, 64)
    assert "0 edits" in jaxgen_command(*edit, "--upscale", "srgan_x4")[1]
    code, _, err = jaxgen_command(
        "edit", "photos/a.png", "--from-png", large, "-o", "again.png", "--upscale", "srgan_x4"
    )
    assert code == 0, err
    for one, other in (("again.png", "edited.png"), ("again_x4.png", large)):
        np.testing.assert_array_equal(
            *(np.asarray(Image.open(tmp_path / file)) for file in (one, other))
        )
    strip = ("--sweep", "steps=1,2", "--upscale", "srgan_x4")
    code, _, err = jaxgen_command("edit", "add object", "--model", decoder, *strip)
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = jaxgen_command("index", "photos", "-o", "index", "--model", tiny_retrieval())
    assert code == 0, err
    search = ("search", "index", "--image", "photos/a.png", "--draw", decoder)
    code, _, err = jaxgen_command(*search, "--text", "add object", "--sheet", "found.png")
    assert code == 0, err
    code, _, err = jaxgen_command(*search, "--text", "add object")
    assert (code, err.count("\n")) == (2, 1)
    other = ("--draw", "ldm_shapes", "--text", "add object", "--sheet", "other.png")
    code, _, err = jaxgen_command(*search[:4], *other)
    assert (code, err.count("\n")) == (2, 1)
    assert "tirg_decoder" in err
    code, out, err = jaxgen_command("eval", "--model", decoder, "--queries", 8, "--sheet", "s.png")
    assert code == 0, err
    for name in ("drawn", "retrieved", "source"):
        assert f"{name}: " in out
    assert (tmp_path / "s.png").is_file()
    code, _, err = jaxgen_command("eval", "edit", "--model", decoder, "--sheet", "s.text")
    assert (code, err.count("\n")) == (2, 1)
