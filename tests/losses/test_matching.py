"""DAMSM's losses against a plain loop, masks, gradients; the picture encoder, and how it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.data.captioned import examples, section
from jaxgen.data.captioned.tokenizers import make_tokenizer
from jaxgen.data.pipeline import train_dataset
from jaxgen.errors import UserError
from jaxgen.losses import matching
from jaxgen.nn.match import MatchEncoder
from jaxgen.nn.text import LSTMEncoder
from jaxgen.tasks.common import to_float

GAMMA = (4.0, 5.0, 10.0)


def features(b=4, r=6, t=5, e=3, seed=0):
    """(regions, whole, words, mask, sentence), float32; the texts are of different lengths."""
    rng = np.random.default_rng(seed)
    shapes = ((b, r, e), (b, e), (b, t, e), (b, e))
    regions, whole, words, sentence = (rng.normal(size=s).astype(np.float32) for s in shapes)
    mask = np.arange(t)[None] <= rng.integers(0, t, (b, 1))
    return regions, whole, words, mask, sentence


def softmax(x, axis):
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


def one_pair(regions, words, gamma):
    """R of eq. 10 of one picture (r, e) and the words (t, e) of one text, as the paper says it."""
    shares = softmax(words @ regions.T, axis=0)
    contexts = softmax(gamma[0] * shares, axis=1) @ regions  # (t, e)
    norms = np.linalg.norm(contexts, axis=1) * np.linalg.norm(words, axis=1)
    return np.log(np.exp(gamma[1] * np.sum(contexts * words, axis=1) / norms).sum())


def test_losses_equal_a_loop_over_pairs():
    regions, whole, words, mask, sentence = features()
    meaning = np.array([3, 1, 3, 2])
    pairs = range(4)
    f64 = np.float64
    by_words = [[one_pair(regions[i].astype(f64), words[j][mask[j]].astype(f64), GAMMA)
                 for j in pairs] for i in pairs]  # fmt: skip
    cosine = [[whole[i] @ sentence[j] / np.linalg.norm(whole[i]) / np.linalg.norm(sentence[j])
               for j in pairs] for i in pairs]  # fmt: skip

    def cross_entropy(scores):
        total = 0.0
        for logits in (np.array(scores), np.array(scores).T):
            for i in pairs:
                others = [j for j in pairs if j == i or meaning[j] != meaning[i]]
                total -= np.log(softmax(GAMMA[2] * logits[i, others], 0)[others.index(i)]) / 4
        return total

    value, metrics = jax.jit(lambda *a: matching.damsm_loss(*a, gamma=GAMMA))(
        regions, whole, words, mask, sentence, meaning
    )
    np.testing.assert_allclose(metrics["words"], cross_entropy(by_words), rtol=1e-5)
    np.testing.assert_allclose(metrics["sentence"], cross_entropy(cosine), rtol=1e-5)
    np.testing.assert_allclose(value, metrics["words"] + metrics["sentence"], rtol=1e-6)
    right = [np.argmax([-9 if j != i and meaning[j] == meaning[i] else cosine[i][j]
                        for j in pairs]) == i for i in pairs]  # fmt: skip
    assert float(metrics["accuracy"]) == np.mean(right)
    alone, metrics = matching.damsm_loss(None, whole, words, mask, sentence, meaning, GAMMA)
    np.testing.assert_allclose(alone, cross_entropy(cosine), rtol=1e-5)
    assert sorted(metrics) == ["accuracy", "sentence"]


def test_padding_and_texts_that_mean_the_same_change_nothing():
    regions, whole, words, mask, sentence = features()
    meaning = np.arange(4)
    other = np.where(mask[..., None], words, 7.0)

    @jax.jit
    def with_gradients(regions, whole, words, meaning):
        return jax.value_and_grad(
            lambda *x: matching.damsm_loss(*x, mask, sentence, meaning)[0], (0, 1, 2)
        )(regions, whole, words)

    a, b = (with_gradients(regions, whole, w, meaning)[0] for w in (words, other))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    # A batch that means one thing: nothing to tell apart, and nothing to learn.
    value, gradients = with_gradients(regions, whole, words, np.zeros(4, int))
    assert float(value) == 0.0
    assert all(float(jnp.abs(g).max()) == 0.0 for g in gradients)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_finite_at_zero_features_and_large_ones(dtype):
    _, _, _, mask, _ = features()

    @jax.jit
    def with_gradients(regions, whole, words, sentence):
        def loss(regions, whole, words, sentence):
            return matching.damsm_loss(regions, whole, words, mask, sentence, jnp.arange(4))[0]

        return jax.value_and_grad(loss, (0, 1, 2, 3))(regions, whole, words, sentence)

    for size in (0.0, 1.0, 300.0):
        inputs = [jnp.asarray(size * x, dtype) for x in features()[:3]]
        value, gradients = with_gradients(*inputs, jnp.asarray(size * features()[4], dtype))
        assert value.dtype == jnp.float32
        assert np.isfinite(value)
        assert all(bool(jnp.isfinite(g.astype(jnp.float32)).all()) for g in gradients), size


def test_widths_that_differ_are_a_mistake_of_the_config():
    regions, whole, words, mask, sentence = features()
    with pytest.raises(UserError, match=r"by 2 features and texts by 3: set model\.match\.width"):
        matching.damsm_loss(regions, whole[:, :2], words, mask, sentence, np.arange(4))
    with pytest.raises(UserError, match=r"model\.match\.width"):
        matching.damsm_loss(regions[..., :2], whole, words, mask, sentence, np.arange(4))


@pytest.mark.parametrize(("size", "parameters"), [(8, 1910), (32, 34_728), (256, 6_778_928)])
def test_picture_encoder_has_at_most_64_regions(size, parameters):
    module = MatchEncoder(features={8: 2, 32: 12, 256: 64}[size], width=24)
    picture = jax.ShapeDtypeStruct((2, size, size, 3), "float32")
    (regions, whole), variables = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x), picture
    )
    assert (regions.shape, whole.shape) == ((2, 64, 24), (2, 24))
    assert list(variables) == ["params"], "no state: pictures do not depend on each other"
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters


@pytest.mark.slow
def test_matching_learns_captioned_shapes_in_100_steps():
    """In-batch accuracy on fresh scenes; chance is 1/16; 0.51 was seen, and 0.68 after
    150 steps."""
    data = section.defaults()
    data.update(size=16, count=4000, length=14)
    tokenizer = make_tokenizer(data)
    text, match = LSTMEncoder(tokenizer.size, 32, 32, dropout=0.0), MatchEncoder(8, 32)
    records, transform = examples.train_data(data)
    batches = train_dataset(records, transform, batch_size=16, seed=0)
    optimizer = optax.chain(optax.clip_by_global_norm(0.25), optax.adam(4e-3))

    def loss(params, batch):
        features = match.apply(params["match"], to_float(batch["image"]))
        read = text.apply(params["text"], batch["tokens"], batch["mask"])
        return matching.damsm_loss(
            *features, read.words, read.mask, read.sentence, batch["meaning"]
        )

    @jax.jit
    def step(params, state, batch):
        (_, metrics), gradients = jax.value_and_grad(loss, has_aux=True)(params, batch)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, metrics

    first = batches[0]
    params = {
        "match": match.init(jax.random.key(0), to_float(jnp.asarray(first["image"]))),
        "text": text.init(jax.random.key(1), first["tokens"], first["mask"]),
    }
    state = optimizer.init(params)
    seen = []
    for i in range(100):
        params, state, metrics = step(params, state, batches[i])
        seen.append(metrics)
    accuracy = [float(np.mean([m["accuracy"] for m in part])) for part in (seen[:5], seen[-20:])]
    assert accuracy[0] < 0.25
    assert accuracy[1] > 0.35, accuracy
    assert float(seen[-1]["words"]) < 0.75 * float(seen[0]["words"])
