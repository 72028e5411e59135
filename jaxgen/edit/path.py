"""The way between a picture and its noise, that inversions go up and edits come down.

One deterministic rule serves all models: a step keeps the picture and the noise that the net sees,
and mixes them anew. For variance-preserving schedules that is DDIM (Song et al. 2021), for a
rectified flow Euler's method.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import timesteps
from jaxgen.diffusion.sampling import Denoise
from jaxgen.diffusion.schedules import Schedule
from jaxgen.diffusion.targets import check_target, to_x0_eps
from jaxgen.errors import UserError

Array = np.ndarray | jax.Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["times", "above", "below"],
    meta_fields=["target"],
)
@dataclasses.dataclass(frozen=True)
class Path:
    """Steps from much noise to little; a pytree.

    Attributes:
      times: (n,) float32, what the net is told.
      above, below: (n, 2) alpha and sigma of x before and after each step down.
      target: what the net says (`jaxgen.diffusion.targets`).
    """

    times: Array
    above: Array
    below: Array
    target: str

    def __len__(self) -> int:
        return len(self.times)

    def part(self, first: int, last: int | None = None) -> Path:
        """Steps first ... last - 1."""
        kept = slice(first, last)
        return Path(self.times[kept], self.above[kept], self.below[kept], self.target)

    def seen(self, x: jax.Array, out: jax.Array, level: Array) -> tuple[jax.Array, jax.Array]:
        """(x0, eps) that a net has in mind at a level (2,)."""
        return to_x0_eps(self.target, x, out, level[0], level[1])


def make_path(
    schedule: Schedule, target: str, steps: int, strength: float = 1.0, spacing: str | None = None
) -> Path:
    """Steps of a schedule.

    Args:
      steps: of the whole way. strength: above 0 to 1: which part of it, from the picture on.
      spacing: "leading", or "trailing" where the schedule has zero SNR; of a flow "trailing" or
        "linspace". None: the first of these.

    Raises: UserError: numbers outside of their ranges, or that leave no step.
    """
    check_target(target, schedule)
    if isinstance(steps, bool) or steps != int(steps) or not 1 <= steps <= schedule.steps:
        raise UserError(f"an edit takes 1 to {schedule.steps} steps, not {steps}")
    if not 0 < strength <= 1:
        raise UserError(f"strength is above 0 and at most 1, not {strength}")
    if schedule.flow:
        grid = timesteps.flow(schedule, steps, spacing or "trailing")
        alpha, sigma = grid.alpha, grid.sigma
        below = np.stack([alpha[1:], sigma[1:]], axis=1)
    else:
        spacing = spacing or ("trailing" if schedule.zero_snr else "leading")
        grid = timesteps.discrete(schedule, steps, spacing)
        then = schedule.alphas_cumprod[np.maximum(grid.times.astype(int) - grid.stride, 0)]
        alpha, sigma = grid.alpha, grid.sigma
        below = np.stack([np.sqrt(then), np.sqrt(1 - then)], axis=1)
    above = np.stack([alpha[:-1], sigma[:-1]], axis=1)
    start = timesteps.first_step(steps, strength)
    if start == steps:
        raise UserError(
            f"strength {strength} of {steps} steps leaves none to do; take more of either"
        )
    times, above, below = (a[start:].astype(np.float32) for a in (grid.times, above, below))
    return Path(times, above, below, target)


def told(time: Array, x: jax.Array) -> jax.Array:
    """One time for all rows of x: (b,)."""
    return jnp.broadcast_to(jnp.asarray(time), x.shape[:1])


def down(path: Path, row: Path, x: jax.Array, out: jax.Array) -> jax.Array:
    """x (b, ...) after a step (`row`: one step of the path), by what the net said of it."""
    x0, eps = path.seen(x, out, row.above)
    return row.below[0] * x0 + row.below[1] * eps


def descend(denoise: Denoise, path: Path, x: jax.Array) -> jax.Array:
    """Samples along the path: x (b, ...) above its first step -> x below its last."""

    def step(x: jax.Array, row: Path) -> tuple[jax.Array, None]:
        return down(path, row, x, denoise(x, told(row.times, x)).astype(x.dtype)), None

    return jax.lax.scan(step, x, path)[0]


def check_ascent(schedule: Schedule, target: str) -> None:
    """Raises: UserError: the net says x0, and the way ends at the picture itself, as a flow's."""
    if target == "x0" and schedule.flow:
        raise UserError(
            "a model that says x0 cannot be inverted down to a picture without noise: take "
            "flowedit or sdedit"
        )


def ascend(denoise: Denoise, path: Path, x: jax.Array) -> jax.Array:
    """DDIM inversion (Dhariwal & Nichol 2021, appendix F), without guidance as a rule.

    The net is told the time of the upper end while x is at the lower, as published; what it says is
    read by the level of x, without which v-models do not return. A net that says x0 leaves the
    noise open where x is the picture itself (`check_ascent`).

    Args:
      x: (b, ...) the picture, below the path's last step.

    Returns: (n + 1, b, ...): the picture first, the noise above the path's first step last.
    """

    def step(x: jax.Array, row: Path) -> tuple[jax.Array, jax.Array]:
        out = denoise(x, told(row.times, x)).astype(x.dtype)
        x0, eps = path.seen(x, out, row.below)
        x = row.above[0] * x0 + row.above[1] * eps
        return x, x

    _, states = jax.lax.scan(step, x, path, reverse=True)
    return jnp.concatenate([x[None], states[::-1]])
