"""What a denoising network predicts: noise, v, the picture, a flow's velocity; each from each.

All of it is plain arithmetic, so that it serves arrays on a device and a sampler's table alike.
With x_t = alpha x0 + sigma eps:

  eps   the noise (Ho et al. 2020)
  v     alpha eps - sigma x0, of variance-preserving schedules (Salimans & Ho 2022)
  x0    the picture
  flow  eps - x0, the velocity of rectified flow (Liu et al. 2023): alpha + sigma = 1
"""

from __future__ import annotations

from typing import Any

import jax

from jaxgen.diffusion.schedules import Schedule
from jaxgen.errors import UserError, near

TARGETS = ("eps", "v", "x0", "flow")


def check_target(target: str, schedule: Schedule) -> None:
    """Raises: UserError: an unknown target, or one that does not go with the schedule."""
    if target not in TARGETS:
        raise UserError(
            f"no prediction target {target!r}; there are {', '.join(TARGETS)}"
            f"{near(target, TARGETS)}"
        )
    if target == "flow" and not schedule.flow:
        raise UserError(f"target flow goes with schedule flow, not {schedule.kind}")
    if target == "v" and schedule.flow:
        raise UserError("target v goes with variance-preserving schedules; a flow's is flow")
    if target == "eps" and schedule.zero_snr:
        raise UserError(
            "target eps and zero_snr do not go together: at the last time x is all noise and says "
            "nothing of the picture; train with target v or x0"
        )
    if target == "eps" and schedule.flow:
        raise UserError("target eps and schedule flow do not go together; take target flow or x0")


def noised(x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
    """x_t of a picture and noise (b, ...); alpha and sigma broadcast (see `per_sample`)."""
    return alpha * x0 + sigma * eps


def per_sample(level: jax.Array, x: jax.Array) -> jax.Array:
    """(b,) -> (b, 1, ...), to stand beside x (b, ...)."""
    return level.reshape(level.shape + (1,) * (x.ndim - level.ndim))


def to_target(target: str, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
    """What a net with this target is to say of x_t = alpha x0 + sigma eps."""
    if target == "eps":
        return eps
    if target == "v":
        return alpha * eps - sigma * x0
    if target == "x0":
        return x0
    return eps - x0


def to_x0_eps(target: str, x: Any, out: Any, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """(x0, eps) by what a net said of x_t: `out`, of the kind `target`.

    Of eps there is no x0 where alpha is 0, of x0 no eps where sigma is 0.
    """
    if target == "eps":
        return (x - sigma * out) / alpha, out
    if target == "v":
        return alpha * x - sigma * out, sigma * x + alpha * out
    if target == "x0":
        return out, (x - alpha * out) / sigma
    return x - sigma * out, x + alpha * out


def offset_noise(key: jax.Array, eps: jax.Array, strength: float) -> jax.Array:
    """Noise (b, h, w, c) with a shift per picture and channel added, so that nets learn darkness.

    Published recipes take 0.05 to 0.1.
    """
    shape = (eps.shape[0], *(1,) * (eps.ndim - 2), eps.shape[-1])
    return eps + strength * jax.random.normal(key, shape, eps.dtype)
