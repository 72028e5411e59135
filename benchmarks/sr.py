"""RRDBNet, SRVGGNetCompact and Swift-SRGAN's generator against PyTorch, and RRDBNet's memory.

    python -m benchmarks.sr [--quick] [--full] [--json benchmarks/results/sr_cpu.json]

Inference: one 128x128 picture to 512x512. Training step: 32x32 -> 128x128 (Swift: 24x24 -> 96x96),
Adam, RRDBNet with L1. The batch is 16, on a CPU 4 for RRDBNet, whose step with 16 takes 10 s and
more there; `--full` adds that case. How it is timed and what the ratios are: `benchmarks.srgan`.
On a CPU RRDBNet meets PyTorch's channels-last form only, to save time.

Memory of RRDBNet's training step with batch 16, as the compiled programs state it: temporary
memory with all activations kept, and with each RRDB's computed again (`model.remat`); bytes of the
state (parameters and Adam's two averages) per device where it is cut over 1 and 8 (`mesh.fsdp`).
`--quick` leaves the first out: the whole network is compiled twice for it. `--only NAME` runs a
part.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks import common, networks
from benchmarks.networks import Case

RRDB, SRVGG, SWIFT = 16_697_987, 621_424, 201_209
CHANNELS_LAST = ("channels_last",)
CASES = [
    Case("RRDBNet", "train", 16, 32, RRDB, loss="l1", layouts=CHANNELS_LAST),
    Case("RRDBNet", "infer", 1, 128, RRDB, layouts=CHANNELS_LAST),
    Case("SRVGGNetCompact", "train", 16, 32, SRVGG, loss="l1"),
    Case("SRVGGNetCompact", "infer", 1, 128, SRVGG),
    Case("SwiftGenerator", "train", 16, 24, SWIFT),
    Case("SwiftGenerator", "infer", 1, 128, SWIFT),
]
CPU_BATCH = 4  # of RRDBNet's training step, unless --full


def jax_network(name: str, dtype: str) -> Any:
    """jaxgen's network."""
    from jaxgen.models.esrgan.rrdbnet import RRDBNet
    from jaxgen.models.esrgan.srvgg import SRVGGNetCompact
    from jaxgen.models.swift_srgan.generator import SwiftGenerator

    networks = {net.__name__: net for net in (RRDBNet, SRVGGNetCompact, SwiftGenerator)}
    return networks[name](dtype=dtype)


def torch_network(name: str) -> Any:
    """The same network in PyTorch, written for this benchmark."""
    return {
        "RRDBNet": torch_rrdbnet,
        "SRVGGNetCompact": torch_srvgg,
        "SwiftGenerator": torch_swift,
    }[name]()


def torch_rrdbnet() -> Any:
    import torch
    from torch import nn
    from torch.nn.functional import interpolate

    def conv(c: int, n: int) -> Any:
        return nn.Conv2d(c, n, 3, 1, 1)

    class DenseBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(conv(64 + 32 * i, 32) for i in range(4))
            self.last = conv(192, 64)
            self.act = nn.LeakyReLU(0.2, inplace=True)

        def forward(self, x):
            seen = [x]
            for layer in self.convs:
                seen.append(self.act(layer(torch.cat(seen, 1))))
            return x + 0.2 * self.last(torch.cat(seen, 1))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(DenseBlock(), DenseBlock(), DenseBlock())

        def forward(self, x):
            return x + 0.2 * self.body(x)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = conv(3, 64)
            self.body = nn.Sequential(*(Residual() for _ in range(23)), conv(64, 64))
            self.ups = nn.ModuleList([conv(64, 64), conv(64, 64)])
            self.hr, self.last = conv(64, 64), conv(64, 3)
            self.act = nn.LeakyReLU(0.2, inplace=True)

        def forward(self, x):
            x = self.first(x)
            x = x + self.body(x)
            for up in self.ups:
                x = self.act(up(interpolate(x, scale_factor=2, mode="nearest")))
            return self.last(self.act(self.hr(x)))

    return Network()


def torch_srvgg() -> Any:
    from torch import nn
    from torch.nn.functional import interpolate

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[Any] = [nn.Conv2d(3, 64, 3, 1, 1), nn.PReLU(64)]
            for _ in range(16):
                layers += [nn.Conv2d(64, 64, 3, 1, 1), nn.PReLU(64)]
            self.body = nn.Sequential(*layers, nn.Conv2d(64, 48, 3, 1, 1), nn.PixelShuffle(4))

        def forward(self, x):
            return self.body(x) + interpolate(x, scale_factor=4, mode="nearest")

    return Network()


def torch_swift() -> Any:
    from torch import nn

    def separable(c: int, n: int, kernel: int, bias: bool) -> list[Any]:
        deep = nn.Conv2d(c, c, kernel, 1, kernel // 2, groups=c, bias=bias)
        return [deep, nn.Conv2d(c, n, 1, bias=bias)]

    def normed() -> list[Any]:
        return [*separable(64, 64, 3, bias=False), nn.BatchNorm2d(64)]

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*normed(), nn.PReLU(64), *normed())
            self.unused = nn.PReLU(64)  # the original has it and never applies it

        def forward(self, x):
            return x + self.body(x)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(*separable(3, 64, 9, bias=True), nn.PReLU(64))
            self.trunk = nn.Sequential(*(Residual() for _ in range(16)), *normed())
            self.unused = nn.PReLU(64)
            ups: list[Any] = []
            for _ in range(2):
                ups += [*separable(64, 256, 3, bias=True), nn.PixelShuffle(2), nn.PReLU(64)]
            self.ups = nn.Sequential(*ups)
            self.last = nn.Sequential(*separable(64, 3, 9, bias=True), nn.Tanh())

        def forward(self, x):
            x = self.first(x)
            return (self.last(self.ups(x + self.trunk(x))) + 1) / 2

    return Network()


# ---------------------------------------------------------------------------------------- memory


def step_memory(remat: bool) -> dict[str, Any]:
    """Compiles RRDBNet's training step with batch 16; memory beside state and batch."""
    import jax
    import jax.numpy as jnp
    import optax

    from jaxgen.models.esrgan.rrdbnet import RRDBNet

    net, optimizer = RRDBNet(remat=remat), optax.adam(1e-4)
    low = jax.ShapeDtypeStruct((16, 32, 32, 3), jnp.float32)
    high = jax.ShapeDtypeStruct((16, 128, 128, 3), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), low)["params"]

    def step(params, opt, low, high):
        def loss(params):
            return jnp.mean(jnp.abs(net.apply({"params": params}, low) - high))

        updates, opt = optimizer.update(jax.grad(loss)(params), opt)
        return optax.apply_updates(params, updates), opt

    begin = time.perf_counter()
    state = (params, jax.eval_shape(optimizer.init, params))
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*state, low, high).compile()
    return {
        "remat": remat,
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "compile_s": time.perf_counter() - begin,
    }


def state_memory(min_size: int) -> dict[str, Any]:
    """Lays RRDBNet's parameters and Adam's averages on all devices; bytes on each."""
    import jax
    import jax.numpy as jnp
    import optax
    from ml_collections import ConfigDict

    from jaxgen.models.esrgan.rrdbnet import RRDBNet
    from jaxgen.train import mesh as meshes

    devices = jax.devices()
    low = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(RRDBNet().init, jax.random.key(0), low)["params"]
    state = {"params": params, "opt": jax.eval_shape(optax.adam(1e-4).init, params)}
    settings = ConfigDict({"rules": (), "fsdp_min_size": min_size})
    shardings = meshes.state_shardings(
        state, meshes.make_mesh({"fsdp": len(devices)}, devices), settings
    )
    arrays = jax.tree.map(
        lambda x, sharding: jax.device_put(np.zeros(x.shape, x.dtype), sharding), state, shardings
    )
    used = dict.fromkeys(devices, 0)
    for array in jax.tree.leaves(arrays):
        for shard in array.addressable_shards:
            used[shard.device] += shard.data.nbytes
    return {
        "fsdp": len(devices),
        "fsdp_min_size": min_size,
        "state_bytes_per_device": max(used.values()),
    }


def memory(only_state: bool) -> dict[str, list[dict[str, Any]]]:
    """Both measurements, each in a process of its own, on CPU devices; prints their tables."""

    def ask(question: str, devices: int) -> dict[str, Any]:
        flags = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        )
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "benchmarks.sr", "--worker", "memory", "--case", question]
        answer = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return json.loads(answer.stdout.splitlines()[-1])

    report: dict[str, list[dict[str, Any]]] = {"state": [], "step": []}
    rows = [["devices", "mesh.fsdp_min_size", "state per device"]]
    for devices, min_size in ((1, 2**18), (8, 2**18), (8, 2**14)):
        facts = ask(f"state_memory({min_size})", devices)
        report["state"].append(facts)
        rows.append(
            [str(devices), str(min_size), f"{facts['state_bytes_per_device'] / 2**20:.0f} MiB"]
        )
    print("\n" + common.table(rows), flush=True)
    if only_state:
        return report
    rows = [["remat", "temporary memory", "compiled in"]]
    for remat in (False, True):
        facts = ask(f"step_memory({json.dumps(remat)})", 1)
        report["step"].append(facts)
        rows.append(
            [
                str(remat),
                f"{facts['temporary_bytes'] / 2**20:.0f} MiB",
                f"{facts['compile_s']:.0f} s",
            ]
        )
    print("\n" + common.table(rows), flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--full", action="store_true", help="RRDBNet's step with batch 16 on a CPU")
    parser.add_argument("--only", help='"memory", or part of a network\'s name')
    args = parser.parse_args()
    if args.worker == "memory":
        name, _, value = args.case.rstrip(")").partition("(")
        answer = {"state_memory": state_memory, "step_memory": step_memory}[name](json.loads(value))
        return print(json.dumps(answer))
    if args.worker:
        return networks.run_worker(args, jax_network, torch_network)
    gpu = common.on_gpu()
    only = (args.only or "").lower()
    cases = [case for case in CASES if only in case.network.lower()]
    if not gpu:
        heavy = (CASES[0],) if args.full else ()
        small = [
            dataclasses.replace(case, batch=CPU_BATCH) if case == CASES[0] else case
            for case in cases
        ]
        cases = [*small, *(case for case in heavy if case in cases)]
    dtype = "bfloat16" if gpu else "float32"
    cases = [dataclasses.replace(case, dtype=dtype) for case in cases]
    report: dict[str, Any] = {}
    if cases:
        report = networks.compare_all("benchmarks.sr", cases, 3 if args.quick else 11, gpu)
    if only in "memory":
        report["memory"] = memory(only_state=args.quick)
    if args.json:
        common.write_json(args.json, report)


if __name__ == "__main__":
    main()
