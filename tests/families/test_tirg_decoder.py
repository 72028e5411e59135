"""The decoder of composed features: its parts, its joint training, its verb and its commands."""

import jax
import numpy as np
import pytest
from helpers import REPOSITORY, run
from PIL import Image
from support.first_stage import tiny_first_stage, tiny_retrieval, with_parts

import jaxgen
from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.models.tirg_decoder.networks import Asked, Decoder, shuffled
from jaxgen.verbs.edit.contract import Request

TINY = f"{REPOSITORY}/configs/tirg_decoder.py:tiny"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tirg_decoder") / "run"
    run(with_parts(configs.load(TINY, {"train.eval_every": -1})), folder)
    return folder


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 4, 3)], ids=["vector", "map"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_decoder_draws_of_vectors_and_maps_whatever_their_length(shape, keep):
    keys = iter(jax.random.split(jax.random.key(0), 6))
    source = jax.random.uniform(next(keys), (2, 16, 16, 3), minval=-1)
    given = (jax.random.normal(next(keys), size) for size in ((2, 4, 4, 6), (2, 5), shape))
    asked = Asked(source, *given)
    z = jax.random.normal(next(keys), (2, 3))
    net = Decoder(channels=(8, 4), groups=2, noise=3, keep=keep)
    variables = jax.jit(net.init)(next(keys), asked, z)
    picture = net.apply(variables, asked, z)
    assert picture.shape == (2, 16, 16, 3)
    assert np.abs(picture).max() <= 1.0
    longer = net.apply(variables, asked._replace(composed=10.0 * asked.composed), z)
    np.testing.assert_allclose(longer, picture, atol=1e-5)
    other = net.apply(variables, asked._replace(source=-source), z)
    assert (np.abs(other - picture).max() > 1e-3) == keep, "alone, the source stays unseen"


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


def test_a_jointly_trained_one_draws_and_searches(tmp_path):
    config = configs.load(f"{REPOSITORY}/configs/tirg_decoder.py:joint")
    tiny = configs.load(TINY)
    for section in ("data", "train", "eval"):
        config[section].update(tiny[section])
    config.optimizer.decoder.warmup = 0
    with config.unlocked():
        config.model.decoder = tiny.model.decoder
    config.model.posterior.channels = (4, 4)
    config.model.update(embed=8, kl_steps=0)
    config.model.text.update(vector=4, hidden=8)
    config.model.image.channels = (4, 8)
    run(config, tmp_path)
    model = jaxgen.load(tmp_path)
    assert set(model.nets) == {"decoder", "g"}
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
    code, out, err = jaxgen_command("eval", "--model", decoder, "--queries", 8, "--json", "m.json")
    assert code == 0, err
    for name in ("drawn", "retrieved", "source"):
        assert f"{name}: " in out
