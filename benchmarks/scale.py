"""What Stable Diffusion's UNet needs of each device on a mesh, by the compiled step's own account.

    python -m benchmarks.scale [--mesh 1,8,1 ...] [--batch 8] [--size 512] [--channels 320,640,...]

A training step (noise as the target, AdamW, an average, bfloat16 with recomputed blocks, latents
and the texts' features given) is compiled for eight CPU devices from shapes alone; nothing of the
gigabytes is made. "state" is parameters, moments and average of one device, "scratch" what the
step needs beside them while it runs; a GPU's or TPU's compiler fuses more and needs less. First of
all the parameters are counted, and the work per picture by XLA's account of one pass.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from typing import Any

DEVICES = 8
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + f" --xla_force_host_platform_device_count={DEVICES}"
    # The program is never run.
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

from benchmarks import common  # noqa: E402

WORDS, CONTEXT = 77, 768  # CLIP ViT-L/14's
GIBI, TERA = 2**30, 1e12
# Tensor parallelism of the transformers: columns of what comes first, rows of what follows it.
RULES = (
    (r"(to_q|to_k|to_v|ff_in)/kernel", ("fsdp", "model")),
    (r"(to_out|ff_out)/kernel", ("model", "fsdp")),
)
HEAD = ["mesh: data, fsdp, model", "parameters a device", "state, GiB", "scratch, GiB", "compiled"]


def make_step(net: Any, optimizer: Any) -> Any:
    """(state, batch) -> state: one update of the net and of its average."""
    import jax
    import jax.numpy as jnp
    import optax

    def loss(params: Any, batch: Any) -> jax.Array:
        drawn = net.apply(
            {"params": params}, batch["x"], batch["t"], batch["context"], batch["mask"], train=True
        )
        return jnp.mean((drawn - batch["noise"]) ** 2)

    def step(state: Any, batch: Any) -> Any:
        gradient = jax.grad(loss)(state["params"]["g"], batch)
        updates, opt = optimizer.update(gradient, state["opt"]["g"], state["params"]["g"])
        params = optax.apply_updates(state["params"]["g"], updates)
        ema = optax.incremental_update(params, state["ema"]["g"], 1e-4)
        return {"params": {"g": params}, "opt": {"g": opt}, "ema": {"g": ema}}

    return step


def shapes(net: Any, optimizer: Any, batch: int, side: int) -> tuple[Any, Any]:
    """(state, batch) as shapes."""
    import jax
    import jax.numpy as jnp

    array = jax.ShapeDtypeStruct
    one = {
        "x": array((batch, side, side, 4), jnp.float32),
        "t": array((batch,), jnp.float32),
        "context": array((batch, WORDS, CONTEXT), jnp.float32),
        "mask": array((batch, WORDS), jnp.bool_),
        "noise": array((batch, side, side, 4), jnp.float32),
    }
    made = jax.eval_shape(
        functools.partial(net.init, jax.random.key(0)),
        *(one[key] for key in ("x", "t", "context", "mask")),
    )["params"]
    opt = jax.eval_shape(optimizer.init, made)
    return {"params": {"g": made}, "opt": {"g": opt}, "ema": {"g": made}}, one


def placed(tree: Any, shardings: Any) -> Any:
    """The shapes with where they lie."""
    import jax

    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree, shardings
    )


def a_device(tree: Any, shardings: Any) -> int:
    """Bytes of one device."""
    import math

    import jax

    parts = jax.tree.map(
        lambda x, where: math.prod(where.shard_shape(x.shape)) * x.dtype.itemsize, tree, shardings
    )
    return sum(jax.tree.leaves(parts))


def row(net: Any, optimizer: Any, mesh: tuple[int, ...], batch: int, side: int) -> list[str]:
    """One line of the table; compiles the step for the mesh."""
    import jax

    from jaxgen import config as configs
    from jaxgen.train import mesh as meshes

    settings = configs.base("ldm").mesh
    settings.rules = RULES
    made = meshes.make_mesh(dict(zip(meshes.AXES, mesh, strict=True)))
    state, given = shapes(net, optimizer, batch, side)
    where = meshes.state_shardings(state, made, settings)
    over = jax.tree.map(lambda _: meshes.batch_sharding(made), given)
    began = time.perf_counter()
    step = jax.jit(make_step(net, optimizer), out_shardings=where, donate_argnums=0)
    compiled = step.lower(placed(state, where), placed(given, over)).compile()
    took = time.perf_counter() - began
    memory = compiled.memory_analysis()
    parameters = a_device(state["params"], where["params"]) // 4
    return [
        ", ".join(map(str, mesh)), f"{parameters:,}", f"{a_device(state, where) / GIBI:.2f}",
        f"{memory.temp_size_in_bytes / GIBI:.2f}", f"{took:.0f} s",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mesh", nargs="*", default=["8,1,1", "1,8,1", "1,4,2"])
    parser.add_argument("--batch", type=int, default=DEVICES, help="of all devices")
    parser.add_argument("--size", type=int, default=512, help="of the pictures, 8 times a latent's")
    parser.add_argument("--channels", default="320,640,1280,1280")
    given = parser.parse_args()
    channels = tuple(map(int, given.channels.split(",")))

    import jax
    import jax.numpy as jnp
    import optax

    from jaxgen.models.ldm.unet import UNet

    jax.config.update("jax_platforms", "cpu")
    net = UNet(channels=channels, context=CONTEXT, remat=True, dtype=jnp.bfloat16)
    optimizer = optax.adamw(1e-4)
    state, one = shapes(net, optimizer, 1, given.size // 8)
    count = sum(x.size for x in jax.tree.leaves(state["params"]))
    work = jax.jit(net.apply).lower(
        {"params": state["params"]["g"]}, *(one[key] for key in ("x", "t", "context", "mask"))
    )
    flops = work.cost_analysis()["flops"]
    print(f"{count:,} parameters; a pass {flops / TERA:.3f} TFLOP a picture, a step thrice that")
    rows = []
    for mesh in given.mesh:
        sizes = tuple(map(int, mesh.split(",")))
        rows.append(row(net, optimizer, sizes, given.batch, given.size // 8))
        print(rows[-1], flush=True)
    print(common.table([HEAD, *rows]))


if __name__ == "__main__":
    main()
