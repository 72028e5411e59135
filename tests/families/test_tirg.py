"""TIRG and its rivals against golden arrays of the originals: features, compositions, losses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY

from jaxgen import config as configs
from jaxgen.data.triplets.words import Words, split, vocabulary
from jaxgen.losses.retrieval import batch_classification, draw_triplets, scaled, soft_triplet
from jaxgen.models.tirg import compose, encoders
from jaxgen.models.tirg.compose import View
from jaxgen.models.tirg.encoders import WordLSTM
from jaxgen.models.tirg.networks import Composed, make_net
from jaxgen.runs import convert

VARIANTS = {
    "SimpleModelImageOnly": "image",
    "SimpleModelTextOnly": "text",
    "Concat": "concat",
    "TIRG": "tirg",
    "TIRGLastConv": "tirg_lastconv",
}


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    return dict(np.load(fixtures_dir / "retrieval" / "tirg_compose.npz"))


def close(ours, theirs, atol=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol * max(1.0, np.abs(theirs).max()))


def state_dict(golden, variant):
    """A published state dict of this composition."""
    parts = ("sd:shared:", f"sd:{variant}:")
    return {k.removeprefix(p): v for p in parts for k, v in golden.items() if k.startswith(p)}


@pytest.fixture(autouse=True)
def normalised(monkeypatch):
    """Golden pictures come normalised: through [-1, 1] and back they would lose digits."""
    monkeypatch.setattr(encoders, "prepare", lambda x: x)


def opened(golden, variant, tmp_path):
    """(net, variables, source pictures, tokens, mask), the weights converted as a user would."""
    path = tmp_path / f"{variant}.npz"
    np.savez(path, **state_dict(golden, variant))
    words = list(json.loads(str(golden["vocab_word2id"])))[1:]
    (tmp_path / "vocabulary.txt").write_text("\n".join(words) + "\n")
    found = convert.convert(path)
    config = found.config
    with config.unlocked():
        config.model.compose.form = VARIANTS[variant]
    filled = [Words(words, 8).fill(text) for text in json.loads(str(golden["texts"]))]
    tokens, mask = (np.stack(column) for column in zip(*filled, strict=True))
    x = jnp.asarray(golden["imgs"].transpose(0, 2, 3, 1))
    return make_net(config), found.variables, x, tokens, mask


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("train", [False, True])
def test_composed_features_equal_the_originals(golden, variant, train, tmp_path):
    net, variables, x, tokens, mask = opened(golden, variant, tmp_path)
    mode = "train" if train else "eval"
    if train:
        net = net.copy(
            text=net.text.copy(dropout=0.0),
            composer=net.composer.copy(dropout=0.0) if variant == "Concat" else net.composer.copy(),
        )
    ours, changed = net.apply(
        variables, x, tokens, mask, train=train, method=Composed.queries, mutable=["batch_stats"]
    )
    close(ours, golden[f"{mode}:{variant}:composed"])
    if not train:
        length = scaled(ours, jnp.asarray(golden["sd:shared:normalization_layer.norm_s"])[0])
        if f"eval:{variant}:normalized" in golden:
            close(length, golden[f"eval:{variant}:normalized"])
        pictures = net.apply(variables, x, method=Composed.pictures)
        close(pictures, golden["eval:img_feature"])
    elif variant == "TIRG":
        mean = changed["batch_stats"]["composer"]["gate_norm"]["mean"]
        close(mean, golden["train:TIRG:after:gated_feature_composer.1.running_mean"])


@pytest.mark.parametrize("variant", ["Concat", "TIRG"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_composer_s_gradients_equal_the_originals(golden, variant, mode, tmp_path):
    net, variables, *_ = opened(golden, variant, tmp_path)
    own = {kind: tree.get("composer", {}) for kind, tree in variables.items()}
    composer = net.composer.copy(dropout=0.0) if variant == "Concat" else net.composer.copy()
    image, text = golden["eval:img_feature"], golden["eval:text_feature"]

    def compose(params, image, text):
        found, _ = composer.apply(
            {**own, "params": params}, View(image, image), text, mode == "train",
            mutable=["batch_stats"],
        )  # fmt: skip
        return found

    out, back = jax.vjp(compose, own["params"], jnp.asarray(image), jnp.asarray(text))
    close(out, golden[f"{mode}:{variant}:from_features"])
    weight = np.linspace(-1, 1, out.size, dtype=np.float32).reshape(out.shape)
    params, d_image, d_text = back(jnp.asarray(weight))
    close(d_image, golden[f"{mode}:{variant}:grad_img"])
    close(d_text, golden[f"{mode}:{variant}:grad_text"])
    if variant == "TIRG":
        close(params["a"], golden[f"{mode}:TIRG:grad_a"])


@pytest.mark.parametrize("variant", ["TIRG", "TIRGLastConv", "Concat"])
def test_weights_go_back_as_they_came(golden, variant, tmp_path):
    opened(golden, variant, tmp_path)
    found = convert.convert(tmp_path / f"{variant}.npz")
    assert found.config.model.compose.form == VARIANTS[variant]
    layout, ours = convert.to_torch(tmp_path / f"{variant}.npz")
    assert layout.name == "TIRG"
    theirs = state_dict(golden, variant)
    biases = {"text_model.lstm.bias_ih_l0", "text_model.lstm.bias_hh_l0"}
    for key, value in theirs.items():
        if key not in biases and not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(ours[key], value, err_msg=key)
    np.testing.assert_allclose(
        sum(ours[key] for key in biases), sum(theirs[key] for key in biases), rtol=1e-6
    )


def test_words_and_their_features_equal_the_originals(fixtures_dir):
    folder = fixtures_dir / "retrieval"
    held = json.loads((folder / "tirg_vocab.json").read_text())
    known = held["vocab"]["google"]
    assert vocabulary(held["build_texts"]) == tuple(list(known["word2id"])[1:])
    words = Words(vocabulary(held["build_texts"]), 8)
    for text, tokens, ids in zip(held["encode_texts"], known["tokens"], known["ids"], strict=True):
        assert split(text) == tokens
        assert words.ids(text) == ids
    golden = np.load(folder / "tirg_text.npz")
    net, variables = lstm_of(golden)
    for batch in (0, 3):
        texts = json.loads(str(golden[f"batch{batch}:texts"]))
        tokens, mask = (np.stack(c) for c in zip(*map(words.fill, texts), strict=True))
        close(net.apply(variables, tokens, mask), golden[f"batch{batch}:feature"])
    # An empty text does not depend on those beside it.
    tokens, mask = words.fill("")
    assert mask.sum() == 1
    assert tokens.sum() == 0


def lstm_of(golden):
    """The text encoder of a golden state dict, by the converter's own key map."""
    from jaxgen.models.tirg.layout import text_rules
    from jaxgen.nn.text_keys import split_gates
    from jaxgen.weights import convert as by_rules

    tensors = {f"text_model.{k[3:]}": golden[k] for k in golden.files if k.startswith("sd:")}
    net = WordLSTM(size=39, embed=24, vector=20, hidden=24)
    expected = jax.eval_shape(
        net.init, jax.random.key(0), jnp.zeros((1, 4), "int32"), jnp.ones((1, 4), bool)
    )
    rules = text_rules("")
    return net, by_rules(split_gates(tensors), rules, expected)


CASES = range(6)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_the_originals(fixtures_dir, case):
    golden = np.load(fixtures_dir / "retrieval" / "tirg_losses.npz")
    about = json.loads(str(golden["cases"]))[case]
    q, t = (jnp.asarray(golden[f"{case}:{name}"]) for name in "QT")
    triplets = jnp.asarray(golden[f"{case}:triplets"])
    losses = {
        "batch_classification": lambda q, t: batch_classification(q, t),
        "soft_triplet:original": lambda q, t: soft_triplet(q, t, triplets, half=True),
        "soft_triplet:autograd": lambda q, t: soft_triplet(q, t, triplets),
    }
    for name, loss in losses.items():
        value, grads = jax.value_and_grad(
            lambda q, t, s, loss=loss: loss(scaled(q, s), scaled(t, s)), argnums=(0, 1, 2)
        )(q, t, jnp.float32(about["norm_s"]))
        assert np.isfinite(value)
        theirs = golden[f"{case}:{name}:loss"]
        if np.isfinite(theirs) and about["kind"] != "close":
            close(value, theirs)
        for ours, key in zip(grads, ("grad_Q", "grad_T", "grad_norm_s"), strict=True):
            wanted = golden[f"{case}:{name}:{key}"]
            close(np.asarray(ours).reshape(wanted.shape), wanted, 2e-5)


@pytest.mark.parametrize("pool", [1, 2])
def test_a_relation_network_sees_where_things_are(pool):
    """Also where every place of the map has all around it that another has."""
    net = compose.Relationship(hidden=8, pool=pool)
    maps = np.zeros((2, 5, 6, 3), np.float32)
    maps[0, 1, 1], maps[1, 3, 4] = 1.0, 1.0
    view, text = compose.View(np.zeros((2, 4), np.float32), maps), np.ones((2, 7), np.float32)
    variables = net.init(jax.random.key(0), view, text)
    one, other = net.apply(variables, view, text)
    assert one.shape == (4,)
    assert np.abs(one - other).max() > 1e-6
    pairs = variables["params"]["one"]["kernel"]
    assert pairs.shape == (3 + 2, 8)


def test_triplets_are_of_other_pairs_and_different():
    found = np.asarray(draw_triplets(jax.random.key(0), 5))
    assert found.shape == (30, 3)
    anchor, positive, negative = found.T
    assert ((anchor - positive) % 5 == 0).all()
    assert (anchor != positive).all()
    assert ((anchor - negative) % 5 != 0).all()
    for one in range(10):
        assert len({*negative[anchor == one]}) == 3
    assert draw_triplets(jax.random.key(0), 2).shape == (8, 3)


@pytest.mark.parametrize("form", ["film", "mrn", "relationship", "combiner", "tirg_lastconv"])
def test_every_composition_learns_from_both(form):
    config = configs.load(f"{REPOSITORY}/configs/tirg.py:tiny")
    with config.unlocked():
        config.model.compose = {"form": form}
        config.data.vocabulary = ("add", "red")
    if form == "combiner":
        config.model.compose = {"form": form, "projection": 8, "hidden": 16}
    net = make_net(config)
    x = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    tokens, mask = np.array([[1, 2], [2, 1]], "int32"), np.ones((2, 2), bool)
    variables = jax.jit(net.init)(jax.random.key(0), x, x[:, None], tokens[:, None], mask[:, None])
    one = net.apply(variables, x, tokens, mask, method=Composed.queries)
    assert one.shape == (2, 8)
    other = net.apply(variables, x, tokens[::-1], mask, method=Composed.queries)
    turned = net.apply(variables, x[::-1], tokens, mask, method=Composed.queries)
    assert np.abs(one - other).max() > 1e-6, "the text has no effect"
    assert np.abs(one - turned).max() > 1e-6, "the picture has no effect"
