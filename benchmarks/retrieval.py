"""Composed retrieval against PyTorch, and the search of an index against numpy and libraries.

    python -m benchmarks.retrieval [--quick] [--only train|index|query] [--json FILE] [--into PAGE]

- train: one step of TIRG (ResNet-18, LSTM of 512, the published loss and SGD) against the same
  networks in PyTorch, with the same weights, whose composed features must agree.
- index: features of a batch of pictures by the same ResNet-18, as `jaxgen index` makes them.
- query: the 20 nearest of 10,000 to a million rows of 512 float16 by `jaxgen search`, against a
  product and a sort in numpy, faiss and usearch where they are installed: median and 99th
  percentile.

How workers are timed: `benchmarks.srgan`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals
from benchmarks.common import Start
from benchmarks.networks import agree

WORDS, LENGTH, WIDTH, NEAREST = 46, 8, 512, 20


@dataclasses.dataclass(frozen=True)
class Case:
    """what: train or index. batch: queries, or pictures. side: of the pictures."""

    what: str
    batch: int
    side: int


def inputs(case: Case) -> dict[str, np.ndarray]:
    """A batch: pictures in [-1, 1], tokens without padding."""
    rng = np.random.default_rng(0)
    shape = (case.batch, case.side, case.side, 3)
    return {
        "source": rng.uniform(-1, 1, shape).astype(np.float32),
        "target": rng.uniform(-1, 1, shape).astype(np.float32),
        "tokens": rng.integers(1, WORDS + 1, (case.batch, LENGTH)).astype(np.int32),
    }


def serve_jax(case: Case, folder: Path) -> None:
    """jaxgen's worker; leaves its weights and what they give for the others."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxgen import heap, weights
    from jaxgen.losses.retrieval import batch_classification, scaled
    from jaxgen.models.tirg.compose import TIRG
    from jaxgen.models.tirg.encoders import ResNetTower, WordLSTM
    from jaxgen.models.tirg.layout import tirg_rules
    from jaxgen.models.tirg.networks import Composed
    from jaxgen.nn.text_keys import stack_gates

    heap.keep_freed_memory()  # as training and the command do
    net = Composed(ResNetTower(WIDTH), WordLSTM(WORDS + 1, WIDTH, dropout=0.0), TIRG())
    given = {key: jnp.asarray(value) for key, value in inputs(case).items()}
    mask = jnp.ones(given["tokens"].shape, bool)
    target, tokens = given["target"][:, None], given["tokens"][:, None]
    variables = jax.jit(net.init)(
        jax.random.key(0), given["source"][:1], target[:1], tokens[:1], mask[:1, None]
    )
    np.savez(folder / "g.npz", **stack_gates(weights.to_torch(variables, tirg_rules("tirg"))))

    @jax.jit
    def queries(variables):
        return net.apply(variables, given["source"], given["tokens"], mask, method=Composed.queries)

    @jax.jit
    def pictures(variables, x):
        return net.apply(variables, x, method=Composed.pictures)

    said = pictures(variables, given["source"]) if case.what == "index" else queries(variables)
    np.savez(folder / "said.npz", said=np.asarray(said))
    rule = optax.sgd(1e-4, momentum=0.9)

    def loss(params, stats):
        (q, t, scale), changed = net.apply(
            {"params": params, "batch_stats": stats},
            given["source"],
            target,
            tokens,
            mask[:, None],
            train=True,
            mutable=["batch_stats"],
        )
        return batch_classification(scaled(q, scale), scaled(t, scale)), changed["batch_stats"]

    @jax.jit
    def step(params, stats, opt):
        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats)
        updates, opt = rule.update(grads, opt)
        return optax.apply_updates(params, updates), stats, opt, value

    state = [variables["params"], variables["batch_stats"], rule.init(variables["params"])]

    def run():
        if case.what == "index":
            return np.asarray(pictures(variables, given["source"]))
        *state[:], value = step(*state)
        return float(value)

    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    common.serve(run, {"parameters": count})


def make_torch(folder: Path) -> Any:
    """google/tirg's networks with torchvision's ResNet-18, and jaxgen's weights."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, inside: int, channels: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(inside, channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.downsample = None
            if stride > 1:
                shortcut = nn.Conv2d(inside, channels, 1, stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

        def forward(self, x):
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(y + (x if self.downsample is None else self.downsample(x)))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            inside = 64
            for i, channels in enumerate((64, 128, 256, 512), start=1):
                first = Block(inside, channels, 1 if i == 1 else 2)
                setattr(self, f"layer{i}", nn.Sequential(first, Block(channels, channels, 1)))
                inside = channels
            self.fc = nn.Sequential(nn.Linear(512, WIDTH))

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding_layer = nn.Embedding(WORDS + 1, WIDTH)
            self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
            self.fc_output = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, WIDTH))

        def forward(self, tokens):
            return self.fc_output(self.lstm(self.embedding_layer(tokens))[0][:, -1])

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_s = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.norm_s * F.normalize(x)

    class TIRG(nn.Module):
        def __init__(self):
            super().__init__()
            self.img_model, self.text_model = ResNet(), Text()
            self.normalization_layer = Norm()
            self.a = nn.Parameter(torch.ones(4))
            double = 2 * WIDTH
            self.gated_feature_composer = nn.Sequential(
                nn.Identity(), nn.BatchNorm1d(double), nn.ReLU(), nn.Linear(double, WIDTH)
            )
            self.res_info_composer = nn.Sequential(
                nn.Identity(), nn.BatchNorm1d(double), nn.ReLU(), nn.Linear(double, double),
                nn.ReLU(), nn.Linear(double, WIDTH),
            )  # fmt: skip

        def forward(self, x, tokens):
            image = self.img_model(x)
            both = torch.cat([image, self.text_model(tokens)], 1)
            gate = torch.sigmoid(self.gated_feature_composer(both))
            return self.a[0] * gate * image + self.a[1] * self.res_info_composer(both)

    net = TIRG()
    with np.load(folder / "g.npz") as file:
        state = {key: torch.tensor(file[key]) for key in file}
    left = net.load_state_dict(state, strict=False)
    assert not left.unexpected_keys, left
    assert all(key.endswith("num_batches_tracked") for key in left.missing_keys), left
    return net.to(rivals.device())


def serve_torch(case: Case, folder: Path) -> None:
    """PyTorch's worker."""
    import torch
    from torch.nn import functional as F

    place = rivals.device()
    net = make_torch(folder)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    given = inputs(case)

    def picture(x):
        x = ((x + 1) / 2 - mean) / deviation
        return torch.tensor(x.transpose(0, 3, 1, 2).astype(np.float32), device=place)

    source, target = picture(given["source"]), picture(given["target"])
    tokens = torch.tensor(given["tokens"].astype(np.int64), device=place)
    with torch.inference_mode(), np.load(folder / "said.npz") as said:
        net.eval()
        found = net.img_model(source) if case.what == "index" else net(source, tokens)
        agree(found.cpu().numpy(), said["said"], "float32")
    rule = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    net.train(case.what == "train")

    @torch.inference_mode()
    def pictures():
        found = net.img_model(source)
        rivals.synchronize()
        return found.cpu().numpy()

    def step():
        norm = net.normalization_layer
        queries = norm(net(source, tokens))
        targets = norm(net.img_model(target))
        loss = F.cross_entropy(queries @ targets.T, torch.arange(len(queries), device=place))
        rule.zero_grad()
        loss.backward()
        rule.step()
        rivals.synchronize()
        return float(loss.detach())

    count = sum(p.numel() for p in net.parameters())
    common.serve(pictures if case.what == "index" else step, {"parameters": count})


# ------------------------------------------------------------------------------------------ query


def searches(rows: np.ndarray) -> dict[str, Callable[[np.ndarray], Any]]:
    """By name, what finds the nearest rows of a query; libraries that are missing are left out."""
    from jaxgen.verbs.retrieve.engines import Ann, Exact

    allowed = np.ones(len(rows), bool)
    exact = Exact(rows)
    wide = np.asarray(rows, np.float32)
    found: dict[str, Callable[[np.ndarray], Any]] = {
        "jaxgen": lambda q: exact.search(q, NEAREST, allowed),
        "numpy": lambda q: np.argsort(-(wide @ q))[:NEAREST],
    }
    if importlib.util.find_spec("faiss"):
        import faiss

        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(wide)
        found["faiss flat"] = lambda q: flat.search(q[None], NEAREST)
    if importlib.util.find_spec("usearch") and len(rows) <= 100_000:
        ann = Ann(rows)
        found["jaxgen, ann"] = lambda q: ann.search(q, NEAREST, allowed)
    return found


def time_queries(count: int, queries: int) -> dict[str, dict[str, float]]:
    """{name: {"p50", "p99"}} in seconds, of a memory-mapped matrix of clustered rows."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(256, WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.f16"
        with open(file, "wb") as out:
            for start in range(0, count, 10_000):
                size = min(10_000, count - start)
                part = centres[rng.integers(256, size=size)]
                part = part + rng.normal(size=part.shape).astype(np.float32)
                part /= np.linalg.norm(part, axis=1, keepdims=True)
                out.write(part.astype(np.float16).tobytes())
        rows = np.memmap(file, np.float16, "r", shape=(count, WIDTH))
        asked = np.asarray(rows[:: max(1, count // queries)][:queries], np.float32)
        times: dict[str, list[float]] = {}
        named = searches(rows)
        # One after the other, as they are used: threads of one library spin on after its answer.
        for name, search in named.items():
            search(asked[0])
            for query in asked:
                begun = time.perf_counter()
                search(query)
                times.setdefault(name, []).append(time.perf_counter() - begun)
    return {
        name: {"p50": float(np.median(one)), "p99": float(np.quantile(one, 0.99))}
        for name, one in times.items()
    }


# ------------------------------------------------------------------------------------------- main


def compared(case: Case, rounds: int) -> dict[str, Any]:
    """Times jaxgen and PyTorch in turn; see `benchmarks.common.compare`."""
    fields = json.dumps(dataclasses.asdict(case))
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "benchmarks.retrieval", "--case", fields, "--folder", folder]
        theirs = [Start(rivals.EAGER, "", [*command, "--worker", "torch"])]
        found = common.compare([*command, "--worker", "jax"], theirs, rounds)
    return {"case": dataclasses.asdict(case), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--only", choices=("train", "index", "query"))
    args = parser.parse_args()
    if args.worker:
        serve = serve_jax if args.worker == "jax" else serve_torch
        return serve(Case(**json.loads(args.case)), args.folder)
    report: dict[str, Any] = {"machine": common.machine(), "cases": [], "query": {}}
    if not common.on_gpu():
        common.keep_to_threads()
    side, rounds = (64, 3) if args.quick else (128, 9)
    rows = [["", "batch", "side", *common.head((rivals.EAGER,))]]
    for case in (Case("train", 16, side), Case("index", 64, side)):
        if args.only in (None, case.what) and rivals.EAGER in rivals.available():
            found = compared(case, rounds)
            report["cases"].append(found)
            cells = common.cells(found, (rivals.EAGER,))
            rows.append([case.what, str(case.batch), str(case.side), *cells])
    text = common.table(rows) if len(rows) > 1 else ""
    if args.only in (None, "query"):
        sizes = (10_000,) if args.quick else (10_000, 100_000, 1_000_000)
        lines = [["rows", "by", "p50", "p99"]]
        for count in sizes:
            report["query"][count] = time_queries(count, 20 if count > 100_000 else 100)
            for name, one in report["query"][count].items():
                lines.append(
                    [f"{count:,}", name, *(f"{1e3 * one[p]:.2f} ms" for p in ("p50", "p99"))]
                )
        text = f"{text}\n\n{common.table(lines)}".strip()
    print("\n" + text, flush=True)
    common.finish(report, args.json, text, args.into)


if __name__ == "__main__":
    main()
