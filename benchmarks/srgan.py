"""Paper SRResNet in jaxgen against the same network in PyTorch, and the time to the first step.

    python -m benchmarks.srgan [--quick] [--json benchmarks/results/srgan_cpu.json]

Training step: batch 16, 24x24 -> 96x96, mean squared error, Adam. Inference: one 128x128 picture
to 512x512. Each framework runs in its own process and they are timed in turn; the ratio is
jaxgen's median over that of PyTorch's best: either memory layout, its OpenMP threads spinning (the
default) or sleeping (OMP_WAIT_POLICY=passive) between their loops. On a GPU: bfloat16 against
torch.compile + autocast + channels-last.

Run it on a quiet machine: where other programs want the cores, spinning threads make PyTorch up to
four times slower, and a ratio measured then flatters jaxgen. The CPU-time ratio (to PyTorch's
least CPU time) suffers less. `of matmul rate` counts direct convolution's operations; Winograd
needs fewer, so it may pass 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Worker, in_turn, machine, serve, table, write_json

BATCH, CROP, PHOTO, SCALE = 16, 24, 128, 4
PARAMETERS = 1_550_659


def flops(job: str) -> float:
    """Multiplications and additions of the direct convolutions (a training step: three times)."""

    def conv(size: int, kernel: int, c: int, n: int) -> float:
        return 2.0 * size * size * kernel * kernel * c * n

    size = CROP if job == "train" else PHOTO
    forward = conv(size, 9, 3, 64) + 33 * conv(size, 3, 64, 64)
    forward += conv(size, 3, 64, 256) + conv(2 * size, 3, 64, 256) + conv(4 * size, 9, 64, 3)
    return 3 * BATCH * forward if job == "train" else forward


def jax_worker(job: str, dtype: str) -> None:
    """Serves one case of jaxgen's network."""
    from jaxgen import heap

    heap.keep_freed_memory()
    import jax
    import jax.numpy as jnp
    import optax

    from jaxgen.models.srgan.generator import SRResNet

    net = SRResNet(dtype=jnp.dtype(dtype))
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, CROP, CROP, 3)))
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert count == PARAMETERS, count
    n = 4096 if jax.default_backend() == "gpu" else 2048
    a = jnp.ones((n, n), dtype)
    matmul = jax.jit(lambda a: a @ a).lower(a).compile()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        matmul(a).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    rng = np.random.default_rng(0)

    if job == "train":
        optimizer = optax.adam(1e-4)
        low, high = (rng.random((BATCH, s, s, 3), np.float32) for s in (CROP, SCALE * CROP))

        def step(variables, opt, low, high):
            def loss(params):
                y, changed = net.apply(
                    {**variables, "params": params}, low, train=True, mutable=["batch_stats"]
                )
                return jnp.mean((y - high) ** 2), changed

            grads, changed = jax.grad(loss, has_aux=True)(variables["params"])
            updates, opt = optimizer.update(grads, opt)
            return {**changed, "params": optax.apply_updates(variables["params"], updates)}, opt

        state = (variables, optimizer.init(variables["params"]))
        low, high = jax.device_put((low, high))
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*state, low, high).compile()

        def run():
            nonlocal state
            state = jax.block_until_ready(compiled(*state, low, high))
    else:
        photo = jax.device_put(rng.random((1, PHOTO, PHOTO, 3), np.float32))
        compiled = jax.jit(net.apply).lower(variables, photo).compile()

        def run():
            compiled(variables, photo).block_until_ready()

    serve(run, {"matmul_flops_per_s": 2 * n**3 / min(seconds), "device": str(jax.devices()[0])})


def torch_network() -> Any:
    """The paper's SRResNet in PyTorch."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(64, 64, 3, 1, 1),
                nn.BatchNorm2d(64),
                nn.PReLU(64),
                nn.Conv2d(64, 64, 3, 1, 1),
                nn.BatchNorm2d(64),
            )

        def forward(self, x):
            return x + self.body(x)

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Conv2d(3, 64, 9, 1, 4), nn.PReLU(64))
            self.trunk = nn.Sequential(
                *(Block() for _ in range(16)), nn.Conv2d(64, 64, 3, 1, 1), nn.BatchNorm2d(64)
            )
            stages = []
            for _ in range(2):
                stages += [nn.Conv2d(64, 256, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(64)]
            self.tail = nn.Sequential(*stages, nn.Conv2d(64, 3, 9, 1, 4))

        def forward(self, x):
            x = self.head(x)
            return self.tail(x + self.trunk(x))

    return Generator()


def torch_worker(job: str, dtype: str, layout: str) -> None:
    """Serves one case of PyTorch's network."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory = getattr(torch, layout)
    net = torch_network().to(device, memory_format=memory)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS
    forward = torch.compile(net) if device == "cuda" else net
    precision = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def numbers(batch: int, size: int) -> Any:
        return torch.rand(batch, 3, size, size, device=device).to(memory_format=memory)

    if job == "train":
        optimizer = torch.optim.Adam(net.parameters(), 1e-4)
        low, high = numbers(BATCH, CROP), numbers(BATCH, SCALE * CROP)

        def run():
            optimizer.zero_grad()
            with precision:
                y = forward(low)
            torch.nn.functional.mse_loss(y.float(), high).backward()
            optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()
    else:
        net.eval()
        photo = numbers(1, PHOTO)

        def run():
            with torch.inference_mode(), precision:
                forward(photo)
            if device == "cuda":
                torch.cuda.synchronize()

    serve(run, {"layout": layout})


def compare(job: str, dtype: str, rounds: int, gpu: bool) -> dict[str, Any]:
    """Times jaxgen and PyTorch's layouts in turn; ratios to the better layout."""
    case = ["-m", "benchmarks.srgan", "--job", job, "--dtype", dtype]
    workers = {"jaxgen": Worker([*case, "--worker", "jax"])}
    for layout in ["channels_last"] if gpu else ["channels_last", "contiguous_format"]:
        command = [*case, "--worker", "torch", "--layout", layout]
        workers[layout] = Worker(command)
        if not gpu:
            workers[f"{layout}, passive"] = Worker(command, {"OMP_WAIT_POLICY": "passive"})
    results = in_turn(workers, rounds)
    ours = results.pop("jaxgen")
    best = min(results, key=lambda name: results[name]["median_s"])
    return {
        "job": job,
        "dtype": dtype,
        "jaxgen": ours,
        "torch": results,
        "torch_best": best,
        "ratio": ours["median_s"] / results[best]["median_s"],
        "ratio_of_min": ours["min_s"] / min(r["min_s"] for r in results.values()),
        "ratio_of_cpu_time": ours["cpu_s"] / min(r["cpu_s"] for r in results.values()),
        "fraction_of_matmul_rate": flops(job) / ours["median_s"] / ours["matmul_flops_per_s"],
    }


def first_step(config: str) -> dict[str, float]:
    """Seconds from the command to the log line of its first step, without and with compiled code.

    The data (the photos of the `tiny` and default configs) is prepared before, in both cases.
    """
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, cache: str) -> float:
            command = [
                sys.executable,
                "-m",
                "jaxgen.main",
                f"--config={config}",
                "--config.train.steps=1",
                "--config.train.log_every=1",
                f"--workdir={folder}/{name}",
            ]
            environment = {**os.environ, "JAXGEN_CACHE": cache}
            begin = time.perf_counter()
            with subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
            ) as process:
                assert process.stdout is not None
                lines, end = [], 0.0
                for line in process.stdout:
                    lines.append(line)
                    if "train step 1/1" in line:
                        end = time.perf_counter()
            if process.returncode or not end:
                raise RuntimeError("".join(lines[-5:]))
            return end - begin

        cache = Path(folder) / "cache"
        run("prepare", str(cache))
        for compiled in cache.glob("xla/*"):
            compiled.unlink()
        seconds["cold_s"] = run("cold", str(cache))
        seconds["warm_s"] = run("warm", str(cache))
    seconds["warm_over_cold"] = seconds["warm_s"] / seconds["cold_s"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="float32 only, three rounds")
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--first-step-config", default="configs/srgan.py", help="its own config")
    parser.add_argument("--worker", choices=["jax", "torch"], help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    parser.add_argument("--layout", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker == "jax":
        return jax_worker(args.job, args.dtype)
    if args.worker == "torch":
        return torch_worker(args.job, args.dtype, args.layout)

    backend = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"],
        capture_output=True,
        text=True,
        check=True,
    )
    gpu = backend.stdout.split()[-1] == "gpu"
    dtypes = ["bfloat16"] if gpu else ["float32"] if args.quick else ["float32", "bfloat16"]
    if os.getloadavg()[0] > 0.5:
        print(f"warning: load average {os.getloadavg()[0]:.1f}: the machine is busy", flush=True)
    report: dict[str, Any] = {"machine": machine(), "parameters": PARAMETERS, "cases": []}
    rows = [["job", "dtype", "jaxgen", "torch", "ratio", "CPU-time ratio", "of matmul rate"]]
    for dtype in dtypes:
        for job in ("train", "infer"):
            case = compare(job, dtype, 3 if args.quick else 11, gpu)
            report["cases"].append(case)
            ours, theirs = case["jaxgen"], case["torch"][case["torch_best"]]
            rows.append(
                [
                    job,
                    dtype,
                    f"{1e3 * ours['median_s']:.0f} ms",
                    f"{1e3 * theirs['median_s']:.0f} ms ({case['torch_best']})",
                    f"{case['ratio']:.2f}",
                    f"{case['ratio_of_cpu_time']:.2f}",
                    f"{case['fraction_of_matmul_rate']:.2f}",
                ]
            )
            print(table([rows[0], rows[-1]]), flush=True)
    report["first_step"] = first_step(args.first_step_config)
    print("\n" + table(rows) + "\n\nfirst step: " + json.dumps(report["first_step"]))
    report["machine"]["load_at_end"] = os.getloadavg()[0]
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
