"""The matching-aware zero-centred gradient penalty of DF-GAN, without its NaNs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError


def input_gradient_norms(
    logits: Callable[[jax.Array, jax.Array], jax.Array], images: jax.Array, sentences: jax.Array
) -> jax.Array:
    """Squared norms of each logit's gradient with respect to its own image and sentence.

    Args:
      logits: (images, sentences) -> (b,); treats examples one by one (no batch statistics).
      images: (b, h, w, c). sentences: (b, e). Both are taken in float32.

    Returns: (b,) float32.
    """
    # Each logit depends on its own row only, so the gradient of the sum holds all of them.
    total = lambda x, s: jnp.sum(logits(x, s).astype(jnp.float32))  # noqa: E731
    by_image, by_sentence = jax.grad(total, argnums=(0, 1))(
        images.astype(jnp.float32), sentences.astype(jnp.float32)
    )
    return jnp.sum(jnp.square(by_image), axis=(1, 2, 3)) + jnp.sum(jnp.square(by_sentence), axis=1)


def matching_aware_penalty(squared_norms: jax.Array, power: float = 6.0) -> jax.Array:
    """mean(norm ** power), of norms given squared (Tao et al. 2022, eq. 2: weight 2, power 6).

    As `squared ** (power / 2)`: the square root's gradient at zero is infinite, so
    `sqrt(s) ** 6` gives NaN for a discriminator that does not see its input, where `s ** 3` gives
    zero. float32, since norm ** 6 leaves float16 above a norm of 6.3.

    Args:
      squared_norms: (b,), of `input_gradient_norms` for real images with their own sentences.
      power: at least 2; below, the gradient at zero is infinite whatever the form.

    Raises:
      UserError: a smaller power.
    """
    if power < 2:
        raise UserError(f"model.loss.magp_power={power} must be 2 or more: below, zero gives NaN")
    return jnp.mean(squared_norms.astype(jnp.float32) ** (power / 2))
