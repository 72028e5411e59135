"""configs/sd15.py: what is learned beside a tiny Stable Diffusion."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.tiny_sd import initial, some_pictures, tokenizer, with_change

from jaxgen.data.cached import Latents
from jaxgen.data.captioned.clip_captions import ReadCLIP
from jaxgen.data.pipeline import train_dataset
from jaxgen.edit import low_rank
from jaxgen.errors import UserError
from jaxgen.losses.denoising import denoising_loss
from jaxgen.models.ldm.change import CHANGE
from jaxgen.models.ldm.losses import LDMLosses, _with_prior
from jaxgen.models.ldm.unet import UNet
from jaxgen.runs import codes, convert
from jaxgen.tasks.ldm.config import CHANGE as CHANGES
from jaxgen.weights.keymap import flatten
from jaxgen.weights.parts import filled

TOY = {"model__change__words": ("<cat-toy>",), "model__change__begin": ("toy",)}
CLASS = {
    "data__texts": ("a photo of the red dog",),
    "model__prior__texts": ("a photo of a dog",),
}


def one_batch(task, count=2):
    records, transform = task.train_data()
    return train_dataset(records, transform, batch_size=count, seed=0)[0]


# ------------------------------------------------------------------------------ what is learned


def test_it_begins_at_nothing_and_alone_is_trained(started):
    """Of LoRA and of a new word at once."""
    config, task, made_of = started(**TOY, model__change__text_rank=2)
    [phase] = task.phases
    assert phase.nets == (CHANGE,)
    params = initial(task)
    assert params.keys() == {CHANGE}
    losses = LDMLosses(filled(config, made_of))
    below = {"g": made_of["g"].nets["g"], "text": made_of["text"].nets["text"]}
    found = losses.changed({**below, CHANGE: {"params": params[CHANGE]}})
    for path, leaf in flatten(below["g"]).items():
        np.testing.assert_array_equal(flatten(found["g"])[path], leaf)
    table, old = (x["text"]["params"]["tokens"] for x in (found, below))
    assert len(table) == len(old) + 1
    np.testing.assert_array_equal(table[:-1], old)
    [toy] = tokenizer().ids("toy")
    np.testing.assert_array_equal(table[-1], old[toy])
    assert losses.changed(found) is not found
    assert losses.changed(found).keys() == found.keys()  # a second time changes nothing


@pytest.mark.parametrize(
    ("variant", "changes", "share"),
    # To a net of random numbers one word is next to nothing.
    [
        ("tiny", {}, 0.97),
        pytest.param("inversion", TOY, 0.9999, marks=pytest.mark.slow),
        pytest.param("tiny", {"model__change__text": True}, 0.97, marks=pytest.mark.slow),
    ],
    ids=["lora", "inversion", "text"],
)  # fmt: skip
def test_one_picture_is_learned(started, variant, changes, share):
    """Descent on one picture with the same noise: its loss falls, and all has moved."""
    _, task, _ = started(variant, **changes)
    batch, [phase] = one_batch(task, 1), task.phases
    rule = optax.adam(0.1)

    @jax.jit
    def descend(own, state):
        def loss(own):
            return phase.loss(own, {}, task.frozen, batch, jax.random.key(1), 0)[0]

        value, slope = jax.value_and_grad(loss)(own)
        change, state = rule.update(slope, state)
        return optax.apply_updates(own, change), state, value

    own = before = {CHANGE: initial(task)[CHANGE]}
    state, values = rule.init(own), []
    for _ in range(40):
        own, state, value = descend(own, state)
        values.append(float(value))
    assert min(values[-3:]) < share * values[0], values
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), own, before)
    assert max(flatten(moved).values()) > 0


def test_rows_of_other_words_stay(started):
    """The gradient of a new word's vector, and the text encoder's table as it was."""
    config, task, made_of = started("inversion", **TOY)
    assert flatten(initial(task)).keys() == {"change/words"}
    batch = one_batch(task)
    new = made_of["text"].config.model.text.ids
    assert (batch["tokens"] == new).sum(axis=1).min() == 1
    assert batch["tokens"].max() == new
    assert config.train.init_from.g == ""


def test_a_word_of_two_vectors_and_several_words():
    tokens = tokenizer()
    added = ReadCLIP(tokens.to_json(), 16, 0, ("<a>", "<a>", "<A-B>"), 900).tokenizer
    assert added.ids("the <a> cat") == [*tokens.ids("the"), 900, 901, *tokens.ids("cat")]
    assert added.ids("<a-b><a>") == [902, 900, 901]
    assert added.ids("a < a >") == tokens.ids("a < a >")
    assert added.encode("red <a-b>").words == ("red", "<a-b>")


def test_captions_are_read_as_the_tower_reads_prompts(started):
    """In training as at use, cut to the tower's length, and through pickling."""
    config, _, made_of = started("inversion", **TOY)
    losses = LDMLosses(filled(config, made_of))
    read = pickle.loads(pickle.dumps(losses.condition.captions))
    for text in ("a photo of a {}", "{}, a red toy", ""):
        found = read((text,), np.random.default_rng(0))
        prompt = losses.condition.read(text.replace("{}", "<cat-toy>"))
        np.testing.assert_array_equal(losses.condition.read(text).tokens, prompt.tokens)
        np.testing.assert_array_equal(found["tokens"], prompt.tokens)
        assert found["tokens"].dtype == np.int32
    long = read(("a red cat " * 30,), np.random.default_rng(0))
    assert long["tokens"].shape == (16,)
    assert long["tokens"][-1] == tokenizer().end


def test_from_latents_made_beforehand(started, base, tmp_path):
    """By the autoencoder within the converted model."""
    config, _, _ = started("latents", data__texts=("a red cat",))
    codes.write(config, str(base), tmp_path / "made", kind=Latents)
    _, task, _ = started(
        "latents", data__texts=("a red cat",), model__latents=str(tmp_path / "made")
    )
    batch = one_batch(task)
    assert batch["moments"].shape == (2, 16, 16, 8)
    assert batch["tokens"][0, 1] == tokenizer().ids("a")[0]


def test_a_published_net_s_lora_has_as_many_numbers():
    """At rank 4, that of diffusers' first script: 797,184 in 128 layers."""
    net = UNet()
    x, t, context = (jnp.zeros(s) for s in ((1, 8, 8, 4), (1,), (1, 77, 768)))
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, t, context)["params"]
    layers = low_rank.layers(shapes, CHANGES["layers"].default)
    assert (len(layers), 4 * sum(sum(x.shape) for x in layers.values())) == (128, 797_184)


# ------------------------------------------------------------------------------ the class beside it


def test_the_prior_counts_as_much_as_said(started, tmp_path):
    """Examples hold both; the loss is that of the pictures plus a share of the class's."""
    of_class = some_pictures(tmp_path / "class", 5, seed=1)
    config, task, _ = started(
        "dreambooth", **CLASS, model__prior__pictures=str(of_class), model__prior__weight=0.3
    )
    batch = one_batch(task, 3)
    assert batch["image"].shape == batch["prior_image"].shape == (3, 32, 32, 3)
    ids = tokenizer().ids("a photo of a dog")
    np.testing.assert_array_equal(batch["prior_tokens"][:, 1 : len(ids) + 1], [ids] * 3)
    both, weights_ = _with_prior(batch, config.model)
    assert both["image"].shape == (6, 32, 32, 3)
    rng = np.random.default_rng(0)
    said, wanted = rng.normal(size=(2, 6, 4, 4, 4))
    each = np.square(said - wanted).mean(axis=(1, 2, 3))
    expected = each[:3].mean() + 0.3 * each[3:].mean()
    np.testing.assert_allclose(denoising_loss(said, wanted, weights_), expected, rtol=1e-5)
    again = one_batch(task, 3)
    for key, value in batch.items():
        np.testing.assert_array_equal(value, again[key])


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("variant", "changes", "said"),
    [
        ("tiny", {"model__change__rank": 0}, "parts.g stays as it is, and model.change says not"),
        ("", {"model__change__rank": 2}, "give it as parts.g"),
        ("", {"train__init_from__g": "srgan_x4", "parts__text": "", "parts__first_stage": ""},
         "srgan_x4 is of the family srgan"),
        ("tiny", {"model__change__layers": "nowhere"}, "finds none of the denoiser's dense layers"),
        ("tiny", {"model__change__text": True, "model__change__text_rank": 2}, "keep one"),
        ("inversion", {"model__change__words": ("cat",)}, "cat is a word of the text encoder alr"),
        ("inversion", {**TOY, "model__change__begin": ("catdog",)}, "'catdog' is 6 pieces|pieces"),
        ("inversion", {**TOY, "model__change__begin": ("cat", "dog")}, "has 2 words for the 1"),
        ("inversion", {**TOY, "model__change__words": ("two words",)}, "must be one word"),
        ("dreambooth", {**CLASS, "model__prior__pictures": "/nowhere"}, "model.prior.pictures"),
        ("dreambooth", {"data__texts": ("a dog",), "model__prior__pictures": "x"},
         "needs model.prior.texts"),
        ("tiny", {"model__target": "v"}, "parts.g has model.target='eps'"),
        ("tiny", {"model__denoiser__groups": 2}, "parts.g has model.denoiser.groups=4"),
        ("tiny", {"data__tokenizer": "words"}, "set data.tokenizer=clip"),
        ("tiny", {"parts__g": "srgan_x4", "parts__text": "", "parts__first_stage": ""},
         "must be of ldm"),
        ("tiny", {"parts__text": ""}, "data.tokenizer=clip is that of a CLIP's text tower"),
        ("tiny", {"data__source": "shapes"}, "data.texts is of data.source=folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(started, variant, changes, said):
    def begin():
        _, task, _ = started(variant, **changes)
        task.train_data()
        initial(task)

    with pytest.raises(UserError, match=said) as caught:
        begin()
    assert "\n" not in str(caught.value)


def test_a_run_with_changes_is_merged_before_it_is_trained_on(started, base, tmp_path):
    own = with_change(started, tmp_path / "run")
    for variant, key in (("tiny", "parts__g"), ("", "train__init_from__g")):
        with pytest.raises(UserError, match="merge them before"):
            started(variant, **{key: str(own)})
    convert.write_own(own, tmp_path / "merged")
    _, task, _ = started(parts__g=str(tmp_path / "merged"))
    assert task.phases[0].nets == (CHANGE,)
