"""From what a user asks for (sampler, spacing, steps, strength) to a checked table of calls."""

from __future__ import annotations

import math

from jaxgen.diffusion import multi_step, one_step, timesteps
from jaxgen.diffusion.schedules import Schedule
from jaxgen.diffusion.table import Call, Plan
from jaxgen.diffusion.targets import check_target
from jaxgen.errors import UserError, near

# What each sampler's grid of times is (see timesteps.py). Of a flow each has the flow's own.
GRIDS = {
    "ddpm": "discrete",
    "ddim": "discrete",
    "pndm": "discrete",
    "euler": "sigma",
    "euler-a": "sigma",
    "heun": "sigma",
    "lms": "sigma",
    "dpmpp-2m": "multistep",
    "dpmpp-2m-sde": "multistep",
    "unipc": "multistep",
    "lcm": "consistency",
    "inverse-ddim": "discrete",
}
SAMPLERS = tuple(GRIDS)
# Of a rectified flow: the others' formulas hold for variance-preserving schedules alone.
FLOW_SAMPLERS = ("euler", "heun", "dpmpp-2m", "unipc")
_KARRAS = ("euler", "euler-a", "heun", "lms", "dpmpp-2m", "dpmpp-2m-sde", "unipc")


def make_plan(
    schedule: Schedule,
    target: str,
    sampler: str,
    steps: int,
    *,
    spacing: str | None = None,
    karras: bool = False,
    eta: float = 0.0,
    strength: float | None = None,
) -> Plan:
    """The calls of a sampler.

    Args:
      schedule, target: those that the net was trained with.
      sampler: one of SAMPLERS; of a flow one of FLOW_SAMPLERS. "inverse-ddim" goes from a picture
        to its noise.
      steps: of the sampler, 1 to the schedule's. Heun calls the net 2 steps - 1 times, PNDM
        steps + 1 times.
      spacing: "leading", "linspace" or "trailing"; None: the sampler's usual one, and trailing
        where the schedule has zero SNR or is a flow.
      karras: sigmas spaced as in Karras et al. 2022, for those that step in them.
      eta: DDIM's noise, 0 to 1.
      strength: of img2img, above 0 to 1: what part of the steps is done, from the source on. None:
        all of them, from pure noise.

    Raises: UserError: numbers outside of their ranges, or things that do not go together.
    """
    check_target(target, schedule)
    spacing = check(schedule, sampler, steps, spacing, karras, eta)
    start = 0
    if strength is not None:
        if not (math.isfinite(strength) and 0 < strength <= 1):
            raise UserError(f"strength is above 0 and at most 1, not {strength}")
        start = timesteps.first_step(steps, strength)
        if start == steps:
            raise UserError(
                f"strength {strength} of {steps} steps leaves none to do; take "
                f"{math.ceil(1 / strength)} steps or more, or a larger strength"
            )
    grid = _grid(schedule, sampler, steps, spacing, karras).after(start)
    calls = _calls(schedule, target, sampler, grid, eta)
    pure = grid.init if start == 0 else float(grid.sigma[0])
    return Plan.of(sampler, calls, (float(grid.alpha[0]), float(grid.sigma[0])), pure)


def check(
    schedule: Schedule, sampler: str, steps: int, spacing: str | None, karras: bool, eta: float
) -> str:
    """The spacing to be used. Raises: UserError: what `make_plan` says, but for the target's."""
    if sampler not in GRIDS:
        raise UserError(
            f"no sampler {sampler!r}; there are {', '.join(SAMPLERS)}{near(sampler, SAMPLERS)}"
        )
    grid = GRIDS[sampler]
    if schedule.flow and sampler not in FLOW_SAMPLERS:
        raise UserError(
            f"sampler {sampler} does not go with a flow; take {', '.join(FLOW_SAMPLERS)}"
        )
    if spacing is not None and spacing not in timesteps.SPACINGS:
        raise UserError(f"no spacing {spacing!r}; there are {', '.join(timesteps.SPACINGS)}")
    if karras and schedule.flow:
        raise UserError("Karras' sigmas and a flow do not go together; set the flow's shift")
    if karras and sampler not in _KARRAS:
        raise UserError(f"Karras' sigmas go with {', '.join(_KARRAS)}, not with {sampler}")
    if not (math.isfinite(eta) and 0 <= eta <= 1):
        raise UserError(f"eta is from 0 to 1, not {eta}")
    if eta and sampler != "ddim":
        raise UserError(f"eta is DDIM's; sampler {sampler} has none")
    spacing = _spacing(schedule, sampler, spacing)
    most = schedule.steps
    if grid == "consistency":
        most = min(most, 50)
    elif grid == "multistep" and not schedule.flow and spacing != "trailing":
        # These end a step of their own before the schedule's first time; leading adds an offset.
        most -= 2 if spacing == "leading" else 1
    if isinstance(steps, bool) or steps != int(steps) or not 1 <= steps <= most:
        raise UserError(f"sampler {sampler} takes 1 to {most} steps here, not {steps}")
    return spacing


def _spacing(schedule: Schedule, sampler: str, spacing: str | None) -> str:
    grid = GRIDS[sampler]
    if schedule.flow:
        if spacing == "leading":
            raise UserError("spacing leading does not go with a flow; take trailing or linspace")
        return spacing or "trailing"
    if schedule.zero_snr:
        if spacing not in (None, "trailing") or grid == "consistency":
            raise UserError(
                "a schedule of zero SNR is sampled with spacing trailing, which begins at its "
                "last time"
            )
        return "trailing"
    if sampler == "inverse-ddim" and spacing == "linspace":
        raise UserError("inverse-ddim goes by a stride; take spacing leading or trailing")
    return spacing or ("leading" if grid == "discrete" else "linspace")


def _grid(
    schedule: Schedule, sampler: str, steps: int, spacing: str, karras: bool
) -> timesteps.Grid:
    if schedule.flow:
        return timesteps.flow(schedule, steps, spacing)
    grid = GRIDS[sampler]
    if grid == "discrete":
        return timesteps.discrete(schedule, steps, spacing)
    if grid == "sigma":
        return timesteps.by_sigma(schedule, steps, spacing, karras)
    if grid == "multistep":
        return timesteps.multistep(schedule, steps, spacing, karras)
    return timesteps.consistency(schedule, steps)


def _calls(
    schedule: Schedule, target: str, sampler: str, grid: timesteps.Grid, eta: float
) -> list[Call]:
    if sampler == "ddim":
        return list(one_step.ddim(grid, target, schedule, eta))
    if sampler == "inverse-ddim":
        return list(one_step.inverse_ddim(grid, target, schedule))
    if sampler == "pndm":
        return list(multi_step.pndm(grid, target, schedule))
    if sampler.startswith("dpmpp-2m"):
        return list(multi_step.dpm_solver_2m(grid, target, sde=sampler.endswith("sde")))
    solver = {
        "ddpm": one_step.ddpm,
        "euler": one_step.euler,
        "euler-a": one_step.euler_ancestral,
        "heun": multi_step.heun,
        "lms": multi_step.lms,
        "unipc": multi_step.unipc,
        "lcm": one_step.lcm,
    }[sampler]
    return list(solver(grid, target))
