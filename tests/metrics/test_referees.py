"""FID in its three variants, KID and IS equal the programs that define them, from pictures on.

The numbers are what torch-fidelity 0.4.0, pytorch-fid 0.3.0 and clean-fid 0.1.35 (its resizing and
its distance, pytorch-fid's network between) gave for `pictures(0)` and `pictures(1)` as PNG,
with the weights of `inception.init_variables(0)`.
"""

import numpy as np
import pytest

from jaxgen import weights
from jaxgen.encoders import inception
from jaxgen.metrics import features, kid
from jaxgen.metrics.frechet import frechet_distance, frechet_of_moments
from jaxgen.metrics.inception_score import inception_score

FID = {"tf1": 29.76863182150187, "torch": 29.539346595304572, "clean": 26.54972825897667}
TOLERANCE = {"tf1": 3e-5, "torch": 1e-5, "clean": 1e-5}


def pictures(kind, count=8):
    """Patterns of integers, uint8 (48, 40, 3)."""
    y, x = np.mgrid[0:48, 0:40]
    return [
        np.stack(
            [
                x * (3 + kind + c)
                + y * (1 + i + 2 * c) * (1 + kind)
                + (x * y * (i + 1)) // (7 + c + kind)
                + 40 * i
                for c in range(3)
            ],
            axis=-1,
        ).astype(np.uint8)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """{variant: (generated, reference)}."""
    path = tmp_path_factory.mktemp("inception") / "random.safetensors"
    weights.write_safetensors(path, {inception.ARCH: inception.init_variables(0)})
    return {
        resize: tuple(
            features.measure(features.inception_net(path, resize), pictures(kind))
            for kind in range(2)
        )
        for resize in FID
    }


@pytest.mark.parametrize("resize", FID)
def test_frechet_inception_distance(measured, resize):
    a, b = (one.statistics for one in measured[resize])
    assert frechet_distance(a, b) == pytest.approx(FID[resize], rel=TOLERANCE[resize])
    assert 0 <= frechet_distance(a, a) < 1e-10


def test_stored_moments_say_the_same(measured):
    a, b = (one.statistics for one in measured["torch"])
    distance = frechet_of_moments(a.mean, a.covariance, b.mean, b.covariance)
    assert distance == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_kernel_inception_distance(measured):
    a, b = (one.statistics.features for one in measured["tf1"])
    mean, std = kid.kernel_distance_of_subsets(a, b, 10, 5)
    assert mean == pytest.approx(0.4520305633544922, rel=3e-5)
    assert std == pytest.approx(0.27795469552699326, rel=3e-5)
    a, b = (one.statistics.features for one in measured["clean"])
    assert kid.kernel_distance(a, b) == pytest.approx(0.3142077506660357, rel=3e-5)  # clean-fid's


def test_inception_score(measured):
    score, std = inception_score(measured["tf1"][0].logits, splits=2)
    assert score == pytest.approx(1.0038574113653698, rel=1e-8)
    assert std == pytest.approx(0.0023475399580686895, abs=1e-8)
