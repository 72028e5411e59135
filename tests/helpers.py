"""What several tests need: the smallest run, and everything that a checkpoint holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgen import config as configs
from jaxgen.train import loop
from jaxgen.train.checkpoint import FOLDER

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = f"{REPOSITORY}/configs/srgan.py:tiny"


# Adam divides by the root of the second moment: where a gradient is all rounding error, 1e-8 in
# the denominator lets that error move a weight by the whole learning rate (a bias before
# BatchNorm has a gradient of zero, but for rounding). Comparisons between
# topologies, which add in another order, take an epsilon above the rounding error.
STEADY_EPS = 1e-3
STEADY = {f"optimizer__{phase}__eps": STEADY_EPS for phase in ("pretrain", "g", "d")}


def tiny(**changes: Any):
    """configs/srgan.py:tiny with dotted keys changed; "__" stands for the dot. No evaluation."""
    changes = {"train__eval_every": -1, **changes}
    return configs.load(TINY, {key.replace("__", "."): value for key, value in changes.items()})


def run(config, workdir, devices: int = 1) -> loop.Result:
    """Trains on the first `devices` of the fake CPU devices."""
    return loop.train(config, workdir, devices=jax.devices()[:devices])


def checkpoint_arrays(workdir, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by item and path, optimizer states included."""
    arrays = {}
    folder = Path(workdir) / FOLDER / str(step)
    with ocp.PyTreeCheckpointer() as reader:
        for item in sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "meta"):
            meta = reader.metadata(item)
            tree = getattr(getattr(meta, "item_metadata", meta), "tree", meta)
            kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            found = reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=kinds))
            for path, leaf in jax.tree_util.tree_leaves_with_path(found):
                name = jax.tree_util.keystr(path, simple=True, separator="/")
                arrays[f"{item.name}/{name}"] = np.asarray(leaf)
    assert any(key.startswith("opt/") for key in arrays)
    return arrays


def assert_bitwise(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """Same names, and every array equal to the last bit."""
    assert a.keys() == b.keys()
    different = [k for k in a if a[k].tobytes() != b[k].tobytes()]
    assert not different


def assert_close(a: dict[str, np.ndarray], b: dict[str, np.ndarray], tolerance: float) -> None:
    """Same names, and every array equal up to `tolerance` of its largest value or of one."""
    assert a.keys() == b.keys()
    for key in a:
        scale = max(1.0, float(np.abs(a[key]).max()))
        np.testing.assert_allclose(a[key] / scale, b[key] / scale, atol=tolerance, err_msg=key)


def command(*args: str, devices: int = 1, **environment: str) -> subprocess.CompletedProcess:
    """Runs `python -m ARGS` as a user would, in the repository."""
    return subprocess.run(
        [sys.executable, "-m", *args],
        cwd=REPOSITORY,
        env=process_environment(devices, **environment),
        capture_output=True,
        text=True,
        timeout=300,
    )


def process_environment(devices: int = 1, **changes: str) -> dict[str, str]:
    """The environment of a child process with its own number of fake devices."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
        "--xla_backend_optimization_level=1",
        "PYTHONPATH": str(REPOSITORY),
        **changes,
    }
