"""Random weights of DINO's ViT, named as DINO names them, of any size."""

import numpy as np

from jaxgen import weights
from jaxgen.encoders import dino


def random_dino(width=64, depth=2, patch=8, side=32, seed=0):
    """A state dict whose attention is far from even."""
    rng = np.random.default_rng(seed)
    flat = {
        path: rng.normal(float(path.endswith("scale")), 0.15, leaf.shape).astype(np.float32)
        for path, leaf in weights.flatten(dino.expected_params(width, depth, patch, side)).items()
    }
    return weights.to_torch(flat, dino.torch_rules())
