"""The golden arrays of latent diffusion, and their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np


def golden(fixtures_dir: Path, name: str) -> Any:
    """One file of the golden arrays."""
    return np.load(fixtures_dir / "diffusion" / f"{name}.npz")


def state_dict(file: Any) -> dict[str, np.ndarray]:
    """A file's weights, float32, under the keys of diffusers or transformers."""
    flat, tensors = file["sd:flat"], {}
    for key, shape, offset, scale in json.loads(str(file["sd:manifest"])):
        size = int(np.prod(shape))
        tensors[key] = flat[offset : offset + size].reshape(shape).astype(np.float32)
        tensors[key] *= np.float32(scale)
    return tensors


def nhwc(x: np.ndarray) -> np.ndarray:
    """(b, c, h, w) -> (b, h, w, c)."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def assert_near(ours: Any, theirs: np.ndarray, most: float = 1e-5) -> None:
    """To `most` of the array's largest value."""
    theirs = np.asarray(theirs)
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(np.asarray(ours) / scale, theirs / scale, atol=most, rtol=0)


def filled(variables: Any) -> Any:
    """Without the zeros that layers begin with."""
    rng = np.random.default_rng(5)
    return jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), variables)
