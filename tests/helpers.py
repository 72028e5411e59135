"""What several tests need: the smallest run, a checkpoint's arrays, pictures, launch scripts."""

from __future__ import annotations

import atexit
import functools
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging
from ml_collections import ConfigDict
from PIL import Image

from jaxgen import config as configs
from jaxgen.data.captioned import section
from jaxgen.train import loop
from jaxgen.weights.places import CHECKPOINTS

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = f"{REPOSITORY}/configs/srgan.py:tiny"
SCRIPTS = REPOSITORY / "tpu_scripts"


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


def applied(net, variables, *arrays, **settings):
    """`net.apply` in one program: its operations one by one take many times longer to compile."""
    return jax.jit(lambda variables, *a: net.apply(variables, *a, **settings))(variables, *arrays)


def run(config, workdir, devices: int = 1) -> loop.Result:
    """Trains on the first `devices` of the fake CPU devices."""
    return loop.train(config, workdir, devices=jax.devices()[:devices])


def checkpoint_arrays(workdir, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by item and path, optimizer states included."""
    arrays = {}
    folder = Path(workdir) / CHECKPOINTS / str(step)
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


def float64():
    """The context in which JAX computes in float64. Before jax 0.8 it was experimental."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


def in_float64(f, *args):
    """What `f` returns for arguments in float64, as NumPy arrays."""
    with float64():
        return jax.tree.map(np.asarray, jax.jit(f)(*(np.asarray(a, np.float64) for a in args)))


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
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "PYTHONPATH": str(REPOSITORY),
        **changes,
    }


def run_code(code: str) -> subprocess.CompletedProcess:
    """Runs Python code in a process of its own, and keeps what it says."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def start_two_hosts(
    arguments: list[str], logs: Path, devices: int = 1, **environment: str
) -> list[subprocess.Popen]:
    """Starts `python ARGUMENTS` as two processes of one cluster, which say what they do in
    `logs/log0` and `logs/log1`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for index in range(2):
        own = process_environment(
            devices,
            JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
            **environment,
        )
        with open(logs / f"log{index}", "w") as log:
            command = [sys.executable, *arguments]
            processes.append(
                subprocess.Popen(command, cwd=REPOSITORY, env=own, stdout=log, stderr=log)
            )
    return processes


def two_hosts(arguments: list[str], logs: Path, devices: int = 1, **environment: str) -> list[str]:
    """Runs `python ARGUMENTS` as two processes of one cluster; returns what each said."""
    processes = start_two_hosts(arguments, logs, devices, **environment)
    codes = [process.wait(timeout=300) for process in processes]
    said = [(logs / f"log{index}").read_text() for index in range(2)]
    assert codes == [0, 0], "\n".join(text[-2000:] for text in said)
    return said


def noise(height=40, width=60, seed=0) -> np.ndarray:
    """A uint8 picture of random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def warnings(monkeypatch):
    """Texts of the warnings that were logged."""
    texts = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: texts.append(text % args))
    return texts


DAMAGES = ("empty", "text", "header", "short", "flipped")


def damaged(kind) -> bytes:
    """A picture's file that cannot be read, in a way of `DAMAGES`."""
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, format="JPEG" if kind == "short" else "PNG")
    body = bytearray(buffer.getvalue())
    if kind == "empty":
        return b""
    if kind == "text":
        return b"not a picture at all"
    if kind == "header":
        return bytes(body[:20])
    if kind == "short":
        return bytes(body[: len(body) // 2])
    body[len(body) // 2] ^= 0xFF  # one flipped byte in the compressed data
    return bytes(body)


def conv_tensors(seed=0) -> dict[str, np.ndarray]:
    """A small convolution's random weights, as PyTorch names and shapes them."""
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.standard_normal(4).astype(np.float32),
    }


def captioned_settings(source="folder", **changes) -> ConfigDict:
    """Captioned data of 8 pixels, none held out, changed as told."""
    data = section.defaults()
    data.update({"source": source, "size": 8, "holdout": 0.0, **changes})
    return data


def said(caplog) -> str:
    """The warnings that were logged, in one text."""
    return " | ".join(r.getMessage() for r in caplog.records if r.levelname == "WARNING")


# What the scripts may call besides cloud tools. Their PATH holds nothing else, so that no test can
# reach a real gcloud, kubectl or srun of the machine it runs on.
TOOLS = (
    "awk", "bash", "cat", "chmod", "cp", "date", "dirname", "env", "git", "grep", "mkdir", "mktemp",
    "nohup", "rm", "seq", "sh", "sleep", "tail", "tar", "tr",
)  # fmt: skip


@functools.cache
def _plain_path() -> str:
    folder = tempfile.mkdtemp(prefix="jaxgen-tools-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"this machine has no {tool}"
        os.symlink(found, os.path.join(folder, tool))
    return folder


def script_environment(
    extra: dict[str, str] | None = None, tools: Path | None = None
) -> dict[str, str]:
    """This process's environment without a cloud: `tools` is searched before the plain tools."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("TPU_", "SLURM_", "JAX_"))}
    path = _plain_path() if tools is None else f"{tools}:{_plain_path()}"
    return bare | (extra or {}) | {"PATH": path}


def run_script(
    script: str, *args: str, env: dict[str, str] | None = None, tools: Path | None = None
) -> subprocess.CompletedProcess:
    """Runs a launch script without a cloud, but for what is in `tools`."""
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *args],
        env=script_environment(env, tools),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
