"""Adversarial losses on discriminator logits, float32 whatever the logits' dtype.

Means are over all elements: a batch of scores (b, 1) and a map of scores (b, h, w, 1) alike. Under
jit with a sharded batch they are means over the global batch; papers that ran one process per GPU
(ESRGAN) took them per device.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError

ONE_SIDED = ("nonsaturating", "minimax", "hinge", "lsgan")  # without a comparison of the two
KINDS = (*ONE_SIDED, "relativistic")
Target = float | jax.Array


def bce_with_logits(logits: jax.Array, target: Target) -> jax.Array:
    """Mean binary cross-entropy of sigmoid(logits) with `target` in [0, 1], a number or alike.

    log(1 + exp(l)) - l*t, which neither overflows nor loses its gradient at any logit.
    """
    logits = logits.astype(jnp.float32)
    if jnp.shape(target) not in ((), logits.shape):
        raise ValueError(f"targets {jnp.shape(target)} for logits {logits.shape}")
    return jnp.mean(jax.nn.softplus(logits) - logits * target)


def as_real(kind: str) -> Callable[..., jax.Array]:
    """(logits, target=1.0) -> the loss of each for being called real; float32, not averaged.

    Raises:
      UserError: a kind that compares real with fake ("relativistic"), or none of these.
    """
    if kind in ("nonsaturating", "minimax"):
        return lambda x, target=1.0: jax.nn.softplus(_f32(x)) - _f32(x) * target
    if kind == "hinge":
        return lambda x, target=1.0: jax.nn.relu(1.0 - _f32(x))
    if kind == "lsgan":
        return lambda x, target=1.0: 0.5 * jnp.square(_f32(x) - target)
    raise _unknown(kind, ONE_SIDED)


def as_fake(kind: str) -> Callable[[jax.Array], jax.Array]:
    """logits -> the loss of each for being called fake; float32, not averaged.

    Raises:
      UserError: as `as_real`.
    """
    if kind in ("nonsaturating", "minimax"):
        return lambda x: jax.nn.softplus(_f32(x))
    if kind == "hinge":
        return lambda x: jax.nn.relu(1.0 + _f32(x))
    if kind == "lsgan":
        return lambda x: 0.5 * jnp.square(_f32(x))
    raise _unknown(kind, ONE_SIDED)


def discriminator_loss(
    real: jax.Array,
    fake: jax.Array,
    kind: str = "nonsaturating",
    real_target: Target = 1.0,
    fake_target: Target = 0.0,
) -> jax.Array:
    """The discriminator's loss on logits for real and generated images; float32 scalar.

    "nonsaturating", "minimax": BCE (Goodfellow et al. 2014, eq. 1; SRGAN eq. 2), the same for both.
    "hinge": Lim and Ye 2017; SNGAN, Miyato et al. 2018, eq. 16. Has no targets.
    "lsgan": Mao et al. 2017, eq. 2.
    "relativistic": average form (ESRGAN, Wang et al. 2018, eq. 1), halved as in its code.

    real_target, fake_target: a number (one-sided smoothing: real_target=0.9) or an array shaped
      like the logits (`noisy_targets`).
    """
    real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
    if kind in ("nonsaturating", "minimax"):
        return bce_with_logits(real, real_target) + bce_with_logits(fake, fake_target)
    if kind == "hinge":
        return jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake))
    if kind == "lsgan":
        return 0.5 * (_mean_square(real - real_target) + _mean_square(fake - fake_target))
    if kind == "relativistic":
        real_loss = bce_with_logits(real - jnp.mean(fake), real_target)
        fake_loss = bce_with_logits(fake - jnp.mean(real), fake_target)
        return 0.5 * (real_loss + fake_loss)
    raise _unknown(kind)


def generator_loss(
    fake: jax.Array, kind: str = "nonsaturating", real: jax.Array | None = None
) -> jax.Array:
    """The generator's loss on the logits of its images; float32 scalar.

    "nonsaturating": mean of -log D (SRGAN, Ledig et al. 2017, eq. 6).
    "minimax": mean of log(1 - D) (Goodfellow et al. 2014, eq. 1); flat where D wins.
    "hinge": minus the mean logit (SNGAN, eq. 17).
    "lsgan": Mao et al. 2017, eq. 2 with c = 1.
    "relativistic": ESRGAN, eq. 2, halved as in its code; needs the logits of real images, to
      which no gradient flows.
    """
    fake = fake.astype(jnp.float32)
    if kind == "nonsaturating":
        return bce_with_logits(fake, 1.0)
    if kind == "minimax":
        return -bce_with_logits(fake, 0.0)
    if kind == "hinge":
        return -jnp.mean(fake)
    if kind == "lsgan":
        return 0.5 * _mean_square(fake - 1.0)
    if kind == "relativistic":
        if real is None:
            raise ValueError("the relativistic loss needs the logits of real images: pass real=")
        real = jax.lax.stop_gradient(real).astype(jnp.float32)
        real_loss = bce_with_logits(real - jnp.mean(fake), 0.0)
        fake_loss = bce_with_logits(fake - jnp.mean(real), 1.0)
        return 0.5 * (real_loss + fake_loss)
    raise _unknown(kind)


def noisy_targets(
    rng: jax.Array, shape: tuple[int, ...], amount: float = 0.2
) -> tuple[jax.Array, jax.Array]:
    """Targets (1 - U(0, amount), U(0, amount)) of the given shape, float32 (Keras-SRGAN: 0.2)."""
    real_rng, fake_rng = jax.random.split(rng)
    real = 1.0 - jax.random.uniform(real_rng, shape, maxval=amount)
    fake = jax.random.uniform(fake_rng, shape, maxval=amount)
    return real, fake


def accuracy(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Share of logits on the right side of zero, real and fake weighing the same; 0.5 is chance."""
    right_real = jnp.mean((real > 0).astype(jnp.float32))
    right_fake = jnp.mean((fake <= 0).astype(jnp.float32))
    return 0.5 * (right_real + right_fake)


def r1_penalty(
    discriminate: Callable[[jax.Array], jax.Array], images: jax.Array, gamma: float = 10.0
) -> jax.Array:
    """gamma/2 times the mean squared norm of the logits' gradient at real images.

    Mescheder et al. 2018, eq. 9. `discriminate` maps images (b, h, w, c) to logits (b, ...) and
    must treat them one by one (no batch statistics) in float32. Returns a float32 scalar.
    """
    # Each logit depends on its own image only, so the gradient of the sum holds all of them.
    gradient = jax.grad(lambda x: jnp.sum(discriminate(x).astype(jnp.float32)))(
        images.astype(jnp.float32)
    )
    return 0.5 * gamma * jnp.mean(jnp.sum(jnp.square(gradient), axis=(1, 2, 3)))


def _mean_square(x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(x))


def _f32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)


def _unknown(kind: str, kinds: tuple[str, ...] = KINDS) -> UserError:
    return UserError(f"unknown adversarial loss {kind!r}; use one of {', '.join(kinds)}")
