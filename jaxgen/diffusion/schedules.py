"""Noise schedules: how much of the picture and how much noise x_t holds at each time.

Everywhere x_t = alpha(t) x_0 + sigma(t) noise, and a network is told a time in [0, steps]. The
arithmetic is float64 on the host: in bfloat16 the last sigma rounds to 0, and a sampler's table in
float32 already differs in the fifth digit where products of 1,000 factors enter.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import UserError, near

KINDS = ("scaled-linear", "linear", "cosine", "flow")
# alpha^2 at zero SNR for solvers that divide by it (published: sigma/alpha = 4096 there).
LEAST = 2.0**-24


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A noise schedule. Hashable, so that it may be a static argument.

    Attributes:
      kind: "scaled-linear" (betas linear in their roots; Rombach et al. 2022), "linear" (Ho et al.
        2020), "cosine" (Nichol & Dhariwal 2021), each variance preserving (alpha^2 + sigma^2 = 1)
        and discrete; or "flow" (rectified flow: alpha = 1 - t/steps, sigma = t/steps, continuous).
      steps: times of training; the net is told 0 ... steps - 1, or 0.0 ... steps for flow.
      first, last: betas' ends of the linear kinds.
      zero_snr: betas rescaled so that nothing of the picture is left at the last time (Lin et al.
        2023, algorithm 1). Such a net predicts v or x0, and is sampled with trailing spacing.
      shift: of flow's times when sampling: t' = shift t / (1 + (shift - 1) t); above 1 spends more
        steps at much noise, as larger pictures need (Esser et al. 2024, equation 23).

    Raises: UserError: an unknown kind, or numbers outside of their ranges.
    """

    kind: str = "scaled-linear"
    steps: int = 1000
    first: float = 0.00085
    last: float = 0.012
    zero_snr: bool = False
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"no noise schedule {self.kind!r}; there are {', '.join(KINDS)}"
                f"{near(self.kind, KINDS)}"
            )
        if self.steps < 2:
            raise UserError(f"a noise schedule has 2 steps or more, not {self.steps}")
        if not 0 < self.first <= self.last < 1:
            raise UserError(f"betas go from above 0 to below 1, not {self.first} to {self.last}")
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise UserError(f"a flow's shift is above 0, not {self.shift}")
        if self.flow and self.zero_snr:
            raise UserError("a flow schedule ends in pure noise already; leave zero_snr out")
        if not self.flow and self.shift != 1:
            raise UserError(f"shift is of flow schedules; this one is {self.kind}")

    @property
    def flow(self) -> bool:
        return self.kind == "flow"

    @functools.cached_property
    def betas(self) -> np.ndarray:
        """(steps,) float64. Raises: UserError: a flow has none."""
        if self.flow:
            raise UserError("a flow schedule has no betas")
        if self.kind == "scaled-linear":
            betas = np.linspace(self.first**0.5, self.last**0.5, self.steps) ** 2
        elif self.kind == "linear":
            betas = np.linspace(self.first, self.last, self.steps)
        else:
            t = np.arange(self.steps + 1) / self.steps
            kept = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
            betas = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
        return zero_terminal_snr(betas) if self.zero_snr else betas

    @functools.cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """(steps,) float64: alpha^2 at each time; 0 at the last where zero_snr."""
        return np.cumprod(1 - self.betas)

    @functools.cached_property
    def sigmas(self) -> np.ndarray:
        """(steps,) float64: sigma / alpha at each time; at zero SNR 4096 instead of infinity."""
        kept = np.maximum(self.alphas_cumprod, LEAST) if self.zero_snr else self.alphas_cumprod
        return np.sqrt((1 - kept) / kept)

    def levels(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(alpha, sigma), float32, of times of any shape: whole numbers, or any for a flow."""
        if self.flow:
            part = t.astype(jnp.float32) / self.steps
            return 1 - part, part
        kept = self.alphas_cumprod
        index = t.astype(jnp.int32)
        alpha, sigma = (jnp.asarray(a, jnp.float32) for a in (np.sqrt(kept), np.sqrt(1 - kept)))
        return alpha[index], sigma[index]


def zero_terminal_snr(betas: np.ndarray) -> np.ndarray:
    """Betas (n,) rescaled: the same alpha at the first time, 0 at the last (Lin et al. 2023)."""
    alpha = np.sqrt(np.cumprod(1 - betas))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    kept = alpha**2
    return 1 - np.concatenate([kept[:1], kept[1:] / kept[:-1]])


def shifted(t: np.ndarray, shift: float) -> np.ndarray:
    """Times of a flow in [0, 1] moved towards noise (Esser et al. 2024, equation 23)."""
    return shift * t / (1 + (shift - 1) * t)
