"""Views against the originals', their random numbers given; the changes' distributions."""

import colorsys
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.edit import augment
from jaxgen.edit.clamp import clamp_with_gradient
from jaxgen.edit.cutouts import Cutouts, box_sides, draw_boxes, features, pooled
from jaxgen.edit.resample import resample_boxes


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    return np.load(fixtures_dir / "retrieval/vqgan_clip_cutouts.npz")


def hwc(x):
    return jnp.asarray(np.moveaxis(x, -3, -1))


@pytest.fixture(params=range(4))
def case(golden, request):
    found = {k[2:]: golden[k] for k in golden.files if k.startswith(f"{request.param}:")}
    return found | json.loads(str(golden["info"]))[request.param]


def weighted(views):
    """The sum whose gradient the fixtures hold."""
    flat = jnp.moveaxis(views, -1, -3).ravel()
    return jnp.sum(flat * jnp.linspace(-1, 1, flat.size))


def seen_and_slope(views, x):
    """What `views` makes of x, and its weighted sum's gradient, by one program."""

    def loss(x):
        seen = views(x)
        return weighted(seen), seen

    slope, seen = jax.jit(jax.grad(loss, has_aux=True))(x)
    return seen, slope


def test_crops(case):
    x, size = hwc(case["image"])[0], case["cut_size"]
    sides = box_sides(jnp.asarray(case["uniform"], "float32"), x.shape[:2], size, case["cut_pow"])
    np.testing.assert_array_equal(sides, case["sizes"])
    lefts, tops = case["offset_xy"].T
    seen, slope = seen_and_slope(
        lambda x: clamp_with_gradient(resample_boxes(x, tops, lefts, sides, size)), x
    )
    np.testing.assert_allclose(seen, hwc(case["original"]), atol=1e-5)
    np.testing.assert_allclose(slope, hwc(case["original_grad"])[0], atol=1e-5)


def test_pooled(case):
    x, size = hwc(case["image"])[0], case["cut_size"]
    seen, slope = seen_and_slope(lambda x: pooled(x, size)[None], x)
    np.testing.assert_allclose(seen, hwc(case["pooled"]), atol=1e-5)
    np.testing.assert_allclose(slope, hwc(case["pooled_grad"])[0], atol=1e-5)


def test_sizes_are_distributed_as_published(golden):
    for name, want in json.loads(str(golden["size_distribution"])).items():
        sides, _, size, _, power = name.split()
        height, width = map(int, sides.split("x"))
        drawn = jax.jit(draw_boxes, static_argnums=(1, 2, 3, 4))(
            jax.random.key(0), 200_000, (height, width), int(size), float(power)
        )
        tops, lefts, squares = map(np.asarray, drawn)
        assert abs(squares.mean() - want["mean"]) < 1
        assert squares.min() == want["min"]
        assert squares.max() <= want["max"]
        np.testing.assert_allclose(
            np.quantile(squares, (0.05, 0.25, 0.5, 0.75, 0.95)),
            want["quantiles_5_25_50_75_95"],
            atol=3,
        )
        assert (tops + squares).max() == height
        assert (lefts + squares).max() == width
        assert tops.min() == 0
        assert lefts.min() == 0


def draws(function, *args, n=4000):
    return np.asarray(
        jax.jit(jax.vmap(lambda k: function(k, *args)))(jax.random.split(jax.random.key(1), n))
    )


def test_affine_is_distributed_as_published(golden):
    want = json.loads(str(golden["augmentation_parameters"]))["parameters"]
    (want,) = [v for k, v in want.items() if k.startswith("Af")]
    back = draws(augment.affine, 32)
    changed = np.abs(back - np.eye(3)).max((1, 2)) > 0
    assert abs(changed.mean() - 0.7) < 0.03
    there = np.linalg.inv(back[changed])
    # What comes first is the shear, which keeps x: the turn is what becomes of the x axis.
    angle = np.degrees(np.arctan2(there[:, 1, 0], there[:, 0, 0]))
    assert abs(angle.std() - want["angle"]["std"]) < 0.3
    assert np.abs(angle).max() <= 15.001
    turn = np.radians(angle)
    shear = np.degrees(np.arctan(np.cos(turn) * there[:, 0, 1] + np.sin(turn) * there[:, 1, 1]))
    assert abs(shear.std() - want["shear_x"]["std"]) < 0.1
    assert np.abs(shear).max() <= 5.001
    moved = there @ np.array([15.5, 15.5, 1]) - np.array([15.5, 15.5, 1])
    # Both axes' figures are together in the fixture, and x does not move.
    assert abs(moved[:, :2].std() - want["translations"]["std"]) < 0.06
    assert np.abs(moved[:, 0]).max() < 1e-4
    assert np.abs(moved[:, 1]).max() <= 3.2001


def test_perspective_is_distributed_as_published(golden):
    want = json.loads(str(golden["augmentation_parameters"]))["parameters"]
    (want,) = [v for k, v in want.items() if k.startswith("Pe")]
    there = np.linalg.inv(draws(augment.perspective, 32))
    corners = np.array([[0, 0, 1], [31, 0, 1], [31, 31, 1], [0, 31, 1]]).T
    found = there @ corners
    ends = (found[:, :2] / found[:, 2:]).transpose(0, 2, 1)
    changed = np.abs(ends - corners[:2].T).max((1, 2)) > 1e-3
    assert abs(changed.mean() - 0.7) < 0.03
    assert abs(ends[changed].std() - want["end_points"]["std"]) < 0.1
    assert ends.min() > -1e-3
    assert ends.max() < 31.001


def test_erasing_is_distributed_as_published(golden):
    want = json.loads(str(golden["augmentation_parameters"]))["parameters"]
    want = want["Er without same_on_batch"]
    gone = 1 - draws(augment.erase, 32)
    gone = gone[gone.sum((1, 2)) > 0]
    assert abs(len(gone) / 4000 - 0.7) < 0.03
    heights, widths = gone.max(2).sum(1), gone.max(1).sum(1)
    tops, lefts = gone.max(2).argmax(1), gone.max(1).argmax(1)
    for name, found in {"heights": heights, "widths": widths, "xs": lefts, "ys": tops}.items():
        assert abs(found.mean() - want[name]["mean"]) < 0.6, name
        assert abs(found.std() - want[name]["std"]) < 0.4, name


def test_warp_reads_where_it_says():
    x = jax.random.uniform(jax.random.key(0), (9, 9, 3))
    still = jnp.eye(3)
    warp = jax.jit(augment.warp)
    np.testing.assert_array_equal(warp(x, still, still), x)
    shift = still.at[0, 2].set(2.0)
    np.testing.assert_allclose(warp(x, shift, still)[:, :-2], x[:, 2:], atol=1e-6)
    # What the first has moved out of the frame is gone.
    twice = warp(x, shift, still.at[0, 2].set(-2.0))
    np.testing.assert_allclose(twice[:, 2:], x[:, 2:], atol=1e-6)
    np.testing.assert_array_equal(twice[:, :2], jnp.zeros((9, 2, 3)))


def test_jitter_turns_the_colour_circle():
    x = np.random.default_rng(0).uniform(size=(4, 5, 3)).astype("float32")
    turn = jax.jit(augment._turn_hue)
    got = turn(jnp.asarray(x), jnp.float32(0.07))
    for pixel, found in zip(x.reshape(-1, 3), np.asarray(got).reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        np.testing.assert_allclose(found, colorsys.hsv_to_rgb((h + 0.07) % 1, s, v), atol=1e-5)
    grey = jax.grad(lambda x: turn(x, jnp.float32(0.07)).sum())(jnp.full((1, 1, 3), 0.5))
    assert np.isfinite(grey).all()


@pytest.mark.parametrize("style", ["crops", "pooled"])
def test_chunks_change_nothing(style):
    x = jax.random.uniform(jax.random.key(0), (20, 26, 3))

    def judge(pictures):
        return pictures.reshape(len(pictures), -1)[:, ::7]

    def slope(chunk):
        cutouts = Cutouts(12, 5, style, chunk=chunk)

        def loss(x):
            found = features(cutouts, judge, x, jax.random.key(3))
            return jnp.sum(found**2), found

        return jax.jit(jax.grad(loss, has_aux=True))(x)

    (want, seen), (got, again) = slope(5), slope(2)
    assert seen.shape[0] == 5
    assert np.isfinite(want).all()
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(again, seen, atol=1e-5)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_memory_grows_with_the_chunk_and_not_with_the_count():
    """Of the gradient, by what the compiled program needs."""
    look = jax.random.normal(jax.random.key(0), (16 * 16 * 3, 256)) / 30

    def needed(count, chunk):
        views = Cutouts(16, count, "pooled", changes=(), chunk=chunk)

        def seen(x):
            judge = lambda v: jnp.tanh(v.reshape(len(v), -1) @ look)  # noqa: E731
            return features(views, judge, x, jax.random.key(1)).sum()

        program = jax.jit(jax.grad(seen)).lower(jnp.zeros((16, 16, 3))).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert needed(64, 4) < 1.5 * needed(8, 4)
    assert needed(64, 64) > 4 * needed(64, 4)
