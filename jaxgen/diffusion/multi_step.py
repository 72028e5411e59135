"""Solvers that use earlier predictions: Heun, LMS, PNDM, DPM-Solver++(2M), UniPC."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from jaxgen.diffusion.schedules import Schedule
from jaxgen.diffusion.table import Call, Symbols
from jaxgen.diffusion.targets import to_x0_eps
from jaxgen.diffusion.timesteps import Grid


def heun(grid: Grid, target: str) -> Iterator[Call]:
    """Two calls a step, but for the last: Euler's, then the mean of both ends' slopes.

    In sigma / alpha (Karras et al. 2022, algorithm 1), where the slope is eps; a flow's in its
    time, where it is the velocity.
    """
    on = Symbols.of(1)
    flow = target == "flow"
    for i in range(len(grid.times)):
        alpha, sigma = grid.alpha[i : i + 2], grid.sigma[i : i + 2]
        x0, eps = to_x0_eps(target, on.x, on.out, alpha[0], sigma[0])
        level = (alpha[1], sigma[1])
        # In each case the variable that is stepped in is `s`, and x of it is `base` + s slope.
        s = sigma if flow else sigma / alpha
        base, slope = x0, (eps - x0 if flow else eps)
        scale = 1.0 if flow else alpha[1]
        half = base + (s[0] + s[1]) / 2 * slope
        yield Call(grid.times[i], scale * (base + s[1] * slope), (half,), x0, level)
        if i + 1 == len(grid.times):
            return
        x0, eps = to_x0_eps(target, on.x, on.out, *level)
        slope = eps - x0 if flow else eps
        x = scale * (on.memory[0] + (s[1] - s[0]) / 2 * slope)
        yield Call(grid.times[i + 1], x, on.memory, x0, level)


def lms(grid: Grid, target: str) -> Iterator[Call]:
    """Linear multistep (Adams-Bashforth) of order 4 in sigma / alpha, with exact weights."""
    on = Symbols.of(3)
    sigmas = grid.sigma / grid.alpha
    for i, time in enumerate(grid.times):
        x0, eps = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        slopes = (eps, *on.memory)[: i + 1]
        weights = _lagrange(sigmas[i - len(slopes) + 1 : i + 1][::-1], sigmas[i], sigmas[i + 1])
        moved = sum(w * slope for w, slope in zip(weights, slopes, strict=True))
        x = grid.alpha[i + 1] * (x0 + sigmas[i] * eps + moved)
        level = (grid.alpha[i + 1], grid.sigma[i + 1])
        yield Call(time, x, (eps, *on.memory[:-1]), x0, level)


def _lagrange(nodes: np.ndarray, low: float, high: float) -> list[float]:
    """Integrals from low to high of the polynomials that are 1 at one node and 0 at the others.

    Gauss' rule of two points is exact up to degree 3: for four nodes.
    """
    half = (high - low) / 2
    at = (low + high) / 2 + np.array([-half, half]) / math.sqrt(3)
    weights = []
    for k, node in enumerate(nodes):
        others = np.delete(nodes, k)
        weights.append(half * np.prod((at[:, None] - others) / (node - others), axis=1).sum())
    return weights


# Adams-Bashforth's weights of the newest prediction and the ones before it.
_PLMS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def pndm(grid: Grid, target: str, schedule: Schedule) -> Iterator[Call]:
    """PLMS of Liu et al. 2022 (without Runge-Kutta steps): one call more than steps.

    The first step is taken twice, the second time with the mean of both ends' predictions. A step
    ends `stride` earlier, as DDIM's.
    """
    on = Symbols.of(4)  # three earlier predictions; the first x
    *earlier, first = on.memory
    kept = schedule.alphas_cumprod

    def step(x: np.ndarray, out: np.ndarray, time: int) -> tuple[np.ndarray, tuple[float, float]]:
        now, then = kept[min(time, schedule.steps - 1)], kept[max(time - grid.stride, 0)]
        x0, eps = to_x0_eps(target, x, out, math.sqrt(now), math.sqrt(1 - now))
        level = (math.sqrt(then), math.sqrt(1 - then))
        return level[0] * x0 + level[1] * eps, level

    times = [int(t) for t in grid.times]
    seen = 0
    for call, time in enumerate([times[0], *times[1:2], *times[1:]]):
        now = kept[time]
        x0, _ = to_x0_eps(target, on.x, on.out, math.sqrt(now), math.sqrt(1 - now))
        if call == 1:
            x, level = step(first, (on.out + earlier[0]) / 2, time + grid.stride)
            yield Call(time, x, on.memory, x0, level)
            continue
        outs = (on.out, *earlier)
        weights = _PLMS[min(seen, 3)]
        out = sum((w * o for w, o in zip(weights, outs, strict=False)), np.zeros_like(on.x))
        x, level = step(on.x, out, time)
        yield Call(time, x, (*outs[:3], on.x if call == 0 else first), x0, level)
        seen += 1


def dpm_solver_2m(grid: Grid, target: str, sde: bool) -> Iterator[Call]:
    """DPM-Solver++(2M) by the midpoint rule (Lu et al. 2022, algorithm 2), or its SDE form.

    The first and the last step are of first order.
    """
    on = Symbols.of(1)
    with np.errstate(divide="ignore"):
        log_snr = np.log(grid.alpha) - np.log(grid.sigma)  # the paper's lambda
    for i, time in enumerate(grid.times):
        x0, _ = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        alpha, sigma = grid.alpha[i + 1], grid.sigma[i + 1]
        h = log_snr[i + 1] - log_snr[i]
        picture = x0
        if 0 < i < len(grid.times) - 1:
            before = log_snr[i] - log_snr[i - 1]
            picture = x0 + 0.5 * h / before * (x0 - on.memory[0])
        if sde:
            x = sigma / grid.sigma[i] * math.exp(-h) * on.x
            x = x - alpha * math.expm1(-2 * h) * picture
            x = x + sigma * math.sqrt(-math.expm1(-2 * h)) * on.noise
        else:
            x = sigma / grid.sigma[i] * on.x - alpha * math.expm1(-h) * picture
        yield Call(time, x, (x0,), x0, (alpha, sigma))


def unipc(grid: Grid, target: str) -> Iterator[Call]:
    """UniPC of order 2 with B2(h) (Zhao et al. 2023, algorithms 5 and 6), predicting x0.

    Each call first corrects the x that the last prediction led to, then predicts the next.
    """
    on = Symbols.of(3)
    corrected, last, before = on.memory  # x after its correction; x0 of it and of the one before
    with np.errstate(divide="ignore"):
        log_snr = np.log(grid.alpha) - np.log(grid.sigma)
    order = 0
    for i, time in enumerate(grid.times):
        x0, _ = to_x0_eps(target, on.x, on.out, grid.alpha[i], grid.sigma[i])
        x = on.x
        if i > 0:
            alpha, h = grid.alpha[i], log_snr[i] - log_snr[i - 1]
            b = math.expm1(-h)
            x = grid.sigma[i] / grid.sigma[i - 1] * corrected - alpha * b * last
            first = -b / h - 1  # the paper's phi_2 and phi_3, times their powers of h
            rows = np.array([first, 2 * (-first / h - 0.5)]) / b
            if order == 1:
                x = x - alpha * b * 0.5 * (x0 - last)
            else:
                ratio = (log_snr[i - 2] - log_snr[i - 1]) / h
                old, new = np.linalg.solve([[1.0, 1.0], [ratio, 1.0]], rows)
                x = x - alpha * b * (old * (before - last) / ratio + new * (x0 - last))
        order = 2 if 0 < i < len(grid.times) - 1 else 1
        alpha, sigma = grid.alpha[i + 1], grid.sigma[i + 1]
        h = log_snr[i + 1] - log_snr[i]
        b = math.expm1(-h)
        then = sigma / grid.sigma[i] * x - alpha * b * x0
        if order == 2:
            ratio = (log_snr[i - 1] - log_snr[i]) / h
            then = then - alpha * b * 0.5 * (last - x0) / ratio
        yield Call(time, then, (x, x0, last), x0, (alpha, sigma))
