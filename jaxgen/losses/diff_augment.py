"""DiffAugment: random changes of what a discriminator sees, through which gradients flow.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020, section 3
and its table of policies. Real and generated pictures get the same kinds of change, in the
discriminator's phase and in the generator's, so that the generator does not learn the changes.

What a caption says must stay true of the changed picture. "color" turns one colour into another:
captions that name colours forbid it, so "translation,cutout" is the policy for text-to-image. Even
these two are not free where captions name places and sizes. A move is at most an eighth of the
side. Captioned shapes have places 0.3 of the side apart, within 0.03: after the largest move an
object is still nearest to its own place, but for those that lay 0.025 off it on the same side; and
large objects at the border lose a part of themselves. "cutout" hides up to a quarter of the
picture, a small object as a whole at times. It happens alike to real, mismatched and generated
pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError

SHIFT = 1 / 8  # largest move, of the side
CUT = 1 / 2  # side of the hidden square, of the side


def parse(policy: str) -> tuple[str, ...]:
    """The names in "translation,cutout"; the empty policy has none.

    Raises:
      UserError: a name that is not color, translation or cutout.
    """
    names = tuple(name.strip() for name in policy.split(",") if name.strip())
    unknown = [name for name in names if name not in _CHANGES]
    if unknown:
        known = ", ".join(_CHANGES)
        raise UserError(
            f"unknown augmentation {', '.join(unknown)}; model.loss.augment has {known}"
        )
    return names


def apply(rng: jax.Array, images: jax.Array, policies: tuple[str, ...]) -> jax.Array:
    """Changes each picture in its own way.

    Args:
      rng: key. images: (b, h, w, c) in [-1, 1].
      policies: names of `parse`, applied in this order.

    Returns: pictures of the same shape and dtype; "color" may leave [-1, 1], as in the paper's
      code. Uncovered and hidden pixels are 0, mid-grey.
    """
    for index, name in enumerate(policies):
        images = _CHANGES[name](jax.random.fold_in(rng, index), images)
    return images


def color(rng: jax.Array, images: jax.Array) -> jax.Array:
    """Brightness + U(-0.5, 0.5), saturation x U(0, 2), contrast x U(0.5, 1.5)."""
    brightness, saturation, contrast = (
        _per_picture(jax.random.uniform(key, images.shape[:1]), images)
        for key in jax.random.split(rng, 3)
    )
    x = images + (brightness - 0.5)
    grey = x.mean(axis=3, keepdims=True)
    x = grey + 2.0 * saturation * (x - grey)
    level = x.mean(axis=(1, 2, 3), keepdims=True)
    return level + (contrast + 0.5) * (x - level)


def translation(rng: jax.Array, images: jax.Array) -> jax.Array:
    """Moves by whole pixels, up to an eighth of the side either way; what comes in is 0."""
    count, *shape = images.shape
    rows, columns = round(shape[0] * SHIFT), round(shape[1] * SHIFT)
    padded = jnp.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    largest = jnp.array([2 * rows, 2 * columns])
    start = jax.random.randint(rng, (count, 2), 0, largest[None, :] + 1)
    # One gather. Selections and one-hot products need 5 to 15 times its time on CPU.
    return jax.vmap(lambda x, at: jax.lax.dynamic_slice(x, (at[0], at[1], 0), shape))(padded, start)


def cutout(rng: jax.Array, images: jax.Array) -> jax.Array:
    """Sets a square of half the side to 0; its centre lies anywhere in the picture."""
    inside = []
    for axis, key in zip((1, 2), jax.random.split(rng), strict=True):
        size = images.shape[axis]
        side = round(size * CUT)
        first = jax.random.randint(key, images.shape[:1], 0, size + 1 - side % 2) - side // 2
        place = jnp.arange(size)[None, :] - first[:, None]  # (b, size)
        inside.append((place >= 0) & (place < side))
    hidden = inside[0][:, :, None] & inside[1][:, None, :]  # (b, h, w)
    return jnp.where(hidden[..., None], jnp.zeros((), images.dtype), images)


def _per_picture(values: jax.Array, images: jax.Array) -> jax.Array:
    """(b,) -> (b, 1, 1, 1) in the dtype of the pictures."""
    return values.reshape(-1, 1, 1, 1).astype(images.dtype)


_CHANGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}
