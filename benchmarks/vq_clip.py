"""An iteration of VQGAN-CLIP against PyTorch, with the same networks and views.

    python -m benchmarks.vq_clip [--quick] [--cutouts 16] [--json benchmarks/results/vq_clip.json]

One iteration: the nearest codes of z, the decoder, the views (mean and maximum of the picture's
regions, with noise), CLIP's vision transformer, the distance from the prompt, the gradient of z
through all of it, Adam, and z clipped to the codebook's range. The views' other changes are left
out: the original has them of kornia. jaxgen's is what `jaxgen generate` runs, all views at once.

Both begin with the same weights, whose pictures and losses must agree. On a CPU and on a GPU
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

CODES, WIDTH = 1024, 64
LAYERS, PATCH, EMBED = 4, 8, 128
ITERATIONS = 3  # of what is timed at once
RATE, NOISE = 0.1, 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    side: of the picture. features: of the decoder, of widths 1, 2, 4. width, size: of the vision
    transformer, and the side of its pictures. cutouts: views.
    """

    side: int
    features: int
    width: int
    size: int
    cutouts: int

    @property
    def net(self) -> dict[str, Any]:
        """Settings of the autoencoder."""
        latent = 2 * self.features
        return {"features": self.features, "widths": (1, 2, 4), "blocks": 2, "latent": latent}


def serve_jax(case: Case, folder: Path) -> None:
    """The worker of jaxgen's iterations; leaves weights and first results in `folder`."""
    import jax
    import jax.numpy as jnp

    from jaxgen import heap, weights
    from jaxgen.edit.cutouts import Cutouts
    from jaxgen.edit.vqgan_clip import VQGANCLIP, Prompts, Settings
    from jaxgen.encoders.clip.preprocess import normalise
    from jaxgen.encoders.clip.vision import VisionTransformer
    from jaxgen.losses.contrastive import unit
    from jaxgen.models.clip.layout import openai_rules
    from jaxgen.models.vqgan import networks, quantize
    from jaxgen.models.vqgan.convert import autoencoder_rules
    from jaxgen.nn.autoencoder import Decoder, Encoder

    heap.keep_freed_memory()  # as the command does
    halves = [form(**case.net, attention=(2,)) for form in (Encoder, Decoder)]
    stage = networks.Autoencoder(*halves, quantize.make("vq", codes=CODES, width=WIDTH), WIDTH)
    eye = VisionTransformer(EMBED, case.size, PATCH, case.width, LAYERS, case.width // 64)
    g = jax.jit(stage.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    # As far apart as trained ones, and not near to zero.
    table = jax.random.normal(jax.random.key(1), (CODES, WIDTH))
    g["params"]["quantize"]["embedding"] = table
    c = jax.jit(eye.init)(jax.random.key(2), jnp.zeros((1, case.size, case.size, 3)))
    nets = {"g": g, "c": c}

    def guide(noise: float) -> VQGANCLIP:
        views = Cutouts(case.size, case.cutouts, changes=(), noise=noise, chunk=case.cutouts)
        return VQGANCLIP(
            vectors=lambda nets: stage.apply(nets["g"], method=lambda net: net.quantize.vectors()),
            paint=lambda nets, z: stage.apply(nets["g"], z, method=networks.Autoencoder.draw),
            judge=lambda nets, x: unit(eye.apply(nets["c"], normalise(x))),
            settings=Settings(views, rate=RATE),
        )

    timed = guide(NOISE)
    cells = case.side // 4
    state = timed.random(nets, jnp.zeros((1, 3), jnp.uint32), cells, cells)
    wanted = jax.random.normal(jax.random.key(3), (1, 1, EMBED))
    prompts = Prompts(wanted, jnp.ones((1, 1)), jnp.full((1, 1), -jnp.inf))
    whole = guide(0.0)
    _, loss = whole.advance_program(nets, state, prompts, 1)
    tensors = weights.to_torch(g, autoencoder_rules({"form": "vq"}))
    np.savez(folder / "g.npz", **tensors)
    tower = {"params": {"visual": c["params"]}}
    named = weights.to_torch(tower, openai_rules(None))
    np.savez(folder / "c.npz", **{key.removeprefix("visual."): a for key, a in named.items()})
    picture = np.asarray(
        jax.jit(stage.apply, static_argnames="method")(g, state.z, method=networks.Autoencoder.draw)
    )
    np.savez(folder / "said.npz", z=state.z, wanted=wanted[0], picture=picture, loss=loss)
    advance = timed.advance_program

    def run():
        return np.asarray(advance(nets, state, prompts, ITERATIONS)[1])

    common.serve(run, {"parameters": sum(x.size for x in jax.tree.leaves(nets))})


def make_tower(case: Case) -> Any:
    """CLIP's vision transformer in PyTorch, with OpenAI's keys: pictures in [0, 1] -> features."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from jaxgen.encoders.clip.preprocess import DEVIATION, MEAN

    class Attention(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
            self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
            self.out_proj = nn.Linear(width, width)

        def forward(self, x):
            b, n, width = x.shape
            qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
            q, k, v = qkv.view(b, n, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out_proj(y.transpose(1, 2).reshape(b, n, width))

    class MLP(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            x = self.c_fc(x)
            return self.c_proj(x * torch.sigmoid(1.702 * x))

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.attn, self.mlp = Attention(width), MLP(width)
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class Stack(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.resblocks = nn.Sequential(*(Block(width) for _ in range(LAYERS)))

    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            width, count = case.width, (case.size // PATCH) ** 2 + 1
            self.conv1 = nn.Conv2d(3, width, PATCH, PATCH, bias=False)
            self.class_embedding = nn.Parameter(torch.zeros(width))
            self.positional_embedding = nn.Parameter(torch.zeros(count, width))
            self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
            self.transformer = Stack(width)
            self.proj = nn.Parameter(torch.zeros(width, EMBED))
            for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
                numbers = torch.tensor(values).view(1, 3, 1, 1)
                self.register_buffer(name, numbers, persistent=False)

        def forward(self, x):
            x = self.conv1((x - self.mean) / self.deviation).flatten(2).mT
            first = self.class_embedding.expand(len(x), 1, -1)
            x = torch.cat([first, x], 1) + self.positional_embedding
            x = self.transformer.resblocks(self.ln_pre(x))
            return F.normalize(self.ln_post(x[:, 0]) @ self.proj, dim=-1)

    return Tower()


def serve_torch(case: Case, form: rivals.Form, folder: Path) -> None:
    """The worker of PyTorch's iterations, from the same weights."""
    import torch
    from torch.nn import functional as F

    from benchmarks import torch_nets, torch_vqgan

    device, memory = rivals.device(), getattr(torch, form.layout)
    stage = torch_vqgan.VQGAN(**case.net, codes=CODES, width=WIDTH)
    tower = make_tower(case)
    for name, module in (("g", stage), ("c", tower)):
        torch_nets.load(module, folder / f"{name}.npz").to(device, memory_format=memory)
        module.requires_grad_(False)
    with np.load(folder / "said.npz") as file:
        said = {key: torch.tensor(file[key], device=device) for key in file}
    table = stage.quantize.embedding.weight
    low, high = (x.view(1, -1, 1, 1) for x in (table.amin(0), table.amax(0)))
    begin = said["z"].permute(0, 3, 1, 2).contiguous(memory_format=memory)

    class Clamp(torch.autograd.Function):
        """What descent would push further out of [0, 1] gets no gradient."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(0, 1)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * (g * (x - x.clamp(0, 1)) >= 0)

    def paint(z):
        rows = z.detach().permute(0, 2, 3, 1).reshape(-1, WIDTH)
        far = table.square().sum(1) - 2 * rows @ table.T
        codes = far.argmin(1).view(z.shape[0], *z.shape[2:])
        found = table[codes].permute(0, 3, 1, 2)
        return stage.decoder(stage.post_quant_conv(found + (z - z.detach())))

    def judged(z, noise):
        x = Clamp.apply((paint(z) + 1) / 2)
        view = (F.adaptive_avg_pool2d(x, case.size) + F.adaptive_max_pool2d(x, case.size)) / 2
        views = view.expand(case.cutouts, -1, -1, -1)
        if noise:
            level = noise * torch.rand(case.cutouts, 1, 1, 1, device=device)
            views = views + level * torch.randn_like(views)
        far = (tower(views)[:, None] - F.normalize(said["wanted"], dim=-1)[None]).norm(dim=-1)
        return far.div(2).arcsin().square().mul(2).mean()

    with torch.no_grad():
        agree(
            paint(begin).permute(0, 2, 3, 1).cpu().numpy(), said["picture"].cpu().numpy(), "float32"
        )
        agree(judged(begin, 0.0).view(1).cpu().numpy(), said["loss"].cpu().numpy(), "float32")
    loss_of = torch.compile(judged) if form.rival == rivals.COMPILED else judged

    def run():
        z = begin.clone().requires_grad_()
        adam = torch.optim.Adam([z], RATE)
        for _ in range(ITERATIONS):
            adam.zero_grad()
            loss = loss_of(z, NOISE)
            loss.backward()
            adam.step()
            with torch.no_grad():
                z.copy_(z.maximum(low).minimum(high))
        rivals.synchronize()
        return float(loss.detach())

    count = sum(p.numel() for module in (stage, tower) for p in module.parameters())
    common.serve(run, {"parameters": count})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--cutouts", type=int, help="views [16; quick: 8]")
    args = parser.parse_args()

    def case(gpu: bool) -> Case:
        if args.quick:
            return Case(64, 32, 128, 64, args.cutouts or 8)
        return Case(128, 64, 256, 64, args.cutouts or 16)

    rivals.run(
        "benchmarks.vq_clip", args, case, (Case, serve_jax, serve_torch),
        against=(rivals.EAGER, rivals.COMPILED), rounds=(3, 5),
        cells=lambda one: {"picture": f"{one.side} px", "views": str(one.cutouts)},
    )  # fmt: skip


if __name__ == "__main__":
    main()
