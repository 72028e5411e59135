"""Which of this host's devices JAX shall use, said before JAX is imported."""

from __future__ import annotations

import os
import re
import sys

from jaxgen.errors import UserError

_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "rocm": "rocm", "tpu": "tpu"}
CHOICES = "cpu, gpu, gpu:NUMBER or tpu"


def choose(device: str) -> None:
    """Uses only these devices: "cpu", "gpu" (all of them), "gpu:1" (one of several), "tpu".

    Raises:
      UserError: another text.
    """
    found = re.fullmatch(r"([a-z]+)(?::(\d+))?", device.strip().lower())
    if not found or found[1] not in _PLATFORMS or (found[2] and found[1] in ("cpu", "tpu")):
        raise UserError(f"--device {device}: give {CHOICES}")
    if found[2]:
        for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
            os.environ[name] = found[2]
    os.environ["JAX_PLATFORMS"] = _PLATFORMS[found[1]]
    if "jax" in sys.modules:  # it read the variable when it was imported
        sys.modules["jax"].config.update("jax_platforms", _PLATFORMS[found[1]])
