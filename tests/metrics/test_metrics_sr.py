"""PSNR and SSIM reproduce published tables and agree with scikit-image."""

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from jaxgen.data.resize import imresize, to_uint8
from jaxgen.data.sr.examples import folder_pairs
from jaxgen.errors import UserError
from jaxgen.metrics.psnr_ssim import psnr, rgb_to_y, sr_metrics, ssim


def _mean(rows):
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def test_rdn_outputs_score_as_published(data_dir):
    golden = data_dir / "sr" / "golden"
    rows = []
    for path in sorted((golden / "HR_x4").glob("*.png")):
        sr = golden / "RDN_x4" / path.name.replace("HR_x4", "RDN_x4")
        rows.append(sr_metrics(np.array(Image.open(sr)), np.array(Image.open(path)), 4))
    assert len(rows) == 5
    mean = _mean(rows)
    assert mean["psnr_y"] == pytest.approx(32.469, abs=1e-3)
    assert mean["ssim_y"] == pytest.approx(0.8990, abs=1e-4)
    assert mean["psnr_rgb"] < mean["psnr_y"] - 1.5  # RGB reads about 2 dB lower


def _bicubic(folder, gray):
    rows = []
    for _, lr, hr in folder_pairs(folder, 4, gray):
        rows.append(sr_metrics(to_uint8(imresize(lr, 4, mode="float")), hr, 4, gray))
    return _mean(rows)


@pytest.mark.parametrize(
    ("name", "gray", "decibel", "similarity"),
    [
        ("Set5", "keep", 28.43, 0.8113),
        ("Set14", "keep", 25.995, 0.7030),
        ("Set14", "replicate", 26.090, 0.7049),
    ],
)
def test_bicubic_scores_as_published(data_dir, name, gray, decibel, similarity):
    mean = _bicubic(data_dir / "sr" / name / "x4" / "HR", gray)
    assert mean["psnr_y"] == pytest.approx(decibel, abs=2e-3)
    assert mean["ssim_y"] == pytest.approx(similarity, abs=2e-4)


@pytest.mark.slow
def test_bicubic_scores_as_published_on_bsd100(data_dir):
    mean = _bicubic(data_dir / "sr" / "BSD100" / "x4" / "HR", "keep")
    assert mean["psnr_y"] == pytest.approx(25.96, abs=5e-3)
    assert mean["ssim_y"] == pytest.approx(0.6682, abs=2e-4)


def test_psnr_by_hand():
    a = np.zeros((4, 4, 3), np.uint8)
    b = np.full_like(a, 5)
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / 25))
    assert psnr(a, a) == float("inf")
    # uint8 arithmetic must not wrap: 0 - 255 is -255.
    assert psnr(a, np.full_like(a, 255)) == pytest.approx(0.0)


def test_luma_of_known_colours():
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [10, 20, 30]], np.uint8)
    expected = [16.0, 235.0, 16 + 65.481, 16 + (654.81 + 2571.06 + 748.98) / 255]
    np.testing.assert_allclose(rgb_to_y(colours), expected, atol=1e-10)


@pytest.mark.parametrize("shape", [(11, 11), (40, 57), (64, 33, 3)])
def test_ssim_agrees_with_scikit_image(shape):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, shape, dtype=np.uint8)
    b = np.clip(a + rng.normal(0, 25, shape), 0, 255).astype(np.uint8)
    expected = structural_similarity(
        a,
        b,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert ssim(a, b) == pytest.approx(expected, abs=1e-7)
    assert ssim(a, a) == pytest.approx(1.0)


def test_shaved_border_does_not_count():
    rng = np.random.default_rng(1)
    hr = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    sr = hr.copy()
    sr[:4], sr[-4:], sr[:, :4], sr[:, -4:] = 0, 0, 0, 0
    assert sr_metrics(sr, hr, 4)["psnr_rgb"] == float("inf")
    assert sr_metrics(sr, hr, 3)["psnr_rgb"] < 30


def test_gray_original_is_measured_by_the_named_rule():
    rng = np.random.default_rng(2)
    hr = rng.integers(0, 256, (40, 40), dtype=np.uint8)
    sr = np.clip(hr + rng.normal(0, 5, hr.shape), 0, 255).astype(np.uint8)
    sr3 = np.repeat(sr[..., None], 3, axis=2)
    kept = sr_metrics(sr3, hr, 4, "keep")
    assert kept["psnr_y"] == pytest.approx(psnr(sr[4:-4, 4:-4], hr[4:-4, 4:-4]))
    assert kept["psnr_y"] == pytest.approx(kept["psnr_rgb"])
    replicated = sr_metrics(sr3, hr, 4, "replicate")
    assert replicated["psnr_y"] - kept["psnr_y"] == pytest.approx(20 * np.log10(255 / 219))
    # An RGB original whose channels are equal is RGB, as in the published Set14 mean.
    rgb = sr_metrics(sr3, np.repeat(hr[..., None], 3, axis=2), 4, "keep")
    assert rgb["psnr_y"] == pytest.approx(replicated["psnr_y"])


def test_unusable_input_is_refused():
    a = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(UserError, match="differ in shape"):
        sr_metrics(a, a[:16], 4)
    with pytest.raises(UserError, match="11x11"):
        sr_metrics(a, a, 5)
    with pytest.raises(UserError, match="uint8"):
        sr_metrics(a.astype(np.float32), a, 0)
    with pytest.raises(UserError, match="gray"):
        sr_metrics(a, a, 0, "drop")
    with pytest.raises(UserError, match="11x11"):
        ssim(a[:10], a[:10])
