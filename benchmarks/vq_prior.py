"""Drawing 256 codes by the prior's transformer, against loops with and without a cache.

    python -m benchmarks.vq_prior [--quick] [--batch 1] [--json benchmarks/results/vq_prior.json]

jaxgen's is what `jaxgen generate` runs: one scan with a cache of fixed size, top-k 100. Its rivals
do the same draws:

- JAX without a cache: one jitted step that reads the whole sequence for each code;
- PyTorch without one: taming-transformers' `sample`, which reads what is there so far;
- PyTorch with one: a buffer of fixed size, `scaled_dot_product_attention`, no Python beyond the
  loop over positions.

All have the same weights, whose logits must agree. How it is timed: `benchmarks.srgan`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals
from benchmarks.common import Start
from benchmarks.networks import agree

CELLS, CODES, TOP_K = 256, 1024, 100
UNCACHED_JAX, UNCACHED, CACHED = "JAX, no cache", "PyTorch, no cache", "PyTorch, cache"


@dataclasses.dataclass(frozen=True)
class Case:
    """batch: pictures at a time. layers, width: of the transformer, with heads of 64."""

    batch: int
    layers: int
    width: int


def make(case: Case) -> tuple[Any, Any]:
    """(jaxgen's module, its variables), not near to zero, so that attention does something."""
    import jax
    import jax.numpy as jnp

    from jaxgen.nn.transformer import GPT

    gpt = GPT(CODES + 1, CODES, CELLS, case.layers, case.width // 64, case.width)
    variables = jax.jit(gpt.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    return gpt, jax.tree.map(lambda a: a if a.ndim == 1 else 2 * a, variables)


def serve_jax(case: Case, folder: Path, cached: bool) -> None:
    """The worker of jaxgen's scan, or of the loop without a cache."""
    import jax
    import jax.numpy as jnp

    from jaxgen import heap, weights
    from jaxgen.models.prior import decode
    from jaxgen.models.prior.transformer_layout import net2net_rules
    from jaxgen.nn.transformer import vectors

    heap.keep_freed_memory()  # as the command does
    gpt, g = make(case)
    given = {"temperature": np.float32(1), "top_k": np.int32(TOP_K), "top_p": np.float32(1)}
    start = jnp.full((case.batch, 1), CODES)
    known = jnp.zeros((case.batch, CELLS), jnp.int32)
    keep = jnp.zeros(CELLS, bool)

    def keys(number):
        rows = jnp.arange(case.batch, dtype=jnp.uint32)
        return jnp.stack([jnp.full_like(rows, number), rows], axis=1)

    @jax.jit
    def scan(g, number, given):
        numbers = decode.uniforms(keys(number), CELLS)
        return decode.continued(gpt, g, vectors(g, start), known, keep, numbers, given)

    @jax.jit
    def step(g, codes, at, numbers, given):
        logits = gpt.apply(g, jnp.concatenate([start, codes[:, :-1]], axis=1))
        logits = jax.lax.dynamic_index_in_dim(logits, at, 1, keepdims=False)
        number = jax.lax.dynamic_index_in_dim(numbers, at, 1, keepdims=False)
        code = decode.draw(logits, number, given)
        return jax.lax.dynamic_update_slice(codes, code[:, None], (0, at))

    def loop(g, number, given):
        numbers, codes = decode.uniforms(keys(number), CELLS), known
        for at in range(CELLS):
            codes = step(g, codes, at, numbers, given)
        return codes

    draw, count = (scan if cached else loop), [0]

    def run():
        count[0] += 1
        return np.asarray(draw(g, count[0], given))

    if cached:
        tensors = weights.to_torch(g, net2net_rules({}, prefix=""))
        np.savez(folder / "g.npz", **tensors)
        tokens = np.random.default_rng(0).integers(0, CODES, (case.batch, CELLS))
        logits = jax.jit(gpt.apply)(g, jnp.asarray(tokens, jnp.int32))
        np.savez(folder / "said.npz", tokens=tokens, logits=logits)
    common.serve(run, {"parameters": sum(x.size for x in jax.tree.leaves(g))})


def make_torch(case: Case, folder: Path) -> Any:
    """minGPT as taming-transformers has it; `forward(tokens, cache, at)`."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("key", "query", "value", "proj"):
                setattr(self, name, nn.Linear(case.width, case.width))

        def forward(self, x, cache, at):
            b, n, width = x.shape
            heads = (b, n, width // 64, 64)
            q, k, v = (
                layer(x).view(heads).transpose(1, 2) for layer in (self.query, self.key, self.value)
            )
            if cache is not None:
                cache[0][:, :, at : at + n], cache[1][:, :, at : at + n] = k, v
                k, v = cache[0][:, :, : at + n], cache[1][:, :, : at + n]
            y = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
            return self.proj(y.transpose(1, 2).reshape(b, n, width))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(case.width), nn.LayerNorm(case.width)
            self.attn = Attention()
            wide = 4 * case.width
            self.mlp = nn.Sequential(
                nn.Linear(case.width, wide), nn.GELU(), nn.Linear(wide, case.width)
            )

        def forward(self, x, cache, at):
            x = x + self.attn(self.ln1(x), cache, at)
            return x + self.mlp(self.ln2(x))

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok_emb = nn.Embedding(CODES + 1, case.width)
            self.pos_emb = nn.Parameter(torch.zeros(1, CELLS, case.width))
            self.blocks = nn.ModuleList(Block() for _ in range(case.layers))
            self.ln_f = nn.LayerNorm(case.width)
            self.head = nn.Linear(case.width, CODES, bias=False)

        def forward(self, tokens, caches=None, at=0):
            x = self.tok_emb(tokens) + self.pos_emb[:, at : at + tokens.shape[1]]
            for i, block in enumerate(self.blocks):
                x = block(x, None if caches is None else caches[i], at)
            return self.head(self.ln_f(x))

    net = Transformer().eval()
    with np.load(folder / "g.npz") as file:
        state = {key: torch.tensor(file[key]) for key in file}
    net.load_state_dict(state)
    return net.to(rivals.device())


def serve_torch(case: Case, folder: Path, cached: bool) -> None:
    """The worker of PyTorch's loop."""
    import torch

    place = rivals.device()
    net = make_torch(case, folder)
    with torch.inference_mode(), np.load(folder / "said.npz") as said:
        agree(
            net(torch.tensor(said["tokens"], device=place)).cpu().numpy(), said["logits"], "float32"
        )

    def chosen(logits):
        least = torch.topk(logits, TOP_K).values[:, -1:]
        logits = logits.masked_fill(logits < least, -float("inf"))
        return torch.multinomial(torch.softmax(logits, -1), 1)

    @torch.inference_mode()
    def run():
        codes = torch.full((case.batch, 1), CODES, device=place)
        if not cached:
            for _ in range(CELLS):
                codes = torch.cat([codes, chosen(net(codes)[:, -1])], 1)
            rivals.synchronize()
            return codes[:, 1:].cpu().numpy()
        size = (case.layers, 2, case.batch, case.width // 64, CELLS, 64)
        caches, drawn = torch.zeros(size, device=place), []
        for at in range(CELLS):
            codes = chosen(net(codes, caches, at)[:, -1])
            drawn.append(codes)
        rivals.synchronize()
        return torch.cat(drawn, 1).cpu().numpy()

    common.serve(run, {"parameters": sum(p.numel() for p in net.parameters())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--batch", type=int, default=1, help="pictures at a time [1]")
    args = parser.parse_args()
    if args.worker:
        case = Case(**json.loads(args.case))
        serve = serve_jax if args.worker in ("jax", UNCACHED_JAX) else serve_torch
        return serve(case, args.folder, args.worker in ("jax", CACHED))
    report: dict[str, Any] = {"machine": common.machine()}
    gpu = common.on_gpu()
    if not gpu:
        common.keep_to_threads()
    names = [UNCACHED_JAX]
    if rivals.EAGER in rivals.available():
        names += [UNCACHED, CACHED]
    case = Case(args.batch, 2, 128) if args.quick else Case(args.batch, 12, 512)
    result = compare(case, names, 3 if args.quick else 5)
    report["cases"] = [result]
    mine = result["jaxgen"]["median_s"]
    rows = [["batch", "layers x width", "jaxgen", *names, *(f"{name}: times" for name in names)]]
    medians = [result["rivals"][name][""]["median_s"] for name in names]
    rows.append(
        [
            str(case.batch), f"{case.layers} x {case.width}", f"{1e3 * mine:.0f} ms",
            *(f"{1e3 * s:.0f} ms" for s in medians), *(f"{s / mine:.1f}" for s in medians),
        ]
    )  # fmt: skip
    text = common.table(rows)
    print("\n" + text, flush=True)
    common.finish(report, args.json, text, args.into)


def compare(case: Case, names: list[str], rounds: int) -> dict[str, Any]:
    """Times jaxgen and the rivals in turn; see `benchmarks.common.compare`."""
    import tempfile

    fields = dataclasses.asdict(case)
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "benchmarks.vq_prior", "--case", json.dumps(fields), "--folder", folder]
        starts = [Start(name, "", [*command, "--worker", name]) for name in names]
        found = common.compare([*command, "--worker", "jax"], starts, rounds)
        return {"case": fields, **found}


if __name__ == "__main__":
    main()
