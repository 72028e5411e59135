"""Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2024): the noise of each step."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.diffusion.sampling import Denoise
from jaxgen.edit.path import Path, told


class Noises(NamedTuple):
    """states (n + 1, b, ...) of x, the picture first; noises (n, b, ...) of the path's steps from
    its first on. The last step's noise is 0, as published, so a reconstruction is near, not exact.
    """

    states: jax.Array
    noises: jax.Array


def noises_of(denoise: Denoise, path: Path, x: jax.Array, draws: jax.Array) -> Noises:
    """Noises that lead DDPM's sampling through independent x_t of the picture.

    Args:
      denoise: under the picture's caption, guided (published 3.5).
      path: of a variance-preserving schedule.
      x: (b, ...) the picture.
      draws: (n, b, ...) standard normal, of the steps from the path's last to its first.
    """
    alpha, sigma = jnp.asarray(path.above)[::-1].T.reshape(2, -1, *(1,) * x.ndim)
    states = jnp.concatenate([x[None], alpha * x[None] + sigma * draws])

    def step(_: None, given) -> tuple[None, jax.Array]:
        row, above, below = given
        mean, deviation = _posterior(denoise, path, row, above)
        return None, (below - mean) / deviation

    noises = jax.lax.scan(step, None, (path, states[:0:-1], states[-2::-1]))[1]
    return Noises(states, noises.at[-1].set(0.0))


def redraw(denoise: Denoise, path: Path, x: jax.Array, noises: jax.Array) -> jax.Array:
    """DDPM's sampling with given noises: x (b, ...) above the path's first step -> the picture."""

    def step(x: jax.Array, given: tuple[Path, jax.Array]) -> tuple[jax.Array, None]:
        row, noise = given
        mean, deviation = _posterior(denoise, path, row, x)
        return mean + deviation * noise, None

    return jax.lax.scan(step, x, (path, noises))[0]


def _posterior(denoise: Denoise, path: Path, row: Path, x: jax.Array) -> tuple[jax.Array, ...]:
    out = denoise(x, told(row.times, x)).astype(x.dtype)
    x0, eps = path.seen(x, out, row.above)
    sigma, (alpha_after, sigma_after) = row.above[1], row.below
    # 1 - (alpha / alpha_after)^2 without the difference of two numbers near 1.
    fresh = (jnp.square(sigma) - jnp.square(sigma_after)) / jnp.square(alpha_after)
    variance = jnp.square(sigma_after / sigma) * fresh
    along = jnp.sqrt(jnp.maximum(jnp.square(sigma_after) - variance, 0.0))
    return alpha_after * x0 + along * eps, jnp.sqrt(variance)
