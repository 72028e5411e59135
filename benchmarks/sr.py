"""RRDBNet, SRVGGNetCompact and Swift-SRGAN's generator against their rivals, and RRDBNet's memory.

    python -m benchmarks.sr [--quick] [--full] [--json benchmarks/results/sr_cpu.json]

Inference: one 128x128 picture to 512x512. Training step: 32x32 -> 128x128 (Swift: 24x24 -> 96x96),
Adam, RRDBNet with L1. The batch is 16, on a CPU 4 for RRDBNet, whose step with 16 takes 10 s and
more there; `--full` adds that case. Which rivals, how it is timed and what the ratios are:
`benchmarks.srgan`. On a CPU RRDBNet meets PyTorch's channels-last form only, to save time.

Memory of RRDBNet's training step with batch 16, as the compiled programs state it: temporary
memory with all activations kept, and with each RRDB's computed again (`model.remat`); bytes of the
state (parameters and Adam's two averages) per device where it is cut over 1 and 8 (`mesh.fsdp`).
`--quick` leaves the first out: the whole network is compiled twice for it. `--only "rrdbnet infer"`
runs a part.
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

    step = networks.training_step(net, optimizer, "l1")
    state = (params, {}, jax.eval_shape(optimizer.init, params))
    begin = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*state, low, high).compile()
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
    parser.add_argument(
        "--only", help='"memory", or part of "NETWORK JOB", such as "rrdbnet infer"'
    )
    args = parser.parse_args()
    if args.into and args.only:
        parser.error("--into takes the whole table: leave out --only")
    if args.worker == "memory":
        name, _, value = args.case.rstrip(")").partition("(")
        answer = {"state_memory": state_memory, "step_memory": step_memory}[name](json.loads(value))
        return print(json.dumps(answer))
    if args.worker:
        return networks.run_worker(args)
    gpu = common.on_gpu()
    only = (args.only or "").lower()
    cases = [case for case in CASES if only in f"{case.network} {case.job}".lower()]
    if not gpu:
        heavy = (CASES[0],) if args.full else ()
        small = [
            dataclasses.replace(case, batch=CPU_BATCH) if case == CASES[0] else case
            for case in cases
        ]
        cases = [*small, *(case for case in heavy if case in cases)]
    dtype = "bfloat16" if gpu else "float32"
    cases = [dataclasses.replace(case, dtype=dtype) for case in cases]
    report: dict[str, Any] = {"machine": common.machine()}
    text = ""
    if cases:
        report, text = networks.compare_all("benchmarks.sr", cases, 3 if args.quick else 11, gpu)
    if only in "memory":
        report["memory"] = memory(only_state=args.quick)
    common.finish(report, args.json, text, args.into)


if __name__ == "__main__":
    main()
