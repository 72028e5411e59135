"""Devices: the mesh, and where each array of the state and the batch lies on it.

Axes: `data` and `fsdp` split the batch; `fsdp` also splits large parameters (ZeRO-3 style);
`model` splits parameters by regex rules (tensor parallelism). The compiler inserts the
communication ("pjit" is `jax.jit` with shardings), so one step serves every topology, and sums
over the batch, BatchNorm's included, are over the global batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from jaxgen.errors import UserError

AXES = ("data", "fsdp", "model")
BATCH_AXES = ("data", "fsdp")


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all (or the given) devices with the sizes in `shape`; one of them may be -1.

    Linen needs Auto axes, and newer JAX defaults to Explicit: every mesh is made here.

    Raises:
      UserError: the sizes don't multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = [int(shape.get(axis, 1)) for axis in AXES]
    if sizes.count(-1) > 1 or any(s < 1 and s != -1 for s in sizes):
        raise UserError(
            f"mesh sizes must be positive, at most one -1: {dict(zip(AXES, sizes, strict=True))}"
        )
    fixed = math.prod(s for s in sizes if s != -1)
    if -1 in sizes and len(devices) % fixed == 0:
        sizes[sizes.index(-1)] = len(devices) // fixed
    if math.prod(sizes) != len(devices):
        raise UserError(
            f"mesh {dict(zip(AXES, sizes, strict=True))} does not fit {len(devices)} devices; "
            "set mesh.data, mesh.fsdp and mesh.model so that their product is that number"
        )
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its first dimension over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def check_batch(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """Refuses a global batch that the devices and micro-batches can't share equally."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % (ways * accumulate):
        raise UserError(
            f"train.batch_size={batch_size} is not divisible by {ways} devices of the mesh's data "
            f"and fsdp axes times train.accumulate={accumulate}; use a multiple of "
            f"{ways * accumulate}"
        )


def partition_spec(
    path: str, shape: tuple[int, ...], mesh: Mesh, settings: ConfigDict
) -> PartitionSpec:
    """Where one array of the state lies.

    The first regex of `settings.rules` found in `path` ("params/d/dense_0/kernel") decides; else
    arrays of `settings.fsdp_min_size` elements or more are cut over `fsdp` along their largest
    dimension that divides, the last such one where they tie; else it is replicated. Optimizer
    states and averages end in their parameter's path and have its shape, so they follow it.
    """
    for regex, axes in settings.rules:
        if not re.search(regex, path) or len(axes) != len(shape):
            continue
        for dimension, axis in zip(shape, axes, strict=True):
            if axis is not None and axis not in mesh.shape:
                raise UserError(f"mesh.rules {regex!r} names the axis {axis!r}; axes are {AXES}")
            if axis is not None and dimension % mesh.shape[axis]:
                raise UserError(
                    f"mesh.rules {regex!r} cuts {path} {shape} over {axis}={mesh.shape[axis]}, "
                    f"which does not divide {dimension}"
                )
        return PartitionSpec(*axes)
    ways = mesh.shape["fsdp"]
    if ways > 1 and math.prod(shape) >= settings.fsdp_min_size:
        candidates = [(size, i) for i, size in enumerate(shape) if size % ways == 0]
        if candidates:
            _, at = max(candidates)
            return PartitionSpec(*(["fsdp" if i == at else None for i in range(len(shape))]))
    return PartitionSpec()


def path_name(path: tuple[Any, ...]) -> str:
    """`params/g/conv/kernel` for a key path of `jax.tree_util`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def state_shardings(tree: Any, mesh: Mesh, settings: ConfigDict) -> Any:
    """The tree of NamedShardings for a tree of arrays or ShapeDtypeStructs."""

    def one(path, leaf):
        return NamedSharding(mesh, partition_spec(path_name(path), leaf.shape, mesh, settings))

    return jax.tree_util.tree_map_with_path(one, tree)


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's slice of the global batch -> global arrays."""
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }
