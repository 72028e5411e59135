"""Edits without inversion: FlowEdit (Kulikov et al. 2024) and DDCM (Xu et al. 2024) are one path.

The picture with fresh noise, and beside it the same shifted by what has changed so far: what the
net sees in the two, under the two captions, says how the shift goes on. With dx0 and deps the
differences of picture and noise, the shift after a step is

    alpha' dx0 + sigma' sqrt(1 - eta) deps

eta 0 on a rectified flow is FlowEdit, eta 1 on a variance-preserving schedule is DDCM (InfEdit);
both serve eps, v and flow. Without a change of caption the picture stays as it is, exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgen.diffusion.sampling import Denoise
from jaxgen.edit.path import Path, descend, told


def shift_path(
    source: Denoise,
    target: Denoise,
    path: Path,
    x: jax.Array,
    draw: Callable[[jax.Array], jax.Array],
    *,
    eta: jax.Array | float = 0.0,
    average: int = 1,
    tail: int = 0,
    mask: jax.Array | None = None,
) -> jax.Array:
    """The edited picture, (b, ...).

    Args:
      source, target: the net under the two captions, each with its guidance (published: FlowEdit
        3.5 and 13.5, DDCM 1 and 2).
      x: (b, ...) the picture.
      draw: (number of a draw) -> noise as x. Step i uses `average` of them from i * average on.
      average: draws of noise at each step.
      tail: how many last steps are ordinary sampling of the target, for more change.
      mask: broadcasts to x; from 0, stays, to 1, changes.
    """
    steps = len(path) - tail
    keep = jnp.sqrt(1 - jnp.asarray(eta, x.dtype))

    def step(shift: jax.Array, given: tuple[Path, jax.Array]) -> tuple[jax.Array, None]:
        row, number = given
        t = told(row.times, x)

        def change(k: int) -> jax.Array:
            before = row.above[0] * x + row.above[1] * draw(number * average + k)
            after = before + shift
            x0, eps = path.seen(before, source(before, t).astype(x.dtype), row.above)
            x0_after, eps_after = path.seen(after, target(after, t).astype(x.dtype), row.above)
            return row.below[0] * (x0_after - x0) + row.below[1] * keep * (eps_after - eps)

        moved = sum((change(k) for k in range(average)), jnp.zeros_like(x)) / average
        return moved if mask is None else mask * moved, None

    given = (path.part(0, steps), jnp.arange(steps))
    shift = jax.lax.scan(step, jnp.zeros_like(x), given)[0]
    if not tail:
        return x + shift
    rest = path.part(steps)
    level = jnp.asarray(rest.above)[0]
    drawn = descend(
        target, rest, level[0] * x + level[1] * draw(jnp.int32(steps * average)) + shift
    )
    return drawn if mask is None else x + mask * (drawn - x)
