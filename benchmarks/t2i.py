"""A training step of DF-GAN against PyTorch: 64 pixels, 32 features, with MA-GP.

    python -m benchmarks.t2i [--quick] [--batch 32] [--json benchmarks/results/t2i_cpu.json]

One step is what the published trainer does for a batch: D on real pictures with their own and with
other sentences and on generated ones, the matching-aware gradient penalty with its second-order
gradients, Adam; then G through the new D, Adam. Sentences (256 numbers) are given on both sides.
jaxgen's is the step of its trainer (`jaxgen.train.step`), with its log of norms and its checks for
numbers that are not finite; PyTorch's was written for this benchmark and does neither.

On a CPU float32; on a GPU bfloat16, where PyTorch computes with autocast and the penalty's part in
float32. How it is timed and what the ratios are: `benchmarks.srgan`. A PyTorch network's forward
FLOPs are not counted here.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common

SIZE, FEATURES, SENTENCE, NOISE = 64, 32, 256, 100
# The published networks at this size; its files count shortcuts that are not used, and ours don't.
G_PARAMETERS = 4_868_867
CONFIG = Path(__file__).resolve().parent.parent / "configs" / "dfgan.py"


@dataclasses.dataclass(frozen=True)
class Case:
    """batch: pictures a step. dtype: "float32" or "bfloat16". block: "base" or "rdb"."""

    batch: int
    dtype: str = "float32"
    block: str = "base"


def serve_jax(case: Case) -> None:
    """The worker of jaxgen's step."""
    import jax
    import jax.numpy as jnp

    from jaxgen import config as configs
    from jaxgen.task import Due
    from jaxgen.train import heap, loop
    from jaxgen.train import mesh as meshes
    from jaxgen.train.state import make_optimizers
    from jaxgen.train.step import make_step

    heap.keep_freed_memory()
    config = configs.load(
        CONFIG,
        {
            "train.dtype": case.dtype,
            "train.batch_size": case.batch,
            "data.size": SIZE,
            "model.text.trained_by": "none",
            "model.text.kind": "bow",
            "model.text.width": SENTENCE,
            "model.damsm_steps": 0,
            "model.loss.damsm": 0.0,
            "model.loss.magp": 2.0,
            "model.loss.penalty_every": 1,
            "model.generator.features": FEATURES,
            "model.generator.block": case.block,
            "model.generator.sentence_first": False,
            "model.discriminator.features": FEATURES,
            "model.ema": 0.0,
        },
    )
    task = loop.load_task(config)
    optimizers = make_optimizers(task, config)
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (case.batch, SIZE, SIZE, 3)).astype(np.uint8),
        "sentence": rng.standard_normal((case.batch, SENTENCE), np.float32),
        "words": np.zeros((case.batch, 1, SENTENCE), np.float32),
        "mask": np.ones((case.batch, 1), bool),
        "meaning": np.arange(case.batch, dtype=np.int32),
    }
    # The encoder takes no part, but is made: it wants to see texts.
    texts = {"tokens": np.zeros((case.batch, 1), np.int32)}
    shapes = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in {**batch, **texts}.items()}
    state = loop.fresh_state(task, optimizers, config, mesh, shapes)
    count = sum(x.size for x in jax.tree.leaves(state.params["g"]))
    assert case.block != "base" or count == G_PARAMETERS, count
    batch = jax.device_put(batch)
    step = make_step(task, optimizers, config, Due.at(task.phases, 0))
    begin = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch, {}).compile()
    facts = {
        "compile_s": time.perf_counter() - begin,
        "device": str(jax.devices()[0]),
        "parameters": count,
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }

    def run():
        nonlocal state
        state, tally = compiled(state, batch, {})
        jax.block_until_ready((state, tally))
        assert jnp.isfinite(tally.sums["d/loss"])

    common.serve(run, facts)


def serve_torch(case: Case, layout: str) -> None:
    """The worker of PyTorch's step, in one memory layout."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = getattr(torch, layout)
    nets = [net.to(device, memory_format=memory) for net in torch_networks()]
    generator, features, judge = nets
    count = sum(p.numel() for p in generator.parameters())
    assert count == G_PARAMETERS, count
    g_adam = torch.optim.Adam(generator.parameters(), 1e-4, betas=(0.0, 0.9))
    d_nets = [*features.parameters(), *judge.parameters()]
    d_adam = torch.optim.Adam(d_nets, 4e-4, betas=(0.0, 0.9))
    real = torch.rand(case.batch, 3, SIZE, SIZE, device=device) * 2 - 1
    real = real.to(memory_format=memory)
    sentence = torch.randn(case.batch, SENTENCE, device=device)
    relu = torch.nn.functional.relu
    precision = torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16")

    def run():
        x, s = real.requires_grad_(), sentence.requires_grad_()
        with precision:
            seen = features(x)
            right = judge(seen, s).float()
            wrong = judge(seen, s.roll(1, 0)).float()
            z = torch.randn(case.batch, NOISE, device=device)
            fake = generator(z, s.detach())
            made = judge(features(fake.detach()), s.detach()).float()
        value = relu(1 - right).mean() + 0.5 * (relu(1 + wrong).mean() + relu(1 + made).mean())
        if case.dtype == "float32":
            penalized = right
        else:
            penalized = judge(features(x), s)
        by_x, by_s = torch.autograd.grad(penalized.sum(), (x, s), create_graph=True)
        squares = by_x.float().pow(2).sum((1, 2, 3)) + by_s.float().pow(2).sum(1)
        value = value + 2 * squares.pow(3).mean()
        d_adam.zero_grad()
        value.backward()
        d_adam.step()
        with precision:
            fooled = judge(features(fake), s.detach()).float()
        g_adam.zero_grad()
        (-fooled.mean()).backward()
        g_adam.step()
        if device == "cuda":
            torch.cuda.synchronize()

    common.serve(run, {"layout": layout, "parameters": count})


def torch_networks() -> tuple[Any, Any, Any]:
    """(generator, picture features, judge) of DF-GAN's 2022 form in PyTorch."""
    import torch
    from torch import nn
    from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, relu

    condition = NOISE + SENTENCE
    wide = [8 * FEATURES, 4 * FEATURES, 2 * FEATURES, FEATURES]
    channels = [wide[0], *wide]  # at 4, 8, 16, 32, 64 pixels

    class Affine(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.gamma = nn.ModuleList([nn.Linear(condition, c), nn.Linear(c, c)])
            self.beta = nn.ModuleList([nn.Linear(condition, c), nn.Linear(c, c)])

        def forward(self, x, s):
            gamma = self.gamma[1](relu(self.gamma[0](s)))[:, :, None, None]
            beta = self.beta[1](relu(self.beta[0](s)))[:, :, None, None]
            return leaky_relu(x * gamma + beta, 0.2)

    class Up(nn.Module):
        def __init__(self, c: int, n: int) -> None:
            super().__init__()
            self.fuse = nn.ModuleList([Affine(c), Affine(c), Affine(n), Affine(n)])
            self.convs = nn.ModuleList([nn.Conv2d(c, n, 3, 1, 1), nn.Conv2d(n, n, 3, 1, 1)])
            self.shortcut = nn.Conv2d(c, n, 1) if c != n else nn.Identity()

        def forward(self, x, s):
            x = interpolate(x, scale_factor=2)
            y = self.convs[0](self.fuse[1](self.fuse[0](x, s), s))
            y = self.convs[1](self.fuse[3](self.fuse[2](y, s), s))
            return self.shortcut(x) + y

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(NOISE, 16 * channels[0])
            pairs = itertools.pairwise(channels)
            self.blocks = nn.ModuleList([Up(c, n) for c, n in pairs])
            self.last = nn.Conv2d(channels[-1], 3, 3, 1, 1)

        def forward(self, z, s):
            y = self.first(z).view(len(z), channels[0], 4, 4)
            both = torch.cat([z, s], 1)
            for block in self.blocks:
                y = block(y, both)
            return torch.tanh(self.last(leaky_relu(y, 0.2)))

    class Down(nn.Module):
        def __init__(self, c: int, n: int) -> None:
            super().__init__()
            self.convs = nn.ModuleList(
                [nn.Conv2d(c, n, 4, 2, 1, bias=False), nn.Conv2d(n, n, 3, 1, 1, bias=False)]
            )
            self.shortcut = nn.Conv2d(c, n, 1) if c != n else nn.Identity()
            self.gain = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            y = leaky_relu(self.convs[0](x), 0.2)
            y = leaky_relu(self.convs[1](y), 0.2)
            return avg_pool2d(self.shortcut(x), 2) + self.gain * y

    class Judge(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(c + SENTENCE, 2 * FEATURES, 3, 1, 1, bias=False)
            self.last = nn.Conv2d(2 * FEATURES, 1, 4, bias=False)

        def forward(self, x, s):
            s = s[:, :, None, None].expand(-1, -1, 4, 4)
            return self.last(leaky_relu(self.first(torch.cat([x, s], 1)), 0.2)).flatten()

    down = channels[:0:-1]  # from full size to 8 pixels, then 4
    down = [*down, channels[0]]
    blocks = [Down(c, n) for c, n in itertools.pairwise(down)]
    features = nn.Sequential(nn.Conv2d(3, FEATURES, 3, 1, 1), *blocks)
    return Generator(), features, Judge(down[-1])


def compare(case: Case, rounds: int, gpu: bool) -> dict[str, Any]:
    """Times jaxgen and PyTorch's forms in turn; the ratios are to PyTorch's best."""
    start = ["-m", "benchmarks.t2i", "--case", json.dumps(dataclasses.asdict(case))]
    layouts = ["channels_last"] if gpu else ["channels_last", "contiguous_format"]
    report = common.against_torch(
        [*start, "--worker", "jax"],
        {layout: [*start, "--worker", "torch", "--layout", layout] for layout in layouts},
        rounds,
        gpu,
    )
    return {"case": dataclasses.asdict(case), **report}


HEAD = ["batch", "dtype", *common.RATIOS, "compiled in"]


def row(result: dict[str, Any]) -> list[str]:
    """One line under `HEAD`."""
    case, compiled = result["case"], result["jaxgen"]["compile_s"]
    return [str(case["batch"]), case["dtype"], *common.ratios(result), f"{compiled:.0f} s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--batch", type=int, help="pictures a step [default: 16, on a GPU 64]")
    args = parser.parse_args()
    if args.worker:
        case = Case(**json.loads(args.case))
        return serve_jax(case) if args.worker == "jax" else serve_torch(case, args.layout)
    gpu = common.on_gpu()
    batch = args.batch or (64 if gpu else 16)
    report: dict[str, Any] = {"machine": common.machine()}
    case = Case(batch, "bfloat16" if gpu else "float32")
    report["cases"] = [compare(case, 3 if args.quick else 11, gpu)]
    report["machine"]["load_at_end"] = common.machine()["load_at_start"]
    print("\n" + common.table([HEAD, *(row(r) for r in report["cases"])]), flush=True)
    if args.json:
        common.write_json(args.json, report)


if __name__ == "__main__":
    main()
