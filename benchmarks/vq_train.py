"""A training step of VQGAN against PyTorch: both phases, with the adaptive weight.

    python -m benchmarks.vq_train [--quick] [--batch 8] [--json benchmarks/results/vq_train.json]

64 pixels, a codebook of 1024, PatchGAN with BatchNorm, L1; no LPIPS, whose trunk is nobody's own
work. One step: D on real and on reconstructed pictures (hinge), Adam; then the autoencoder through
the new D, its loss weighed against the reconstruction's by both gradients at the last layer, Adam.
The reconstruction is made once on both sides. jaxgen's is the step of its trainer, with its log of
norms, its running mean of the weights left out, and its checks for numbers that are not finite;
PyTorch's does neither. Both begin with the same weights, whose pictures and logits must agree.

On a CPU float32; on a GPU bfloat16. How it is timed and what the ratios are: `benchmarks.srgan`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals
from benchmarks.networks import agree

SIZE = 64
NET = {"features": 64, "widths": (1, 2, 4), "blocks": 2, "latent": 128}
CODES, WIDTH = 1024, 64
PATCH = {"features": 64, "layers": 3}
RATE = 1e-4
CONFIG = Path(__file__).resolve().parent.parent / "configs" / "vqgan.py"


@dataclasses.dataclass(frozen=True)
class Case:
    """batch: pictures a step. dtype: "float32" or "bfloat16"."""

    batch: int
    dtype: str = "float32"


def pictures(case: Case) -> np.ndarray:
    """(b, size, size, 3) uint8."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (case.batch, SIZE, SIZE, 3)).astype(np.uint8)


def settings(case: Case) -> Any:
    """jaxgen's config of the step."""
    from jaxgen import config as configs

    config = configs.load(f"{CONFIG}:vq", {"train.dtype": case.dtype})
    config.train.batch_size, config.data.size = case.batch, SIZE
    config.model.autoencoder.update(NET, attention=(2,), groups=32)
    config.model.quantize = {"form": "vq", "codes": CODES, "width": WIDTH}
    config.model.discriminator.update(PATCH)
    config.model.loss.update(pixel_kind="l1", pixel=1.0, perceptual=0.0, adversarial=0.8)
    config.model.update(gan_start=0, d_warmup=0, ema=0.0)
    for name in config.optimizer:
        config.optimizer[name].update(lr=RATE, schedule="constant", warmup=0)
    return config


def serve_jax(case: Case, folder: Path) -> None:
    """The worker of jaxgen's step; leaves weights and what the nets say in `folder`."""
    import jax

    from benchmarks.trainer import Step

    config = settings(case)
    step = Step(config, {"image": pictures(case)})
    count = sum(x.size for net in step.state.params.values() for x in jax.tree.leaves(net))
    leave(config, step.state, case, folder)
    common.serve(step, {**step.facts, "parameters": count})


def leave(config: Any, state: Any, case: Case, folder: Path) -> None:
    """Writes both nets' weights, the reconstruction, and D's logits of the pictures."""
    import jax

    from jaxgen import weights
    from jaxgen.models.vqgan import convert
    from jaxgen.models.vqgan.task import make_autoencoder
    from jaxgen.tasks.autoencoder.task import make_discriminator

    for layout in convert.LAYOUTS[:2]:
        net = {"params": state.params[layout.net], **state.mutable.get(layout.net, {})}
        sizes = layout.read(config)
        assert sizes is not None
        tensors = weights.to_torch(net, layout.rules(sizes))
        named = {key.removeprefix("loss.discriminator."): a for key, a in tensors.items()}
        np.savez(folder / f"{layout.net}.npz", **named)
    x = pictures(case) / np.float32(127.5) - 1
    autoencoder, judge = make_autoencoder(config), make_discriminator(config)
    assert judge is not None
    made = jax.jit(autoencoder.apply)({"params": state.params["g"]}, x)
    judged = jax.jit(judge.apply)({"params": state.params["d"], **state.mutable["d"]}, x)
    np.savez(folder / "said.npz", made=made.picture, judged=judged)


def serve_torch(case: Case, form: rivals.Form, folder: Path) -> None:
    """The worker of PyTorch's step, from the same weights."""
    import torch

    from benchmarks import torch_nets, torch_vqgan

    device, memory = rivals.device(), getattr(torch, form.layout)
    net = torch_vqgan.VQGAN(**NET, codes=CODES, width=WIDTH)
    judge = torch_vqgan.PatchGAN(**PATCH)
    for name, module in (("g", net), ("d", judge)):
        torch_nets.load(module, folder / f"{name}.npz").to(device, memory_format=memory)
    count = sum(p.numel() for module in (net, judge) for p in module.parameters())
    x = torch.tensor(pictures(case), device=device).permute(0, 3, 1, 2) / 127.5 - 1
    x = x.contiguous(memory_format=memory)
    with torch.inference_mode(), np.load(folder / "said.npz") as said:
        made = net(x)[0].permute(0, 2, 3, 1)
        agree(made.cpu().numpy(), said["made"], "float32")
        agree(judge.eval()(x)[:, 0].cpu().numpy(), said["judged"], "float32")
    judge.train()
    g_adam, d_adam = (torch.optim.Adam(m.parameters(), RATE) for m in (net, judge))
    last, relu = net.decoder.conv_out.weight, torch.nn.functional.relu
    autoencode, says = net, judge
    if form.rival == rivals.COMPILED:
        autoencode, says = torch.compile(net), torch.compile(judge)
    precision = torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16")

    def run():
        with precision:
            made, pull = autoencode(x)
            real, fake = says(x).float(), says(made.detach()).float()
        d_adam.zero_grad()
        (0.5 * (relu(1 - real).mean() + relu(1 + fake).mean())).backward()
        d_adam.step()
        with precision:
            fool = -says(made).float().mean()
        near = (made.float() - x).abs().mean()
        to_near = torch.autograd.grad(near, last, retain_graph=True)[0]
        to_fool = torch.autograd.grad(fool, last, retain_graph=True)[0]
        weight = (to_near.norm() / (to_fool.norm() + 1e-4)).clamp(0, 1e4).detach()
        g_adam.zero_grad()
        (near + 0.8 * weight * fool + pull).backward()
        g_adam.step()
        rivals.synchronize()

    common.serve(run, {"parameters": count})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--batch", type=int, help="pictures a step [default: 8, on a GPU 64]")
    args = parser.parse_args()

    def case(gpu: bool) -> Case:
        return Case(args.batch or (64 if gpu else 8), "bfloat16" if gpu else "float32")

    rivals.run(
        "benchmarks.vq_train", args, case, (Case, serve_jax, serve_torch),
        against=(rivals.EAGER, rivals.COMPILED), rounds=(3, 11),
        cells=lambda one: {"batch": str(one.batch), "dtype": one.dtype},
    )  # fmt: skip


if __name__ == "__main__":
    main()
