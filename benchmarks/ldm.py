"""A UNet of latent diffusion against diffusers: one pass, twenty guided steps, a training step.

    python -m benchmarks.ldm [--quick] [--eager] [--json benchmarks/results/ldm.json]

The UNet has Stable Diffusion's form with channels 128, 256, 512 and a text of 77 x 512, 72.5
million parameters; diffusers gets the same random weights by jaxgen's converter, and each job's
results must agree before it is timed:

  forward   one pass of a batch of 2, what guidance takes for a picture
  sample    20 steps of DDIM with guidance 7.5 for one picture: jaxgen's one program as `generate`
            runs it, against the pipeline's loop over UNet and DDIMScheduler
  train     the error of the noise at given times, AdamW, a running mean of the weights

Then jaxgen's pass alone against the latents' side and the batch. On a CPU float32. How it is timed
and what the ratios are: `benchmarks.srgan`. `--eager` leaves torch.compile out, which compiles for
minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals, unets
from benchmarks.networks import agree
from benchmarks.unets import MIDDLE, Size

JOBS = {"forward": (2, 0.9), "sample": (1, 0.9), "train": (4, 1.0)}  # batch, ratio asked for
SIDES, BATCHES = (16, 32, 64), (1, 2, 4, 8)  # that the pass alone is timed with
STEPS, GUIDANCE = 20, 7.5
RATE, DECAY, EMA = 1e-4, 1e-2, 0.999
SAID = "said.npy"
MEBI = 2**20


@dataclasses.dataclass(frozen=True)
class Case:
    """job: of JOBS. batch: pictures. size: fields of `unets.Size`."""

    job: str
    batch: int
    size: Any = dataclasses.field(default_factory=lambda: dataclasses.asdict(MIDDLE))

    def inputs(self) -> dict[str, np.ndarray]:
        """x and noise (b, h, w, 4), t (b,), context and that of no words (b, tokens, width)."""
        rng, size = np.random.default_rng(0), Size.of(self.size)
        latent = (self.batch, size.side, size.side, 4)
        text = (self.batch, size.tokens, size.context)
        shapes = {"x": latent, "noise": latent, "context": text, "empty": text}
        found = {k: rng.standard_normal(shape, np.float32) for k, shape in shapes.items()}
        return {**found, "t": np.linspace(50, 950, self.batch).astype(np.float32)}


# ---- jaxgen --------------------------------------------------------------------------------------


def serve_jax(case: Case, folder: Path) -> None:
    """The worker of jaxgen's program; leaves weights and results in `folder` for the rivals."""
    import jax

    from jaxgen import heap

    heap.keep_freed_memory()
    net, variables = unets.make_jax(Size.of(case.size))
    unets.leave_weights(net, variables, folder)
    given = {k: jax.device_put(v) for k, v in case.inputs().items()}
    job = {"forward": _forward, "sample": _sample, "train": _train}[case.job]
    run, facts = job(net, jax.device_put(variables), given)
    facts["parameters"] = sum(x.size for x in jax.tree.leaves(variables))
    note = unets.peak(facts)

    def check(results: list[Any]) -> None:
        note(results)
        np.save(folder / SAID, np.stack([np.asarray(y) for y in results]))

    common.serve(run, facts, check)


def _forward(net: Any, variables: Any, given: Any) -> tuple[Callable, dict[str, Any]]:
    arrays = [variables, given["x"], given["t"], given["context"]]
    program, facts = unets.compiled(net.apply, *arrays)
    return lambda: program(*arrays).block_until_ready(), facts


def _sample(net: Any, variables: Any, given: Any) -> tuple[Callable, dict[str, Any]]:
    import jax.numpy as jnp

    from jaxgen.diffusion import sampling
    from jaxgen.diffusion.guidance import guided
    from jaxgen.diffusion.plans import make_plan
    from jaxgen.diffusion.schedules import Schedule

    def draw(variables, plan, noise, context, empty, scale):
        def predict(x, t, context):
            return net.apply(variables, x, t, context)

        return sampling.sample(guided(predict, context, empty, scale), plan, noise)

    plan = make_plan(Schedule(), "eps", "ddim", STEPS)
    arrays = [variables, plan, given["x"], given["context"], given["empty"], jnp.float32(GUIDANCE)]
    program, facts = unets.compiled(draw, *arrays)
    return lambda: program(*arrays).block_until_ready(), facts


def _train(net: Any, variables: Any, given: Any) -> tuple[Callable, dict[str, Any]]:
    import jax
    import optax

    from jaxgen.diffusion.schedules import Schedule
    from jaxgen.diffusion.targets import noised, per_sample
    from jaxgen.losses.denoising import denoising_loss

    schedule, optimizer = Schedule(), optax.adamw(RATE, weight_decay=DECAY)

    def step(params, mean, moments, x, noise, t, context):
        alpha, sigma = (per_sample(level, x) for level in schedule.levels(t))
        noisy = noised(x, noise, alpha, sigma)

        def loss(params):
            return denoising_loss(net.apply({"params": params}, noisy, t, context), noise)

        value, slope = jax.value_and_grad(loss)(params)
        change, moments = optimizer.update(slope, moments, params)
        params = optax.apply_updates(params, change)
        mean = jax.tree.map(lambda m, p: EMA * m + (1 - EMA) * p, mean, params)
        return params, mean, moments, value

    params = variables["params"]
    mean = jax.tree.map(lambda a: a + 0, params)
    state = [params, mean, jax.jit(optimizer.init)(params)]
    arrays = [given[k] for k in ("x", "noise", "t", "context")]
    program, facts = unets.compiled(step, *state, *arrays, donate_argnums=(0, 1, 2))

    def run() -> Any:
        *state[:], value = jax.block_until_ready(program(*state, *arrays))
        return value

    return run, facts


# ---- diffusers -----------------------------------------------------------------------------------


def serve_torch(case: Case, form: rivals.Form, folder: Path) -> None:
    """The worker of a rival with the same weights; its results must be jaxgen's."""
    import torch

    net = unets.make_torch(Size.of(case.size), form, folder)
    arrays = case.inputs()
    given = {k: unets.to_torch(arrays[k], form) for k in ("x", "noise")}
    given |= {k: torch.tensor(arrays[k], device=rivals.device()) for k in ("t", "context", "empty")}
    train = case.job == "train"
    net = net.train() if train else net.eval()
    forward = torch.compile(net) if form.rival == rivals.COMPILED else net
    job = {"forward": _torch_forward, "sample": _torch_sample, "train": _torch_train}[case.job]
    run = job(net, forward, given)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in net.parameters())}
    note = unets.peak(facts)

    def check(results: list[Any]) -> None:
        note(results)
        found = [np.asarray(y.item()) if train else unets.from_torch(y) for y in results]
        agree(np.stack(found), np.load(folder / SAID), "float32")

    common.serve(run, facts, check)


def _torch_forward(net: Any, forward: Any, given: Any) -> Callable[[], Any]:
    import torch

    def run():
        with torch.inference_mode():
            y = forward(given["x"], given["t"], given["context"]).sample
        rivals.synchronize()
        return y

    return run


def _torch_sample(net: Any, forward: Any, given: Any) -> Callable[[], Any]:
    import torch

    scheduler = scheduler_of_sd()
    both = torch.cat([given["empty"], given["context"]])

    def run():
        with torch.inference_mode():
            scheduler.set_timesteps(STEPS)
            x = given["x"]
            for t in scheduler.timesteps:
                out = forward(torch.cat([x, x]), t, both).sample
                free, led = out.chunk(2)
                x = scheduler.step(free + GUIDANCE * (led - free), t, x).prev_sample
        rivals.synchronize()
        return x

    return run


def scheduler_of_sd() -> Any:
    """diffusers' DDIM as Stable Diffusion's pipeline has it."""
    import diffusers

    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def _torch_train(net: Any, forward: Any, given: Any) -> Callable[[], Any]:
    import torch

    params = list(net.parameters())
    mean = [p.detach().clone() for p in params]
    optimizer = torch.optim.AdamW(params, RATE, weight_decay=DECAY)
    x, noise, t = given["x"], given["noise"], given["t"]
    noisy = scheduler_of_sd().add_noise(x, noise, t.long())

    def run():
        optimizer.zero_grad()
        said = forward(noisy, t, given["context"]).sample
        loss = torch.nn.functional.mse_loss(said, noise)
        loss.backward()
        optimizer.step()
        torch._foreach_lerp_(mean, params, 1 - EMA)
        rivals.synchronize()
        return loss.detach()

    return run


# ---- the comparison ------------------------------------------------------------------------------


def compare(job: str, forms: list[rivals.Form], rounds: int, names: tuple[str, ...]) -> Any:
    """(report, row of the table) of a job."""
    batch, wanted = JOBS[job]
    result = rivals.compare("benchmarks.ldm", Case(job, batch), forms, rounds)
    ours = result["jaxgen"]
    theirs = result["rivals"][result["best"][0]][result["best"][1]]
    verdict = "met" if result["ratio"] <= wanted else "**missed**"
    row = {
        "job": f"{job}, batch {batch}",
        **dict(zip(common.head(names), common.cells(result, names), strict=True)),
        "asked for": f"{wanted}: {verdict}",
        "compiled in, cold / warm": f"{ours['compile_s']:.0f} / {ours['warm_compile_s']:.0f} s",
        "peak memory beside the weights": f"{ours['added_bytes'] / MEBI:.0f} MiB",
        "the best rival's": f"{theirs['added_bytes'] / MEBI:.0f} MiB",
    }
    return result, row


def alone(case: Case, rounds: int) -> dict[str, Any]:
    """jaxgen's worker without a rival."""
    with tempfile.TemporaryDirectory() as folder:
        fields = json.dumps(dataclasses.asdict(case))
        command = ["-m", "benchmarks.ldm", "--case", fields, "--folder", folder]
        return common.in_turn({"": common.Worker([*command, "--worker", "jax"])}, rounds)[""]


def growth(rounds: int, quick: bool) -> tuple[list[Any], str]:
    """(reports, table) of the pass against the latents' side and the batch."""
    points = [(1, side) for side in SIDES] + [(batch, MIDDLE.side) for batch in BATCHES[1:]]
    found, rows = [], [["batch", "latents", "time", "CPU time", "a latent's place", "temporary"]]
    for batch, side in points[:2] + points[3:4] if quick else points:
        case = Case("forward", batch, dataclasses.asdict(dataclasses.replace(MIDDLE, side=side)))
        result = alone(case, rounds)
        found.append({"case": dataclasses.asdict(case), "jaxgen": result})
        each = 1e6 * result["median_s"] / (batch * side**2)
        rows.append([
            str(batch), f"{side} x {side}", f"{1e3 * result['median_s']:.0f} ms",
            f"{1e3 * result['cpu_s']:.0f} ms", f"{each:.0f} us",
            f"{result['temporary_bytes'] / MEBI:.0f} MiB",
        ])  # fmt: skip
        print(common.table([rows[0], rows[-1]]), flush=True)
    return found, common.table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--only", nargs="+", choices=[*JOBS, "growth"], help="these alone")
    args = parser.parse_args()
    if unets.serves(args, Case, serve_jax, serve_torch):
        return
    unets.need_diffusers()
    report: dict[str, Any] = {"machine": common.machine()}
    common.keep_to_threads()
    wanted = (rivals.EAGER,) if args.eager else (rivals.EAGER, rivals.COMPILED)
    names = tuple(name for name in rivals.available() if name in wanted)
    rounds = 3 if args.quick else 7
    jobs = args.only or [*JOBS, "growth"]
    report["cases"], texts = unets.compared(
        [job for job in JOBS if job in jobs],
        lambda job: compare(job, unets.forms(names), rounds, names),
    )
    if "growth" in jobs:
        report["growth"], text = growth(rounds, args.quick)
        texts.append(text)
    text = "\n\n".join(texts)
    print("\n" + text, flush=True)
    common.finish(report, args.json, text, args.into)


if __name__ == "__main__":
    main()
