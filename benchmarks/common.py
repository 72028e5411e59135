"""What the benchmarks share: workers of two frameworks timed in turn, the machine, tables, JSON."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def machine() -> dict[str, Any]:
    """CPU model, cores and versions of what is measured."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    versions = {}
    for package in ("jax", "jaxlib", "flax", "optax", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "python": platform.python_version(),
        "versions": versions,
        "load_at_start": load,
    }


class Worker:
    """A process that prepares one case, then times it whenever it is asked to.

    One process per case, so that thread pools and allocators of two frameworks do not meet; the
    others sleep while one works.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.facts: dict[str, Any] = self._read()
        self.walls: list[float] = []
        self.cpus: list[float] = []

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"worker ended with status {self.process.wait()}: {self.process.args}")

    def time(self) -> None:
        """One more repetition."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        times = self._read()
        self.walls.append(times["wall"])
        self.cpus.append(times["cpu"])

    def result(self) -> dict[str, Any]:
        """Median and least wall and CPU seconds of one repetition."""
        return {
            "median_s": statistics.median(self.walls),
            "min_s": min(self.walls),
            "cpu_s": statistics.median(self.cpus),
            **self.facts,
        }

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def serve(run: Callable[[], None], facts: Mapping[str, Any]) -> None:
    """The worker's side: says that it is ready, then times `run` for each line of standard input.

    `run` must not return before its result is there.
    """
    run()
    run()
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(times), flush=True)


def in_turn(workers: Mapping[str, Worker], rounds: int) -> dict[str, dict[str, Any]]:
    """Times A B C A B C ..., so that a busy machine slows all alike; closes the workers."""
    for _ in range(rounds):
        for worker in workers.values():
            worker.time()
    for worker in workers.values():
        worker.close()
    return {name: worker.result() for name, worker in workers.items()}


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def write_json(path: str | Path, report: Mapping[str, Any]) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


# ------------------------------------------------------------ one network, in both frameworks


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


def against_torch(
    ours: Sequence[str], theirs: Mapping[str, Sequence[str]], rounds: int, gpu: bool
) -> dict[str, Any]:
    """Times our worker and PyTorch's forms in turn; the ratios are to PyTorch's best.

    Args: commands of the workers; PyTorch's by memory layout, on a CPU also with sleeping threads.
    """
    workers = {"jaxgen": Worker(ours)}
    for layout, command in theirs.items():
        workers[layout] = Worker(command)
        if not gpu:
            workers[f"{layout}, passive"] = Worker(command, {"OMP_WAIT_POLICY": "passive"})
    results = in_turn(workers, rounds)
    mine = results.pop("jaxgen")
    best = min(results, key=lambda name: results[name]["median_s"])
    return {
        "jaxgen": mine,
        "torch": results,
        "torch_best": best,
        "ratio": mine["median_s"] / results[best]["median_s"],
        "ratio_of_min": mine["min_s"] / min(r["min_s"] for r in results.values()),
        "ratio_of_cpu_time": mine["cpu_s"] / min(r["cpu_s"] for r in results.values()),
    }


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


HEAD = ["network", "job", "dtype", "jaxgen", "torch", "ratio", "of least", "of CPU time", "of rate"]


def row(result: Mapping[str, Any]) -> list[str]:
    """One line under `HEAD` for what `compare` gave."""
    case, ours, best = result["case"], result["jaxgen"], result["torch_best"]
    pictures = f"{case['batch']} x {case['size']} to {case['scale'] * case['size']}"
    return [
        case["network"],
        f"{case['job']} {pictures}",
        case["dtype"],
        f"{1e3 * ours['median_s']:.0f} ms",
        f"{1e3 * result['torch'][best]['median_s']:.0f} ms ({best})",
        f"{result['ratio']:.2f}",
        f"{result['ratio_of_min']:.2f}",
        f"{result['ratio_of_cpu_time']:.2f}",
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


def on_gpu() -> bool:
    """Whether jax computes on a GPU; asked in a process of its own, which frees it again."""
    code = "import jax; print(jax.default_backend())"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer.stdout.split()[-1] == "gpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every comparison, and those by which it starts its workers."""
    parser.add_argument("--quick", action="store_true", help="float32 only, three rounds")
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--worker", choices=["jax", "torch", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--layout", help=argparse.SUPPRESS)


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
    from jaxgen import heap

    heap.keep_freed_memory()
    return serve_jax(jax_network(case.network, case.dtype), case)
