"""Solvers that keep nothing from call to call: DDPM, DDIM and its inverse, Euler, LCM."""

from __future__ import annotations

import math
from collections.abc import Iterator

from jaxgen.diffusion.schedules import Schedule
from jaxgen.diffusion.table import Call, Symbols
from jaxgen.diffusion.targets import to_x0_eps
from jaxgen.diffusion.timesteps import Grid


def ddpm(grid: Grid, target: str) -> Iterator[Call]:
    """Ancestral sampling with the smaller variance (Ho et al. 2020, equations 6 and 7)."""
    on = Symbols.of(0)
    kept = grid.alpha**2
    for i, time in enumerate(grid.times):
        x0, _ = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        step = kept[i] / kept[i + 1]
        left, after = 1 - kept[i], 1 - kept[i + 1]
        x = (math.sqrt(kept[i + 1]) * (1 - step) * x0 + math.sqrt(step) * after * on.x) / left
        if time > 0:
            x = x + math.sqrt(max(after / left * (1 - step), 1e-20)) * on.noise
        yield Call(time, x, (), x0, (grid.alpha[i + 1], grid.sigma[i + 1]))


def ddim(grid: Grid, target: str, schedule: Schedule, eta: float) -> Iterator[Call]:
    """Song et al. 2021, equation 12; eta 0 draws no noise, eta 1 as much as DDPM.

    As published, a step ends `stride` earlier, whatever the next time is, and the last one at the
    schedule's first time, whose noise stays.
    """
    on = Symbols.of(0)
    for i, time in enumerate(grid.times):
        x0, eps = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        now = grid.alpha[i] ** 2
        then = schedule.alphas_cumprod[max(int(time) - grid.stride, 0)]
        drawn = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        # Of zero SNR and eta 1 nothing is left, and rounding must not make it less.
        along = math.sqrt(max(1 - then - drawn, 0.0))
        x = math.sqrt(then) * x0 + along * eps + math.sqrt(drawn) * on.noise
        yield Call(time, x, (), x0, (math.sqrt(then), math.sqrt(1 - then)))


def inverse_ddim(grid: Grid, target: str, schedule: Schedule) -> Iterator[Call]:
    """DDIM from a picture to its noise (Dhariwal & Nichol 2021, appendix F).

    x lies a stride below the time that the net is told, as published; predictions are read by the
    level of x, without which v-models do not return.
    """
    on = Symbols.of(0)
    kept = schedule.alphas_cumprod
    for time in grid.times[::-1]:
        now, then = kept[max(int(time) - grid.stride, 0)], kept[int(time)]
        x0, eps = to_x0_eps(target, on.x, on.out, math.sqrt(now), math.sqrt(1 - now))
        level = (math.sqrt(then), math.sqrt(1 - then))
        yield Call(time, level[0] * x0 + level[1] * eps, (), x0, level)


def euler(grid: Grid, target: str) -> Iterator[Call]:
    """Euler's steps of the ODE, in sigma / alpha or of a flow: both keep x0 and eps as they are."""
    on = Symbols.of(0)
    for i, time in enumerate(grid.times):
        x0, eps = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        level = (grid.alpha[i + 1], grid.sigma[i + 1])
        yield Call(time, level[0] * x0 + level[1] * eps, (), x0, level)


def euler_ancestral(grid: Grid, target: str) -> Iterator[Call]:
    """A longer step of Euler's, and fresh noise for what it went too far."""
    on = Symbols.of(0)
    sigmas = grid.sigma / grid.alpha
    for i, time in enumerate(grid.times):
        x0, eps = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        now, then = sigmas[i], sigmas[i + 1]
        up = math.sqrt(then**2 * (now**2 - then**2)) / now
        down = math.sqrt(then**2 - up**2)
        x = grid.alpha[i + 1] * (x0 + down * eps + up * on.noise)
        yield Call(time, x, (), x0, (grid.alpha[i + 1], grid.sigma[i + 1]))


def lcm(grid: Grid, target: str) -> Iterator[Call]:
    """Multistep sampling of a latent consistency model (Luo et al. 2023, algorithm 3).

    Its skip connection has sigma_data 0.5 and times multiplied by 10, as published.
    """
    on = Symbols.of(0)
    for i, time in enumerate(grid.times):
        x0, _ = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        size = math.hypot(10 * time, 0.5)
        clean = 10 * time / size * x0 + (0.5 / size) ** 2 * on.x
        level = (grid.alpha[i + 1], grid.sigma[i + 1])
        yield Call(time, level[0] * clean + level[1] * on.noise, (), clean, level)
