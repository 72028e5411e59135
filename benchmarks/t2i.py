"""A training step of DF-GAN against PyTorch: 64 pixels, 32 features, with MA-GP.

    python -m benchmarks.t2i [--quick] [--batch 32] [--json benchmarks/results/t2i_cpu.json]

One step is what the published trainer does for a batch: D on real pictures with their own and with
other sentences and on generated ones, the matching-aware gradient penalty with its second-order
gradients, Adam; then G through the new D, Adam. Sentences (256 numbers) are given on both sides.
jaxgen's is the step of its trainer (`jaxgen.train.step`), with its log of norms and its checks for
numbers that are not finite; PyTorch's was written for this benchmark and does neither. Both begin
with the same weights, whose pictures and logits must agree. torch.compile has no second-order
gradients, so that eager PyTorch is the only rival.

On a CPU float32; on a GPU bfloat16, where PyTorch computes with autocast and the penalty's part in
float32. How it is timed and what the ratios are: `benchmarks.srgan`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals
from benchmarks.networks import agree

SIZE, FEATURES, SENTENCE, NOISE = 64, 32, 256, 100
# The published networks at this size; its files count shortcuts that are not used, and ours don't.
G_PARAMETERS = 4_868_867
CONFIG = Path(__file__).resolve().parent.parent / "configs" / "dfgan.py"


@dataclasses.dataclass(frozen=True)
class Case:
    """batch: pictures a step. dtype: "float32" or "bfloat16"."""

    batch: int
    dtype: str = "float32"


def serve_jax(case: Case, folder: Path) -> None:
    """The worker of jaxgen's step; leaves weights and what the nets say in `folder`."""
    import jax

    from benchmarks.trainer import Step
    from jaxgen import config as configs

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
            "model.generator.block": "base",
            "model.generator.sentence_first": False,
            "model.discriminator.features": FEATURES,
            "model.ema": 0.0,
        },
    )
    pictures, sentences, _ = inputs(case)
    batch = {
        "image": pictures,
        "sentence": sentences,
        "words": np.zeros((case.batch, 1, SENTENCE), np.float32),
        "mask": np.ones((case.batch, 1), bool),
        "meaning": np.arange(case.batch, dtype=np.int32),
    }
    # The encoder takes no part, but is made: it wants to see texts.
    step = Step(config, batch, unused={"tokens": np.zeros((case.batch, 1), np.int32)})
    count = sum(x.size for x in jax.tree.leaves(step.state.params["g"]))
    assert count == G_PARAMETERS, count
    leave(config, step.state.params, case, folder)
    common.serve(step, {**step.facts, "parameters": count})


def inputs(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (b, size, size, 3) uint8, sentences (b, e), noise (b, z)."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (case.batch, SIZE, SIZE, 3)).astype(np.uint8)
    sentences = rng.standard_normal((case.batch, SENTENCE), np.float32)
    return pictures, sentences, rng.standard_normal((case.batch, NOISE), np.float32)


def leave(config: Any, params: dict[str, Any], case: Case, folder: Path) -> None:
    """Writes both nets' weights, G's pictures, and D's logits of pictures and sentences."""
    import jax

    from jaxgen import weights
    from jaxgen.models.dfgan import convert
    from jaxgen.models.dfgan.task import make_discriminator, make_generator
    from jaxgen.nn.text import Text

    for layout in convert.LAYOUTS[:2]:  # of 2022, G and D
        sizes = layout.read(config)
        state = weights.to_torch({"params": params[layout.net]}, layout.rules(sizes))
        np.savez(folder / f"{layout.net}.npz", **state)
    pictures, sentences, noise = inputs(case)
    nothing = np.zeros((case.batch, 1, SENTENCE), np.float32)
    text = Text(words=nothing, mask=np.ones((case.batch, 1), bool), sentence=sentences)
    generator, discriminator = make_generator(config), make_discriminator(config)
    drawn = jax.jit(generator.apply)({"params": params["g"]}, noise, text)
    judged = jax.jit(discriminator.apply)(
        {"params": params["d"]}, pictures / np.float32(127.5) - 1, (sentences,)
    )
    np.savez(folder / "said.npz", drawn=drawn.image, judged=judged[0].pair)


def serve_torch(case: Case, form: rivals.Form, folder: Path) -> None:
    """The worker of PyTorch's step, from the same weights."""
    import torch

    from benchmarks import torch_nets

    device, memory = rivals.device(), getattr(torch, form.layout)
    generator = torch_nets.DFGenerator(FEATURES, SENTENCE, NOISE)
    judge = torch_nets.DFDiscriminator(FEATURES, SENTENCE)
    for name, net in (("g", generator), ("d", judge)):
        torch_nets.load(net, folder / f"{name}.npz").to(device, memory_format=memory)
    count = sum(p.numel() for p in generator.parameters())
    assert count == G_PARAMETERS, count
    g_adam = torch.optim.Adam(generator.parameters(), 1e-4, betas=(0.0, 0.9))
    d_adam = torch.optim.Adam(judge.parameters(), 4e-4, betas=(0.0, 0.9))
    pictures, sentences, noise = inputs(case)
    real = torch.tensor(pictures, device=device).permute(0, 3, 1, 2) / 127.5 - 1
    real = real.contiguous(memory_format=memory)
    sentence = torch.tensor(sentences, device=device)
    relu = torch.nn.functional.relu
    precision = torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16")
    with torch.inference_mode(), np.load(folder / "said.npz") as said:
        drawn = generator(torch.tensor(noise, device=device), sentence).permute(0, 2, 3, 1)
        agree(drawn.cpu().numpy(), said["drawn"], case.dtype)
        agree(judge(real, sentence).cpu().numpy(), said["judged"], case.dtype)

    def run():
        x, s = real.requires_grad_(), sentence.requires_grad_()
        with precision:
            seen = judge.netD(x)
            right = judge.netC(seen, s).float()
            wrong = judge.netC(seen, s.roll(1, 0)).float()
            z = torch.randn(case.batch, NOISE, device=device)
            fake = generator(z, s.detach())
            made = judge(fake.detach(), s.detach()).float()
        value = relu(1 - right).mean() + 0.5 * (relu(1 + wrong).mean() + relu(1 + made).mean())
        if case.dtype == "float32":
            penalized = right
        else:
            penalized = judge(x, s)
        by_x, by_s = torch.autograd.grad(penalized.sum(), (x, s), create_graph=True)
        squares = by_x.float().pow(2).sum((1, 2, 3)) + by_s.float().pow(2).sum(1)
        value = value + 2 * squares.pow(3).mean()
        d_adam.zero_grad()
        value.backward()
        d_adam.step()
        with precision:
            fooled = judge(fake, s.detach()).float()
        g_adam.zero_grad()
        (-fooled.mean()).backward()
        g_adam.step()
        rivals.synchronize()

    common.serve(run, {"parameters": count})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--batch", type=int, help="pictures a step [default: 16, on a GPU 64]")
    args = parser.parse_args()

    def case(gpu: bool) -> Case:
        return Case(args.batch or (64 if gpu else 16), "bfloat16" if gpu else "float32")

    rivals.run(
        "benchmarks.t2i", args, case, (Case, serve_jax, serve_torch), against=(rivals.EAGER,),
        rounds=(3, 11), cells=lambda one: {"batch": str(one.batch), "dtype": one.dtype},
    )  # fmt: skip


if __name__ == "__main__":
    main()
