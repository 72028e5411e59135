"""Edits of a real picture along the path that its inversion went: direct, negative-prompt.

`states` are those of `path.ascend`: (n + 1, ...), the picture first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.diffusion.sampling import Denoise
from jaxgen.edit.path import Path, down, told


def direct(denoise: Denoise, path: Path, states: jax.Array, rows: int) -> jax.Array:
    """Direct inversion (Ju et al. 2024): the source is put back after every step, so it is exact.

    Args:
      denoise: of [source, targets...], guided as one likes; a control may let the targets look at
        the source.
      states: (n + 1, ...) of one picture.
      rows: of the batch, the source included.

    Returns: (rows, ...): the picture and its edits.
    """
    x = jnp.broadcast_to(states[-1], (rows, *states.shape[1:]))

    def step(x: jax.Array, given: tuple[Path, jax.Array]) -> tuple[jax.Array, None]:
        row, back = given
        x = down(path, row, x, denoise(x, told(row.times, x)).astype(x.dtype))
        return x.at[0].set(back), None

    return jax.lax.scan(step, x, (path, states[-2::-1]))[0]


def offsets(denoise: Denoise, path: Path, states: jax.Array) -> jax.Array:
    """How far sampling strays from an inversion, step by step: (n, b, ...).

    What direct inversion adds to each step; its size says how much a model's guidance spoils.
    """

    def step(_: None, given: tuple[Path, jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        row, x, back = given
        out = denoise(x, told(row.times, x)).astype(x.dtype)
        return None, back - down(path, row, x, out)

    return jax.lax.scan(step, None, (path, states[:0:-1], states[-2::-1]))[1]


def slerp(share: float, a: jax.Array, b: jax.Array) -> jax.Array:
    """Between two embeddings (tokens, width) along the arc of each token: 0 is a, 1 is b."""
    unit_a = a / jnp.linalg.norm(a, axis=-1, keepdims=True)
    unit_b = b / jnp.linalg.norm(b, axis=-1, keepdims=True)
    angle = jnp.arccos(jnp.clip(jnp.sum(unit_a * unit_b, axis=-1, keepdims=True), -1.0, 1.0))
    sine = jnp.sin(angle)
    near = sine < 1e-6
    sine = jnp.where(near, 1.0, sine)
    arc = (jnp.sin((1 - share) * angle) * a + jnp.sin(share * angle) * b) / sine
    return jnp.where(near, (1 - share) * a + share * b, arc)


def proximal(difference: jax.Array, quantile: float = 0.7, shrink: bool = False) -> jax.Array:
    """Guidance without its small parts (Han et al. 2024, ProxNPI).

    Args:
      difference: (b, ...) what the condition adds.
      quantile: of its size; what is smaller goes.
      shrink: whether the rest is made smaller by as much, too (l1 in place of l0).
    """
    least = jnp.quantile(jnp.abs(difference), quantile)
    kept = difference - jnp.clip(difference, -least, least)
    if shrink:  # `kept` is l1's answer; l0 keeps what passes whole
        return kept
    return jnp.where(jnp.abs(difference) > least, difference, 0.0)
