"""One network of both frameworks, trained or used: the workers that are timed, and the table."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals


@dataclasses.dataclass(frozen=True)
class Case:
    """One job of one network.

    job: "train" (a step with Adam) or "infer"; batch pictures of size x size are enlarged `scale`
    times. dtype: "float32" or "bfloat16". loss: "mse" or "l1". parameters: what both networks
    must have. `layouts`: PyTorch's memory layouts that are tried on a CPU.
    """

    network: str
    job: str
    batch: int
    size: int
    parameters: int
    dtype: str = "float32"
    loss: str = "mse"
    scale: int = 4
    layouts: tuple[str, ...] = rivals.LAYOUTS

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """Low-resolution input and its target: noise (b, h, w, 3) float32 in [-1, 1]."""
        rng = np.random.default_rng(0)
        sides = (self.size, self.scale * self.size)
        low, high = (rng.uniform(-1, 1, (self.batch, n, n, 3)).astype(np.float32) for n in sides)
        return low, high


# network: jaxgen's module, and the layout of the family by which its weights go to PyTorch.
NETWORKS = {
    "SRResNet": ("jaxgen.models.srgan.generator", "srgan", "SRResNet"),
    "RRDBNet": ("jaxgen.models.esrgan.rrdbnet", "esrgan", "Real-ESRGAN RRDBNet"),
    "SRVGGNetCompact": ("jaxgen.models.esrgan.srvgg", "esrgan", "Real-ESRGAN SRVGGNetCompact"),
    "SwiftGenerator": (
        "jaxgen.models.swift_srgan.generator", "swift_srgan", "Swift-SRGAN generator",
    ),
}  # fmt: skip
WEIGHTS, EXPECTED = "weights.npz", "expected.npy"
# Largest difference of what two networks give, as a share of the largest number.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


def serve_jax(case: Case, folder: Path) -> None:
    """The worker of jaxgen's network; leaves weights and results in `folder` for the rivals."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxgen import heap

    heap.keep_freed_memory()
    module = importlib.import_module(NETWORKS[case.network][0])
    net = getattr(module, case.network)(dtype=case.dtype)
    low, high = map(jax.device_put, case.pictures())
    variables = jax.jit(net.init)(jax.random.key(0), low[:1])
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert count == case.parameters, count
    np.savez(folder / WEIGHTS, **_to_torch(net, case.network, variables))
    facts = {"matmul_flops_per_s": _matmul_rate(case.dtype), "device": str(jax.devices()[0])}
    begin = time.perf_counter()

    if case.job == "train":
        optimizer = optax.adam(1e-4)
        params, mutable = variables["params"], {k: v for k, v in variables.items() if k != "params"}
        state = (params, mutable, optimizer.init(params))
        step = training_step(net, optimizer, case.loss)
        compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*state, low, high).compile()

        def run():
            nonlocal state
            *state, loss = jax.block_until_ready(compiled(*state, low, high))
            return loss
    else:
        compiled = jax.jit(net.apply).lower(variables, low).compile()

        def run():
            return compiled(variables, low).block_until_ready()

    facts["compile_s"] = time.perf_counter() - begin
    facts["temporary_bytes"] = compiled.memory_analysis().temp_size_in_bytes
    common.serve(run, facts, lambda results: np.save(folder / EXPECTED, jnp.stack(results)))


def training_step(net: Any, optimizer: Any, loss: str) -> Callable[..., tuple]:
    """(params, mutable, opt, low, high) -> (params, mutable, opt, loss) of one update."""
    import jax
    import jax.numpy as jnp
    import optax

    def step(params, mutable, opt, low, high):
        def measure(params):
            y, changed = net.apply(
                {"params": params, **mutable}, low, train=True, mutable=list(mutable)
            )
            error = jnp.abs(y - high) if loss == "l1" else (y - high) ** 2
            return jnp.mean(error), changed

        (value, changed), grads = jax.value_and_grad(measure, has_aux=True)(params)
        updates, opt = optimizer.update(grads, opt)
        return optax.apply_updates(params, updates), changed, opt, value

    return step


def _to_torch(net: Any, network: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The variables under PyTorch's names, by the family's own key map."""
    from jaxgen import weights

    _, family, name = NETWORKS[network]
    convert = importlib.import_module(f"jaxgen.models.{family}.convert")
    layout = next(layout for layout in convert.LAYOUTS if layout.name == name)
    sizes = {k: getattr(net, k) for k in ("scale", "blocks", "convs") if hasattr(net, k)}
    return weights.to_torch(variables, layout.rules(sizes))


def _matmul_rate(dtype: str) -> float:
    """Operations per second of a large matrix product."""
    import jax
    import jax.numpy as jnp

    n = 4096 if jax.default_backend() == "gpu" else 2048
    a = jnp.ones((n, n), dtype)
    matmul = jax.jit(lambda a: a @ a).lower(a).compile()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        matmul(a).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return 2 * n**3 / min(seconds)


def serve_rival(case: Case, form: rivals.Form, folder: Path) -> None:
    """The worker of a rival with the same weights; its results must be jaxgen's."""
    from benchmarks import torch_nets

    net = getattr(torch_nets, case.network)()
    count = sum(p.numel() for p in net.parameters())
    assert count == case.parameters, count
    torch_nets.load(net, folder / WEIGHTS)
    low, high = (np.ascontiguousarray(x.transpose(0, 3, 1, 2)) for x in case.pictures())
    facts = {"forward_flops": _flops(net, low)}
    if case.job == "train":
        run = rivals.training(form, net, low, high, case.dtype, case.loss)
        fetch = np.asarray
    else:
        run, fetched = rivals.inference(form, net, low, case.dtype, folder)
        fetch = lambda y: fetched(y).transpose(0, 2, 3, 1)  # noqa: E731

    def check(results: list[Any]) -> None:
        agree(np.stack([fetch(y) for y in results]), np.load(folder / EXPECTED), case.dtype)

    common.serve(run, facts, check)


def agree(theirs: np.ndarray, ours: np.ndarray, dtype: str) -> None:
    """Asserts that two frameworks gave the same: pictures, or the losses of the first steps."""
    assert theirs.shape == ours.shape, (theirs.shape, ours.shape)
    error = np.abs(theirs.astype(np.float32) - ours).max() / np.abs(ours).max()
    assert error <= TOLERANCE[dtype], f"the outputs differ by {error:.1e} of the largest"


def _flops(net: Any, x: np.ndarray) -> float:
    """Multiplications and additions of the network's convolutions for the batch `x`."""
    import torch

    total = 0.0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal total
        total += 2.0 * output.numel() * module.weight[0].numel()

    # Without running statistics: this pass must leave the network as it is.
    training = net.training
    net.eval()
    hooks = [
        module.register_forward_hook(count)
        for module in net.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    with torch.inference_mode():
        net(torch.tensor(x))
    for hook in hooks:
        hook.remove()
    net.train(training)
    return total


# --------------------------------------------------------------------------------- the comparison


def compare(
    module: str, case: Case, names: Sequence[str], rounds: int, gpu: bool
) -> dict[str, Any]:
    """Times jaxgen and all rivals that can do the case in turn."""
    forms = rivals.forms(
        names, train=case.job == "train", dtype=case.dtype, gpu=gpu, layouts=case.layouts
    )
    report = rivals.compare(module, case, forms, rounds)
    ours = report["jaxgen"]
    rival, form = report["best"]
    flops = report["rivals"][rival][form]["forward_flops"] * (3 if case.job == "train" else 1)
    rate = flops / ours["median_s"] / ours["matmul_flops_per_s"]
    return {**report, "fraction_of_matmul_rate": rate}


def row(result: Mapping[str, Any]) -> list[str]:
    """One line of the table for what `compare` gave."""
    case = result["case"]
    pictures = f"{case['batch']} x {case['size']} to {case['scale'] * case['size']}"
    return [
        case["network"],
        f"{case['job']} {pictures}",
        case["dtype"],
        *common.cells(result, rivals.NAMES),
        f"{result['fraction_of_matmul_rate']:.2f}",
    ]


def compare_all(
    module: str, cases: Sequence[Case], rounds: int, gpu: bool
) -> tuple[dict[str, Any], str]:
    """Compares case by case and prints the tables; returns the report and the whole table."""
    report: dict[str, Any] = {"machine": common.machine(), "cases": []}
    if (busy := common.load() or 0.0) > 0.5:
        print(f"warning: load average {busy:.1f}: the machine is busy", flush=True)
    names = rivals.available()
    if not gpu:
        common.keep_to_threads()
    rows = [["network", "job", "dtype", *common.head(rivals.NAMES), "of rate"]]
    for case in cases:
        report["cases"].append(compare(module, case, names, rounds, gpu))
        rows.append(row(report["cases"][-1]))
        print(common.table([rows[0], rows[-1]]), flush=True)
    text = common.table(rows)
    print("\n" + text, flush=True)
    return report, text


def run_worker(args: argparse.Namespace) -> None:
    """Serves the case on the command line."""
    fields = json.loads(args.case)
    case = Case(**{**fields, "layouts": tuple(fields["layouts"])})
    if args.worker == "jax":
        return serve_jax(case, args.folder)
    return serve_rival(case, rivals.Form.of(args.worker), args.folder)
