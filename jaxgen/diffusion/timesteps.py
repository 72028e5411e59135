"""Which times of a schedule a sampler visits: spacings, Karras' sigmas, flows, img2img's start.

Grids are as published implementations have them, also where these disagree with one another: a
checkpoint's pictures are known by them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.diffusion.schedules import Schedule, shifted

SPACINGS = ("leading", "linspace", "trailing")
_OFFSET = 1  # of leading spacing, as Stable Diffusion has it
_RHO = 7.0  # Karras et al. 2022, equation 5


@dataclasses.dataclass(frozen=True)
class Grid:
    """The times of a sampling run, from much noise to little.

    Attributes:
      times: (n,) float64, what the net is told.
      alpha, sigma: (n + 1,) float64 levels of x at each time, and at last of the picture: 1, 0.
      stride: how far apart times are for solvers that subtract it (DDIM, PNDM).
      init: by what pure noise is multiplied at the start.
    """

    times: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    stride: int
    init: float = 1.0

    def after(self, start: int) -> Grid:
        """Without the first `start` steps."""
        return dataclasses.replace(
            self,
            times=self.times[start:], alpha=self.alpha[start:], sigma=self.sigma[start:],
        )  # fmt: skip


def first_step(steps: int, strength: float) -> int:
    """At which of so many steps img2img begins: 0 for strength 1, `steps` (none left) for 0."""
    return steps - min(int(steps * strength), steps)


def discrete(schedule: Schedule, steps: int, spacing: str) -> Grid:
    """Whole times, for solvers that look the schedule up at them (DDPM, DDIM, PNDM)."""
    total = schedule.steps
    if spacing == "leading":
        offset = _OFFSET if steps < total else 0
        times = np.arange(steps)[::-1] * float(total // steps) + offset
    elif spacing == "linspace":
        times = np.linspace(0, total - 1, steps).round()[::-1]
    else:
        times = _trailing(total, steps)
    kept = schedule.alphas_cumprod[times.astype(int)]
    return _of_kept(times, kept, total // steps)


def by_sigma(schedule: Schedule, steps: int, spacing: str, karras: bool) -> Grid:
    """Times of any fraction, for solvers of the ODE in sigma / alpha (Euler, Heun, LMS)."""
    total = schedule.steps
    if spacing == "leading":
        offset = _OFFSET if steps < total else 0
        times = np.arange(steps)[::-1] * float(total // steps) + offset
    elif spacing == "linspace":
        times = np.linspace(0, total - 1, steps)[::-1]
    else:
        times = _trailing(total, steps)
    sigmas = np.interp(times, np.arange(total), schedule.sigmas)
    if karras:
        sigmas = karras_sigmas(sigmas[0], sigmas[-1], steps)
        times = _time_of(schedule, sigmas)
    grid = _of_sigmas(times, sigmas, total // steps)
    # Published: noise times sigma / alpha. Only leading spacing, whose first sigma is far from the
    # largest, adds the picture's own variance of 1.
    return grid if spacing == "leading" else dataclasses.replace(grid, init=float(grid.sigma[0]))


def multistep(schedule: Schedule, steps: int, spacing: str, karras: bool) -> Grid:
    """Whole times without the last of the range, for solvers that end there by a step of its own
    (DPM-Solver++, UniPC)."""
    total = schedule.steps
    if spacing == "leading":
        times = np.arange(steps, 0, -1) * float(total // (steps + 1)) + _OFFSET
    elif spacing == "linspace":
        times = np.linspace(0, total - 1, steps + 1).round()[:0:-1]
    else:
        times = _trailing(total, steps)
    sigmas = schedule.sigmas[times.astype(int)]
    if karras:
        sigmas = karras_sigmas(schedule.sigmas[-1], schedule.sigmas[0], steps)
        times = _time_of(schedule, sigmas).round()
    return _of_sigmas(times, sigmas, total // steps)


def consistency(schedule: Schedule, steps: int, origin: int = 50) -> Grid:
    """Of the `origin` times that a latent consistency model was distilled at (Luo et al. 2023)."""
    times = np.arange(1, origin + 1) * (schedule.steps // origin) - 1
    picked = np.floor(np.linspace(0, origin, steps, endpoint=False)).astype(int)
    times = times[::-1][picked]
    return _of_kept(times, schedule.alphas_cumprod[times], schedule.steps // steps)


def flow(schedule: Schedule, steps: int, spacing: str) -> Grid:
    """Times of a rectified flow.

    "trailing": steps of equal length from 1 to 0 (as Flux). "linspace": the last time is that of
    the schedule's first step (as Stable Diffusion 3, which shifts that end twice).
    """
    if spacing == "trailing":
        part = np.linspace(1, 1 / steps, steps)
    else:
        part = np.linspace(1, shifted(np.asarray(1 / schedule.steps), schedule.shift), steps)
    part = np.append(shifted(part, schedule.shift), 0.0)
    return Grid(part[:-1] * schedule.steps, 1 - part, part, schedule.steps // steps)


def karras_sigmas(most: float, least: float, steps: int) -> np.ndarray:
    """(steps,) sigmas from most to least (Karras et al. 2022, equation 5)."""
    ends = (most ** (1 / _RHO), least ** (1 / _RHO))
    return np.linspace(*ends, steps) ** _RHO


def _trailing(total: int, steps: int) -> np.ndarray:
    return np.round(total - np.arange(steps) * (total / steps)) - 1


def _time_of(schedule: Schedule, sigmas: np.ndarray) -> np.ndarray:
    """Times whose sigma / alpha this is, between two by its logarithm."""
    return np.interp(np.log(sigmas), np.log(schedule.sigmas), np.arange(schedule.steps))


def _of_kept(times: np.ndarray, kept: np.ndarray, stride: int) -> Grid:
    kept = np.append(kept, 1.0)
    return Grid(times.astype(float), np.sqrt(kept), np.sqrt(1 - kept), stride)


def _of_sigmas(times: np.ndarray, sigmas: np.ndarray, stride: int) -> Grid:
    sigmas = np.append(sigmas, 0.0)
    alpha = 1 / np.sqrt(1 + sigmas**2)
    return Grid(times.astype(float), alpha, sigmas * alpha, stride)
