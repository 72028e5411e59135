"""Super-resolution measured: the same numbers from a run's evaluation, Python and the table."""

import numpy as np
import pytest

from jaxgen.data.resize import imresize
from jaxgen.data.sr.examples import folder_pairs
from jaxgen.errors import UserError
from jaxgen.evaluation import sr
from jaxgen.metrics.psnr_ssim import sr_metrics


def pairs(count=2, gray=False):
    rng = np.random.default_rng(0)
    for i in range(count):
        high = imresize(rng.integers(0, 256, (14, 18, 3), dtype=np.uint8), scale=4)
        yield f"{i}.png", imresize(high, scale=0.25), high[..., 0] if gray else high


def nearest(low):
    return low.repeat(4, axis=0).repeat(4, axis=1)


def test_any_function_is_measured_as_a_run_is():
    found = sr.measure(nearest, pairs())
    metrics = sr.evaluate_sr(nearest, pairs()).metrics
    for kind, prefix in (("model", ""), ("bicubic", "bicubic_")):
        assert found.mean[kind] == pytest.approx(
            {key: metrics[prefix + key] for key in found.mean[kind]}, rel=1e-12
        )
    for (name, low, high), image in zip(pairs(), found.images, strict=True):
        assert image["name"] == name
        assert image["model"] == sr_metrics(nearest(low), high, 4)
    assert found.mean["bicubic"]["psnr_y"] > found.mean["model"]["psnr_y"]
    assert list(found.measures) == ["psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"]
    assert "model" not in sr.measure(None, pairs()).mean


def test_shave_and_gray_are_those_of_the_metrics():
    for gray in ("keep", "replicate"):
        found = sr.measure(nearest, pairs(1, gray=True), {"blur": ()}, shave=2, gray=gray)
        _, low, high = next(pairs(1, gray=True))
        values = dict(found.images[0]["model"])
        assert 0 < values.pop("blur") < 1
        assert values == sr_metrics(nearest(low), high, 2, gray)
        assert found.mean["original"].keys() == {"blur"}


def test_mistakes_name_the_picture(tmp_path):
    with pytest.raises(UserError, match="no pictures to measure"):
        sr.measure(nearest, [])
    with pytest.raises(UserError, match=r"0.png: the pictures differ in shape"):
        sr.measure(lambda low: low, pairs())
    with pytest.raises(UserError, match=r"a.png: an original of 18x14 is no multiple of .* 72x56"):
        sr.measure(nearest, (("a.png", high, low) for _, low, high in pairs()))
    with pytest.raises(UserError, match=r"no measure 'vmaf'; there are psnr_y, .*, blur"):
        sr.measure(nearest, folder_pairs(tmp_path / "absent", 4), {"vmaf": ()})
