"""DiffAugment, CutMix, mode seeking and mismatched pairs, on what can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.losses import cutmix, diff_augment, mode_seeking, text_to_image
from jaxgen.losses.adversarial import bce_with_logits
from jaxgen.nn.text import Judgement

KEY = jax.random.key(0)
BOTH = ("translation", "cutout")
# Every pixel of every picture is another number, none of them zero.
NUMBERED = 0.1 + jnp.arange(64 * 16 * 16 * 3, dtype=jnp.float32).reshape(64, 16, 16, 3)


@pytest.fixture(scope="module")
def apply():
    """diff_augment.apply, compiled."""
    return jax.jit(diff_augment.apply, static_argnums=2)


# ---- DiffAugment ---------------------------------------------------------------------------------


def test_policies_are_read():
    assert diff_augment.parse("") == ()
    assert diff_augment.parse("translation, cutout") == BOTH
    assert diff_augment.parse("color") == ("color",)
    with pytest.raises(UserError, match=r"unknown augmentation colour; .* color, translation"):
        diff_augment.parse("translation,colour")


def test_empty_policy_is_the_identity():
    assert diff_augment.apply(KEY, NUMBERED, ()) is NUMBERED


def test_translation_moves_each_picture_by_its_own_whole_pixels(apply):
    moved = np.asarray(apply(KEY, NUMBERED, ("translation",)))
    whole = np.pad(np.asarray(NUMBERED), ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for i in range(64):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(moved[i], whole[i, y : y + 16, x : x + 16])
        ]
        assert len(found) == 1  # a shift of at most 16 / 8 pixels, zeros coming in
        seen.add(found[0])
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(5))


def test_cutout_hides_a_square_of_half_the_side(apply):
    cut = np.asarray(apply(KEY, NUMBERED, ("cutout",)))
    hidden = (cut == 0).all(axis=-1)
    np.testing.assert_array_equal(cut[~hidden], np.asarray(NUMBERED)[~hidden])
    sides = set()
    for mask in hidden:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)  # a rectangle
        assert np.ptp(rows) + 1 == len(rows) <= 8
        assert np.ptp(columns) + 1 == len(columns) <= 8
        # Smaller only where it is cut off by the border.
        assert len(rows) == 8 or rows[0] == 0 or rows[-1] == 15
        assert len(columns) == 8 or columns[0] == 0 or columns[-1] == 15
        sides.add((int(rows[0]), int(columns[0])))
    assert len(sides) > 16


def test_translation_and_cutout_keep_colours(apply):
    colours = jnp.array([[0.9, -0.7, -0.7], [0.2, 0.4, 0.8], [1.0, 1.0, 1.0]])
    index = jax.random.randint(KEY, (8, 16, 16), 0, 3)
    changed = np.asarray(apply(KEY, colours[index], BOTH)).reshape(-1, 3)
    allowed = {tuple(c) for c in np.asarray(colours)} | {(0.0, 0.0, 0.0)}
    assert {tuple(c) for c in changed} == allowed
    assert not np.array_equal(changed, np.asarray(colours[index]).reshape(-1, 3))


def test_colour_keeps_places_and_its_ranges(apply):
    """Grey picture, level 0.2: only the brightness acts."""
    grey = np.asarray(apply(KEY, jnp.full((256, 8, 8, 3), 0.2), ("color",)))
    assert np.ptp(grey, axis=(1, 2, 3)).max() < 1e-6
    added = grey[:, 0, 0, 0] - 0.2
    assert -0.5 <= added.min() < -0.4
    assert 0.4 < added.max() <= 0.5
    # Black and white halves: their distance is the contrast's factor, in 0.5 to 1.5.
    halves = jnp.ones((256, 8, 8, 3)).at[:, :4].set(-1.0)
    changed = np.asarray(apply(KEY, halves, ("color",)))
    factor = (changed[:, 4:] - changed[:, :4]) / 2
    assert np.ptp(factor, axis=(1, 2, 3)).max() < 1e-5
    assert 0.5 <= factor.min() < 0.6
    assert 1.4 < factor.max() <= 1.5


@pytest.mark.parametrize("policy", [BOTH, ("color", "translation", "cutout")])
def test_gradients_flow_where_pixels_are_seen(policy):
    """The transposed linear map: <A x, y> = <x, A^T y>, and it is finite."""
    x, y = jax.random.normal(KEY, (2, 8, 16, 16, 3))
    rng = jax.random.key(3)

    @jax.jit
    def both(x, y):
        changed, back = jax.vjp(lambda x: diff_augment.apply(rng, x, policy), x)
        shift = diff_augment.apply(rng, jnp.zeros_like(x), policy)  # brightness alone
        return jnp.sum((changed - shift) * y), jnp.sum(x * back(y)[0])

    left, right = both(x, y)
    assert float(left) == pytest.approx(float(right), rel=1e-4)
    assert abs(float(left)) > 0.1


def test_dtype_stays(apply):
    half = NUMBERED[:2].astype(jnp.bfloat16)
    shape = jax.eval_shape(lambda x: diff_augment.apply(KEY, x, ("color", *BOTH)), half)
    assert shape.dtype == jnp.bfloat16


# ---- CutMix --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masks():
    """(4000, 16, 16)."""
    return np.asarray(cutmix.masks(KEY, 4000, 16))


def boxes(masks):
    """The masks with 1 in the box, for those whose box touches no border, so that it is clear."""
    corner = masks[:, :1, :1]
    ring = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], axis=1)
    clear = (ring == corner[:, 0]).all(axis=1)
    return np.where(corner == 0, masks, 1 - masks)[clear]


def test_masks_are_boxes(masks):
    assert set(np.unique(masks)) == {0.0, 1.0}
    found = boxes(masks)
    assert len(found) > 500
    rows, columns = found.any(axis=2).sum(axis=1), found.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(found.sum(axis=(1, 2)), rows * columns)
    assert np.abs(rows - columns).max() <= 1  # squares, but for the grid
    assert found.sum(axis=(1, 2)).max() > 100
    # The mean of a mask is its area, inside out half of the time.
    assert masks.mean() == pytest.approx(0.5, abs=0.03)
    assert masks[:, 0, 0].mean() == pytest.approx(0.5, abs=0.05)


def test_area_of_the_boxes_is_uniform_before_they_are_cut_off(masks):
    """A box of side s, its centre anywhere, is cut off to s - s^2/4 on average, in each direction.

    With s^2 = u ~ U(0, 1): E[(s - s^2/4)^2] = 1/2 - 1/5 + 1/48 = 0.3208. The same for both halves
    of the masks, those inside out and those not: the difference of their means is 1 - 2 * 0.3208.
    """
    turned = np.asarray(jax.random.bernoulli(jax.random.split(KEY, 3)[2], 0.5, (4000, 1, 1)))
    areas = np.where(turned, masks, 1 - masks).mean(axis=(1, 2))
    assert areas.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.015)


def local(images, bias=0.3):
    """A discriminator whose pixel logits each see one pixel; the global one sees their mean."""
    pixels = jnp.sin(3 * images.sum(axis=-1)) + bias
    return Judgement(pair=pixels.mean(axis=(1, 2)), pixels=pixels)


def pictures():
    return jax.random.uniform(jax.random.key(5), (2, 6, 16, 16, 3), minval=-1)


def run_cutmix(judge):
    @jax.jit
    def run(real, fake):
        return cutmix.losses(KEY, judge, real, fake, judge(real), judge(fake), 1.0, 1, jnp.int32(1))

    return run(*pictures())


def test_consistency_is_zero_for_a_pixel_local_discriminator_and_not_else():
    value, metrics = run_cutmix(local)
    assert float(metrics["cutmix_consistency"]) < 1e-12
    assert float(value) == pytest.approx(float(metrics["cutmix_augmentation"]))

    def wide(images):
        near = 0.5 * (images + jnp.roll(images, 1, axis=2))
        return local(near)

    assert float(run_cutmix(wide)[1]["cutmix_consistency"]) > 1e-3


def test_augmentation_by_hand():
    """Cross-entropy of pixels with the mask, and of the global logit with "fake"."""
    (real, fake), (mask_rng, _) = pictures(), jax.random.split(KEY)
    mask = cutmix.masks(mask_rng, 6, 16)
    judged = local(jnp.where(mask[..., None] > 0, real, fake))
    expected = bce_with_logits(judged.pixels, mask) + bce_with_logits(judged.pair, 0.0)
    _, metrics = run_cutmix(local)
    assert float(metrics["cutmix_augmentation"]) == pytest.approx(float(expected), rel=1e-5)


def test_probability_rises_over_the_warmup():
    picture = jnp.zeros((1, 2, 2, 3))
    silent = Judgement(pair=jnp.zeros(1), pixels=jnp.zeros((1, 2, 2)))

    @jax.jit
    def share(step):
        def value(rng):
            return cutmix.losses(
                rng, lambda _: silent, picture, picture, silent, silent, 0.5, 100, step
            )[0]

        return jnp.mean(jax.vmap(value)(jax.random.split(KEY, 600)))

    each = 2 * np.log(2)  # of a step that has the losses
    for step, expected in ((0, 0.0), (50, 0.25), (100, 0.5), (1000, 0.5)):
        assert float(share(step)) / each == pytest.approx(expected, abs=0.07 * (step > 0))


def test_gradients_reach_all_three_judgements():
    """The consistency's target is not held fixed."""
    real, fake = pictures()

    def loss(a, b, c):
        def judge(x, bias=0.0):
            return local(jnp.roll(x, 1, axis=1) + x, bias)

        value, _ = cutmix.losses(
            KEY, lambda x: judge(x, c), real, fake, judge(real, a), judge(fake, b), 1.0, 1,
            jnp.int32(1),
        )  # fmt: skip
        return value

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(0.1, 0.2, 0.3)
    assert all(np.isfinite(g) and abs(g) > 1e-4 for g in gradients)


def test_cutmix_needs_pixels():
    with pytest.raises(UserError, match=r"U-Net discriminator.*model\.discriminator\.form=unet"):
        run_cutmix(lambda x: Judgement(pair=x.mean(axis=(1, 2, 3))))


# ---- mode seeking --------------------------------------------------------------------------------


def test_mode_seeking_by_hand():
    a = jnp.zeros((2, 4, 4, 3))
    b = a.at[0].set(0.5)  # mean distance 0.25
    z_a, z_b = jnp.zeros((2, 5)), jnp.full((2, 5), 2.0)
    found = mode_seeking.loss(a, b, z_a, z_b)
    assert float(found) == pytest.approx(1 / (0.25 / 2 + 1e-5), rel=1e-6)
    assert mode_seeking.loss(*(x.astype(jnp.bfloat16) for x in (a, b, z_a, z_b))).dtype == (
        jnp.float32
    )


def test_mode_seeking_pushes_pictures_apart_and_is_finite_when_they_are_equal():
    z_a, z_b = jax.random.normal(KEY, (2, 3, 5))
    a, b = jax.random.normal(KEY, (2, 3, 4, 4, 3))
    compute = jax.jit(jax.value_and_grad(mode_seeking.loss))
    before, gradient = compute(a, b, z_a, z_b)
    assert float(compute(a - gradient, b, z_a, z_b)[0]) < float(before)
    value, gradient = compute(a, a, z_a, z_b)
    assert float(value) == pytest.approx(1e5, rel=1e-5)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e6  # why the docstring says: clip it


# ---- mismatched pairs ----------------------------------------------------------------------------


def test_mismatched_pairs_never_mean_the_same():
    compute = jax.jit(text_to_image.mismatched)
    rng = np.random.default_rng(0)
    for trial in range(200):
        meaning = rng.integers(0, 1 + trial % 5, 8)
        index, weight = (np.asarray(x) for x in compute(jnp.asarray(meaning, jnp.int32)))
        if len(set(meaning)) == 1:
            assert not weight.any()
            continue
        assert weight.tolist() == [1.0] * 8
        assert (meaning[index] != meaning).all()
        for i, j in enumerate(index):  # the nearest that follows: all between mean the same
            between = [(i + k) % 8 for k in range((j - i) % 8)]
            assert set(meaning[between]) == {meaning[i]}


def test_hard_mismatches_are_the_most_alike_of_another_meaning():
    likeness = jnp.asarray(
        [[1.0, 0.9, 0.1, 0.5], [0.9, 1.0, 0.2, 0.3], [0.1, 0.2, 1, 0], [0.5, 0.3, 0, 1]]
    )
    index, weight = text_to_image.mismatched(jnp.asarray([7, 7, 8, 9]), likeness)
    np.testing.assert_array_equal(index, [3, 3, 1, 0])
    np.testing.assert_array_equal(weight, np.ones(4))


def test_a_batch_of_one_has_no_mismatched_pair():
    index, weight = text_to_image.mismatched(jnp.zeros(1, jnp.int32))
    assert (index.tolist(), weight.tolist()) == ([0], [0.0])
