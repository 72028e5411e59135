"""Each loss against a value worked out by hand, or against torch; float32 whatever comes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen.errors import UserError
from jaxgen.losses import adversarial, pixel
from jaxgen.losses.perceptual import perceptual_loss


def _logits(seed, shape=(16, 1), scale=3.0):
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


REAL, FAKE = _logits(0), _logits(1) - 0.5
LOG2 = float(np.log(2.0))


# ------------------------------------------------------------------------------- adversarial


@pytest.mark.parametrize("target", [0.0, 1.0, 0.9, "array"])
def test_bce_equals_torch_with_gradients(target):
    torch = pytorch()
    logits = np.concatenate([np.asarray(REAL), [[-200.0], [200.0], [0.0]]]).astype(np.float32)
    if target == "array":
        target = np.random.default_rng(2).uniform(size=logits.shape).astype(np.float32)
    ours, gradient = jax.value_and_grad(adversarial.bce_with_logits)(jnp.asarray(logits), target)
    theirs = torch.tensor(logits, requires_grad=True)
    full = torch.tensor(np.broadcast_to(target, logits.shape).astype(np.float32))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(theirs, full)
    loss.backward()
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-6)
    # At a logit of exactly 0 too: max(l, 0) - l*t + log(1 + exp(-|l|)) has kinks there that do
    # not cancel under JAX's rules.
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-5, atol=1e-8)


def test_undecided_discriminator_has_the_textbook_losses():
    zero = jnp.zeros((4, 1))
    d, g = adversarial.discriminator_loss, adversarial.generator_loss
    np.testing.assert_allclose(d(zero, zero), 2 * LOG2, rtol=1e-6)
    np.testing.assert_allclose(g(zero), LOG2, rtol=1e-6)
    np.testing.assert_allclose(d(zero, zero, "minimax"), 2 * LOG2, rtol=1e-6)
    np.testing.assert_allclose(g(zero, "minimax"), -LOG2, rtol=1e-6)
    np.testing.assert_allclose(d(zero, zero, "hinge"), 2.0)
    np.testing.assert_allclose(g(zero, "hinge"), 0.0)
    np.testing.assert_allclose(d(zero, zero, "lsgan"), 0.5)
    np.testing.assert_allclose(g(zero, "lsgan"), 0.5)
    np.testing.assert_allclose(d(zero, zero, "relativistic"), LOG2, rtol=1e-6)
    np.testing.assert_allclose(g(zero, "relativistic", zero), LOG2, rtol=1e-6)


def test_losses_equal_their_formulas_on_probabilities():
    real, fake = np.asarray(REAL, np.float64), np.asarray(FAKE, np.float64)

    def sigmoid(x):
        return 1.0 / (1.0 + np.exp(-x))

    def log(x):
        return np.mean(np.log(x))

    p, q = sigmoid(real), sigmoid(fake)
    pr, qr = sigmoid(real - fake.mean()), sigmoid(fake - real.mean())
    expected_d = {
        "nonsaturating": -log(p) - log(1 - q),
        "minimax": -log(p) - log(1 - q),
        "hinge": np.mean(np.maximum(0, 1 - real)) + np.mean(np.maximum(0, 1 + fake)),
        "lsgan": 0.5 * np.mean((real - 1) ** 2) + 0.5 * np.mean(fake**2),
        "relativistic": 0.5 * (-log(pr) - log(1 - qr)),
    }
    expected_g = {
        "nonsaturating": -log(q),
        "minimax": log(1 - q),
        "hinge": -fake.mean(),
        "lsgan": 0.5 * np.mean((fake - 1) ** 2),
        "relativistic": 0.5 * (-log(1 - pr) - log(qr)),
    }
    assert set(expected_d) == set(adversarial.KINDS)
    for kind in adversarial.KINDS:
        ours_d = adversarial.discriminator_loss(REAL, FAKE, kind)
        ours_g = adversarial.generator_loss(FAKE, kind, REAL)
        np.testing.assert_allclose(ours_d, expected_d[kind], rtol=1e-5, err_msg=kind)
        np.testing.assert_allclose(ours_g, expected_g[kind], rtol=1e-5, err_msg=kind)


@pytest.mark.parametrize("kind", adversarial.KINDS)
def test_gradients_push_the_right_way_and_stay_finite(kind):
    # A discriminator that has won by far: bare log(sigmoid) would give inf or nan here.
    real, fake = jnp.full((4, 1), 300.0), jnp.full((4, 1), -300.0)
    loss_d = adversarial.discriminator_loss(real, fake, kind)
    grad_g = jax.grad(lambda f: adversarial.generator_loss(f, kind, real))(fake)
    assert np.isfinite(loss_d)
    assert np.all(np.isfinite(grad_g))
    # Minimax is flat there: the reason for the non-saturating form.
    assert np.all(grad_g == 0) if kind == "minimax" else np.all(grad_g < 0)
    grads = jax.grad(lambda r, f: adversarial.discriminator_loss(r, f, kind), argnums=(0, 1))(
        jnp.full((4, 1), -0.5), jnp.full((4, 1), 0.5)
    )
    assert np.all(grads[0] < 0)
    assert np.all(grads[1] > 0)


def test_relativistic_sends_no_gradient_to_the_real_logits():
    grad = jax.grad(lambda r: adversarial.generator_loss(FAKE, "relativistic", r))(REAL)
    np.testing.assert_array_equal(grad, 0.0)


def test_relativistic_mean_is_global_when_the_batch_is_sharded():
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    loss = jax.jit(lambda r, f: adversarial.discriminator_loss(r, f, "relativistic"))
    sharded = loss(jax.device_put(REAL, spread), jax.device_put(FAKE, spread))
    np.testing.assert_allclose(sharded, loss(REAL, FAKE), rtol=1e-6)
    per_device = np.mean([loss(REAL[i : i + 2], FAKE[i : i + 2]) for i in range(0, 16, 2)])
    assert abs(per_device - sharded) > 1e-2  # else this test would prove nothing


@pytest.mark.parametrize("kind", ["nonsaturating", "lsgan"])
def test_one_sided_smoothing_has_its_minimum_at_the_smoothed_target(kind):
    logit = np.log(0.9 / 0.1) if kind == "nonsaturating" else 0.9
    at = jnp.full((4, 1), logit, jnp.float32)
    grad = jax.grad(lambda r: adversarial.discriminator_loss(r, FAKE[:4], kind, 0.9))(at)
    np.testing.assert_allclose(grad, 0.0, atol=1e-7)


def test_noisy_targets_are_keras_srgans():
    real, fake = adversarial.noisy_targets(jax.random.key(0), (4000, 1))
    assert real.dtype == fake.dtype == jnp.float32
    assert 0.8 <= real.min() < 0.801
    assert 0.999 < real.max() <= 1.0
    assert 0.0 <= fake.min() < 0.001
    assert 0.199 < fake.max() < 0.2
    np.testing.assert_allclose([real.mean(), fake.mean()], [0.9, 0.1], atol=0.005)
    assert abs(np.corrcoef(real[:, 0], fake[:, 0])[0, 1]) < 0.1  # drawn apart
    again, _ = adversarial.noisy_targets(jax.random.key(0), (4000, 1))
    np.testing.assert_array_equal(real, again)
    loss = adversarial.discriminator_loss(
        REAL, FAKE, "nonsaturating", *adversarial.noisy_targets(jax.random.key(1), (16, 1))
    )
    assert np.isfinite(loss)


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="targets"):
        adversarial.bce_with_logits(REAL, jnp.ones((1, 1)))


def test_accuracy_counts_both_sides_alike():
    real = jnp.asarray([[1.0], [2.0], [-1.0], [3.0]])  # 3 of 4 right
    fake = jnp.asarray([[-1.0], [1.0]])  # 1 of 2 right
    np.testing.assert_allclose(adversarial.accuracy(real, fake), 0.625)
    np.testing.assert_allclose(adversarial.accuracy(jnp.zeros((4, 1)), jnp.zeros((4, 1))), 0.5)


def test_r1_penalty_of_known_gradients():
    w = _logits(3, (4, 4, 3))
    images = _logits(4, (2, 4, 4, 3))
    # D(x) = <w, x> has the gradient w everywhere; D(x) = |x|^2 has 2x.
    linear = adversarial.r1_penalty(lambda x: jnp.einsum("bhwc,hwc->b", x, w), images, gamma=10.0)
    np.testing.assert_allclose(linear, 5.0 * np.sum(np.square(w)), rtol=1e-5)
    square = adversarial.r1_penalty(lambda x: jnp.sum(x**2, (1, 2, 3)), images, gamma=2.0)
    expected = np.mean(np.sum(np.square(2 * np.asarray(images)), (1, 2, 3)))
    np.testing.assert_allclose(square, expected, rtol=1e-5)
    # And it can itself be differentiated: d/ds of (gamma/2) s^2 |w|^2 at s = 1.
    grad = jax.grad(
        lambda s: adversarial.r1_penalty(lambda x: s * jnp.einsum("bhwc,hwc->b", x, w), images)
    )(1.0)
    np.testing.assert_allclose(grad, 10.0 * np.sum(np.square(w)), rtol=1e-5)


def test_unknown_kinds_are_named():
    with pytest.raises(UserError, match=r"'wgan'.*hinge"):
        adversarial.discriminator_loss(REAL, FAKE, "wgan")
    with pytest.raises(UserError, match=r"'wgan'.*hinge"):
        adversarial.generator_loss(FAKE, "wgan")
    with pytest.raises(ValueError, match="real"):
        adversarial.generator_loss(FAKE, "relativistic")


# ------------------------------------------------------------------------------------- pixel


def test_pixel_losses_by_hand():
    x = jnp.asarray([[0.0, 1.0], [2.0, 3.0]]).reshape(1, 2, 2, 1)
    y = jnp.asarray([[1.0, 1.0], [0.0, 7.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(pixel.mse(x, y), (1 + 0 + 4 + 16) / 4)
    np.testing.assert_allclose(pixel.l1(x, y), (1 + 0 + 2 + 4) / 4)
    expected = np.mean(np.sqrt(np.asarray([1, 0, 4, 16]) + 0.25))
    np.testing.assert_allclose(pixel.charbonnier(x, y, eps=0.5), expected, rtol=1e-6)
    np.testing.assert_allclose(pixel.charbonnier(x, x), 1e-3, rtol=1e-5)
    # Vertical steps 2, 2; horizontal steps 1, 1.
    np.testing.assert_allclose(pixel.total_variation(x), 3.0)


def test_equal_pixels_are_left_alone():
    x = jnp.ones((1, 2, 2, 1))
    for loss in (pixel.mse, pixel.l1, pixel.charbonnier):
        np.testing.assert_array_equal(jax.grad(loss)(x, x), 0.0)
    np.testing.assert_array_equal(jax.grad(pixel.total_variation)(x), 0.0)
    np.testing.assert_array_equal(jax.grad(pixel.l1)(x, 0 * x), 0.25)


def test_pixel_losses_refuse_to_broadcast():
    for loss in (pixel.mse, pixel.l1, pixel.charbonnier):
        with pytest.raises(ValueError, match="shapes differ"):
            loss(jnp.ones((2, 4, 4, 3)), jnp.ones((1, 4, 4, 3)))


def test_everything_is_float32_for_bfloat16_input():
    # 1 and 1 + 2^-7 are neighbours in bfloat16; the mean over 2^16 equal ones would be lost in it.
    x = jnp.full((16, 64, 64, 1), 1.0 + 2**-7, jnp.bfloat16)
    y = jnp.ones((16, 64, 64, 1), jnp.bfloat16)
    assert pixel.mse(x, y) == 2.0**-14
    assert pixel.l1(x, y) == 2.0**-7
    losses = [pixel.mse(x, y), pixel.l1(x, y), pixel.charbonnier(x, y), pixel.total_variation(x)]
    logits = REAL.astype(jnp.bfloat16)
    for kind in adversarial.KINDS:
        losses.append(adversarial.discriminator_loss(logits, logits, kind))
        losses.append(adversarial.generator_loss(logits, kind, logits))
        np.testing.assert_allclose(
            losses[-1],
            adversarial.generator_loss(
                logits.astype(jnp.float32), kind, logits.astype(jnp.float32)
            ),
            rtol=1e-6,
        )
    losses.append(adversarial.r1_penalty(lambda x: x.sum((1, 2, 3)), x))
    losses.append(perceptual_loss(lambda x: {"a": x}, x, y, {"a": 1.0}))
    assert all(loss.dtype == jnp.float32 and loss.shape == () for loss in losses)


# -------------------------------------------------------------------------------- perceptual


def _two_layers(x):
    return {"a": 2.0 * x, "b": x**2}


def test_perceptual_loss_by_hand():
    x, y = jnp.full((1, 2, 2, 1), 3.0), jnp.full((1, 2, 2, 1), 1.0)
    layers = {"a": 1.0, "b": 0.5}
    # |a| differs by 4, |b| by 8.
    np.testing.assert_allclose(perceptual_loss(_two_layers, x, y, layers, "l2"), 16 + 0.5 * 64)
    np.testing.assert_allclose(perceptual_loss(_two_layers, x, y, layers, "l1"), 4 + 0.5 * 8)
    scaled = perceptual_loss(_two_layers, x, y, {"a": 1.0}, "l2", feature_scale=1 / 12.75)
    np.testing.assert_allclose(scaled, 16 / 12.75**2, rtol=1e-6)


def test_perceptual_loss_moves_the_generated_image_only():
    x, y = jnp.full((1, 2, 2, 1), 3.0), jnp.full((1, 2, 2, 1), 1.0)
    gradients = jax.grad(
        lambda x, y: perceptual_loss(_two_layers, x, y, {"b": 1.0}), argnums=(0, 1)
    )(x, y)
    np.testing.assert_allclose(gradients[0], 2 * 8 * 6 / 4)  # d/dx mean (x^2 - 1)^2
    np.testing.assert_array_equal(gradients[1], 0.0)
    # Nor through the network's own weights, should these be trained: d/dw mean (wx - y)^2, w = 1.
    slope = jax.grad(lambda w: perceptual_loss(lambda x: {"a": w * x}, x, y, {"a": 1.0}))(1.0)
    np.testing.assert_allclose(slope, 2 * (3 - 1) * 3)


def test_perceptual_loss_names_mistakes():
    x = jnp.ones((1, 2, 2, 1))
    with pytest.raises(UserError, match=r"'huber'.*l1 or l2"):
        perceptual_loss(_two_layers, x, x, {"a": 1.0}, "huber")
    with pytest.raises(UserError, match="at least one layer"):
        perceptual_loss(_two_layers, x, x, {})
