"""One network of both frameworks, trained or used: the workers that are timed, and the table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.common import RATIOS, against_torch, machine, ratios, serve, table


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
    layouts: tuple[str, ...] = ("channels_last", "contiguous_format")

    def arguments(self, worker: str, layout: str = "") -> list[str]:
        """Command line of a worker, which `run_worker` reads."""
        case = json.dumps(dataclasses.asdict(self))
        return ["--worker", worker, "--case", case, "--layout", layout]


def serve_jax(net: Any, case: Case) -> None:
    """The worker of jaxgen's network: serves `case`."""
    import jax
    import jax.numpy as jnp
    import optax

    low_shape = (case.batch, case.size, case.size, 3)
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, *low_shape[1:])))
    params, mutable = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    count = sum(x.size for x in jax.tree.leaves(params))
    assert count == case.parameters, count
    rng = np.random.default_rng(0)
    low = jax.device_put(rng.random(low_shape, np.float32))
    facts = {"matmul_flops_per_s": _matmul_rate(case.dtype), "device": str(jax.devices()[0])}
    begin = time.perf_counter()

    if case.job == "train":
        optimizer = optax.adam(1e-4)
        side = case.scale * case.size
        high = jax.device_put(rng.random((case.batch, side, side, 3), np.float32))

        def step(params, mutable, opt, low, high):
            def loss(params):
                y, changed = net.apply(
                    {"params": params, **mutable}, low, train=True, mutable=list(mutable)
                )
                error = jnp.abs(y - high) if case.loss == "l1" else (y - high) ** 2
                return jnp.mean(error), changed

            grads, changed = jax.grad(loss, has_aux=True)(params)
            updates, opt = optimizer.update(grads, opt)
            return optax.apply_updates(params, updates), changed, opt

        state = (params, mutable, optimizer.init(params))
        compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*state, low, high).compile()

        def run():
            nonlocal state
            state = jax.block_until_ready(compiled(*state, low, high))
    else:
        compiled = jax.jit(net.apply).lower(variables, low).compile()

        def run():
            compiled(variables, low).block_until_ready()

    facts["compile_s"] = time.perf_counter() - begin
    facts["temporary_bytes"] = compiled.memory_analysis().temp_size_in_bytes
    serve(run, facts)


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


def serve_torch(net: Any, case: Case, layout: str) -> None:
    """The worker of PyTorch's network: serves `case` in one memory layout."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = getattr(torch, layout)
    net = net.to(device, memory_format=memory)
    count = sum(p.numel() for p in net.parameters())
    assert count == case.parameters, count

    def numbers(size: int) -> Any:
        shape = (case.batch, 3, size, size)
        return torch.rand(*shape, device=device).to(memory_format=memory)

    low = numbers(case.size)
    facts = {"layout": layout, "forward_flops": _flops(net, low)}
    forward = torch.compile(net) if device == "cuda" else net
    precision = torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16")

    if case.job == "train":
        optimizer = torch.optim.Adam(net.parameters(), 1e-4)
        high = numbers(case.scale * case.size)
        functional = torch.nn.functional
        loss = functional.l1_loss if case.loss == "l1" else functional.mse_loss

        def run():
            optimizer.zero_grad()
            with precision:
                y = forward(low)
            loss(y.float(), high).backward()
            optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
    else:
        net.eval()

        def run():
            with torch.inference_mode(), precision:
                forward(low)
            if device == "cuda":
                torch.cuda.synchronize()

    serve(run, facts)


def _flops(net: Any, x: Any) -> float:
    """Multiplications and additions of the network's convolutions for the batch `x`."""
    import torch

    total = 0.0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal total
        total += 2.0 * output.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in net.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    with torch.inference_mode():
        net(x)
    for hook in hooks:
        hook.remove()
    return total


def compare(module: str, case: Case, rounds: int, gpu: bool) -> dict[str, Any]:
    """Times jaxgen and PyTorch's forms in turn; the ratios are to PyTorch's best."""
    start = ["-m", module]
    report = against_torch(
        [*start, *case.arguments("jax")],
        {
            layout: [*start, *case.arguments("torch", layout)]
            for layout in (["channels_last"] if gpu else case.layouts)
        },
        rounds,
        gpu,
    )
    ours = report["jaxgen"]
    flops = report["torch"][report["torch_best"]]["forward_flops"]
    flops *= 3 if case.job == "train" else 1
    return {
        "case": dataclasses.asdict(case),
        **report,
        "fraction_of_matmul_rate": flops / ours["median_s"] / ours["matmul_flops_per_s"],
    }


HEAD = ["network", "job", "dtype", *RATIOS, "of rate"]


def row(result: Mapping[str, Any]) -> list[str]:
    """One line under `HEAD` for what `compare` gave."""
    case = result["case"]
    pictures = f"{case['batch']} x {case['size']} to {case['scale'] * case['size']}"
    return [
        case["network"],
        f"{case['job']} {pictures}",
        case["dtype"],
        *ratios(result),
        f"{result['fraction_of_matmul_rate']:.2f}",
    ]


def compare_all(module: str, cases: Sequence[Case], rounds: int, gpu: bool) -> dict[str, Any]:
    """Compares case by case and prints the tables; returns the report."""
    if os.getloadavg()[0] > 0.5:
        print(f"warning: load average {os.getloadavg()[0]:.1f}: the machine is busy", flush=True)
    report: dict[str, Any] = {"machine": machine(), "cases": []}
    rows = [HEAD]
    for case in cases:
        report["cases"].append(compare(module, case, rounds, gpu))
        rows.append(row(report["cases"][-1]))
        print(table([HEAD, rows[-1]]), flush=True)
    print("\n" + table(rows), flush=True)
    report["machine"]["load_at_end"] = os.getloadavg()[0]
    return report


def run_worker(
    args: argparse.Namespace,
    jax_network: Callable[[str, str], Any],
    torch_network: Callable[[str], Any],
) -> None:
    """Serves the case on the command line; the networks come by their name (and dtype)."""
    fields = json.loads(args.case)
    case = Case(**{**fields, "layouts": tuple(fields["layouts"])})
    if args.worker == "torch":
        return serve_torch(torch_network(case.network), case, args.layout)
    from jaxgen.train import heap

    heap.keep_freed_memory()
    return serve_jax(jax_network(case.network, case.dtype), case)
