"""CLIP as a family: how texts end, what it refuses, its ResNet tower, converted weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, noise

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.models.clip import task
from jaxgen.models.clip.decoys import patched
from jaxgen.models.clip.networks import make_clip
from jaxgen.train import family

CONFIG = REPOSITORY / "configs" / "clip.py"


def test_a_text_ends_once_after_its_last_token():
    tokens = jnp.array([[3, 4, 0, 0], [5, 6, 7, 8], [0, 0, 0, 0]])
    mask = jnp.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    found = task.ended(tokens, mask, 9)
    np.testing.assert_array_equal(found, [[3, 4, 9, 0, 0], [5, 6, 7, 8, 9], [9, 0, 0, 0, 0]])


def test_what_stands_behind_a_text_does_not_count():
    tokens = jnp.array([[3, 4, 8, 8]])
    mask = jnp.array([[1, 1, 0, 0]], bool)
    np.testing.assert_array_equal(task.ended(tokens, mask, 9), [[3, 4, 9, 0, 0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.text.heads": 3}, "model.text.width=8 must be a multiple of model.text.heads"),
        ({"model.image.heads": 3}, "model.image.width=8 must be a multiple of model.image.heads"),
        ({"model.image.patch": 5}, "data.size=16 must be a multiple of model.image.patch"),
        ({"model.vocabulary": "{}"}, "a CLIP learns to read"),
        ({"data.embeddings": "features"}, "a CLIP learns to read"),
        ({"model.decoys": 5}, "data.size=16 must be a multiple of model.decoys=5"),
    ],
)
def test_settings_that_do_not_go_together_are_named(changes, message):
    config = configs.load(f"{CONFIG}:tiny", changes)
    with pytest.raises(UserError, match=message) as caught:
        task.make_task(config)
    assert "\n" not in str(caught.value)


def test_a_resnet_wants_multiples_of_32():
    config = configs.load(f"{CONFIG}:tiny")
    config.model.image = {"form": "resnet", "width": 8, "layers": (1, 1, 1, 1), "heads": 2}
    with pytest.raises(UserError, match=r"data.size=16 must be a multiple of 32 for a resnet"):
        make_clip(config)


def test_the_published_resnet_s_parameters():
    """RN50: 38,316,896 in the picture's tower, of 102,007,137 with CLIP's own vocabulary."""
    config = configs.load(f"{CONFIG}:rn50")
    config.model.text.update(ids=49408, context=77)
    net = make_clip(config)
    picture = jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    tokens = jax.ShapeDtypeStruct((1, 77), "int32")
    params = jax.eval_shape(net.init, jax.random.key(0), picture, tokens)["params"]

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    assert count(params["visual"]) == 38_316_896
    assert count(params) == 102_007_137


def test_a_resnet_s_step_moves_its_statistics():
    config = configs.load(f"{CONFIG}:tiny")
    config.data.size = 32
    config.model.image = {"form": "resnet", "width": 8, "layers": (1, 1, 1, 1), "heads": 2}
    config = family.resolve(config)
    losses = task.ClipLosses(config)
    length = config.data.length
    batch = {
        "image": np.stack([noise(32, 32, seed) for seed in range(4)]),
        "tokens": jnp.ones((4, length), jnp.int32),
        "mask": jnp.ones((4, length), bool),
        "meaning": jnp.arange(4),
    }
    params, mutable = jax.jit(losses.init)(jax.random.key(0), batch)
    value, (after, metrics) = jax.jit(losses.loss)(
        params, mutable, {}, batch, jax.random.key(1), jnp.int32(0)
    )
    assert np.isfinite(value)
    assert 0 <= float(metrics["accuracy"]) <= 1
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), mutable["g"], after["g"])
    assert all(jax.tree.leaves(moved))


def test_decoys_have_squares_of_other_pictures():
    """Pictures of one colour each: every square is of one colour, of any share one's own."""
    x = jnp.broadcast_to(jnp.arange(64.0)[:, None, None, None], (64, 8, 12, 3))
    foreign = []
    for seed in range(8):
        found = np.asarray(patched(jax.random.key(seed), x, 4))
        squares = found.reshape(64, 2, 4, 3, 4, 3).swapaxes(2, 3).reshape(64, 6, -1)
        np.testing.assert_array_equal(squares, squares[..., :1] * np.ones(48))
        foreign.append(squares[..., 0] != np.arange(64)[:, None])
    counts = np.bincount(np.concatenate(foreign).sum(axis=1), minlength=7)
    # By few squares, by most, and by all of them; one in 64 is swapped for one of the same.
    assert (counts[1:] > 20).all(), counts
    assert counts[0] < 10, counts


def test_squares_of_decoys_come_from_anywhere_and_stay_whole():
    x = jnp.arange(4 * 8 * 8.0).reshape(4, 8, 8, 1)
    whole = {tuple(square) for square in _squares(np.asarray(x))}
    found = np.concatenate([patched(jax.random.key(seed), x, 4) for seed in range(8)])
    squares = [tuple(square) for square in _squares(found)]
    assert set(squares) <= whole
    # The first pixel of a square in its picture tells its place.
    places = np.array([square[0] % 64 for square in squares]).reshape(-1, 4)
    assert (places != np.array([0, 4, 32, 36])).any()


def _squares(x):
    """(b, 8, 8, 1) -> (4 b, 16)."""
    return x.reshape(-1, 2, 4, 2, 4).swapaxes(2, 3).reshape(-1, 16)


def test_decoys_and_noise_are_of_training_alone():
    changes = {"model.decoys": 4, "model.noise": 0.1}
    plain, with_decoys = (
        task.ClipLosses(family.resolve(configs.load(f"{CONFIG}:tiny", these)))
        for these in ({}, changes)
    )
    batch = {
        "image": np.stack([noise(16, 16, seed) for seed in range(4)]),
        "tokens": jnp.ones((4, 12), jnp.int32),
        "mask": jnp.ones((4, 12), bool),
        "meaning": jnp.arange(4),
    }
    params, mutable = jax.jit(plain.init)(jax.random.key(0), batch)
    values = {}
    for name, losses in (("plain", plain), ("decoys", with_decoys)):
        loss = jax.jit(losses.loss)
        for seed in (1, 2):
            value, (_, metrics) = loss(params, mutable, {}, batch, jax.random.key(seed), 0)
            values[name, seed] = float(value)
            assert ("told_apart" in metrics) == (name == "decoys")
    assert values["plain", 1] == values["plain", 2]
    assert values["decoys", 1] != values["decoys", 2]
    assert min(values["decoys", 1], values["decoys", 2]) > values["plain", 1]
