"""The structure distance, against PIE-Bench's steps in PyTorch."""

import numpy as np
import pytest
from helpers import noise
from support.dino_weights import random_dino

from jaxgen.encoders import dino
from jaxgen.metrics.structure import picture_distance

SIDE = 32


@pytest.fixture(scope="module")
def params():
    return dino.from_torch(random_dino(64, 2, 8, SIDE))


def reference(torch, params, pictures, published):
    """By the steps that the code of the benchmark takes, with our ViT, whose parity is a test."""
    f = torch.nn.functional
    tables = []
    for picture in pictures:
        x = torch.from_numpy(picture.astype(np.float32).transpose(2, 0, 1))[None]
        x = f.interpolate(
            x if published else x / 255, (SIDE, SIDE), mode="bilinear", antialias=not published
        )
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x - mean[:, None, None]) / std[:, None, None]
        keys = dino.features(params, x.numpy().transpose(0, 2, 3, 1))["keys"][0]
        keys = torch.from_numpy(np.array(keys))
        length = keys.norm(dim=1, keepdim=True)
        tables.append((keys @ keys.T) / torch.clamp(length @ length.T, min=1e-8))
    return float(f.mse_loss(*tables))


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (77, 60)])
def test_it_is_pytorchs(params, published, size):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    pictures = [noise(*size, seed=seed) for seed in (1, 2)]
    found = picture_distance(params, published)(*pictures)
    assert found == pytest.approx(reference(torch, params, pictures, published), rel=1e-5)
    assert found > 0


def test_equal_pictures_have_none(params):
    distance, picture = picture_distance(params), noise(40, 40)
    assert distance(picture, picture) == 0
    # The layout counts: the same pixels elsewhere are another structure.
    assert distance(picture, np.ascontiguousarray(picture[::-1])) > 0
    one, other = noise(40, 40, seed=1), noise(40, 40, seed=2)
    assert distance(one, other) == pytest.approx(distance(other, one), rel=1e-6)
