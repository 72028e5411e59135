"""The `data` section of super-resolution configs: its keys with their defaults, and their check.

Where records come from: `sources`; what becomes of one: `examples`, `degrade` and `blind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxgen import keys
from jaxgen.errors import UserError
from jaxgen.keys import Key, Table, share, span, whole


def _order(
    blur: float,
    sigma: tuple[float, float],
    resize: tuple[float, float, float],
    factor: tuple[float, float],
    noise: tuple[float, float],
    poisson: tuple[float, float],
) -> Table:
    """One of the two degradations of `data.blind`, with its published values."""
    return {
        "blur": share(blur, "probability of any blur"),
        "sinc": share(0.1, "of a sinc kernel, else by `kernels`"),
        "kernels": _shares(
            (0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
            "Gaussian round, elongated; generalised round, elongated; plateau round, elongated",
        ),
        "sigma": span(sigma, "of the kernels, in pixels", least=1e-3),
        "beta_gaussian": span((0.5, 4.0), "shape of the generalised Gaussian", least=1e-3),
        "beta_plateau": span((1.0, 2.0), "shape of the plateau", least=1e-3),
        "resize": _shares(resize, "probabilities of enlarging, shrinking, neither"),
        "factor": span(factor, "of the resize, around 1; of the second, times LR", least=1e-3),
        "gaussian": share(0.5, "probability of Gaussian noise; Poisson noise otherwise"),
        "gray_noise": share(0.4, "of the same noise in all channels"),
        "noise": span(noise, "sigma of the Gaussian noise, in levels of 255", least=0),
        "poisson": span(poisson, "strength of the Poisson noise", least=0),
        "jpeg": span((30, 95), "quality", least=1, most=100),
    }


def _shares(default: tuple[float, ...], says: str) -> Key:
    return Key(default, says, each=Key(0.0, least=0, most=1), length=len(default))


# Probabilities and ranges as published for Real-ESRGAN.
BLIND: Table = {
    "usm": Key(True, 'LR is made of the sharpened HR, which examples carry as "hr_usm"'),
    "margin": whole(32, "HR pixels around a crop that are degraded with it", 0, most=4096),
    "kernel_sizes": span((7, 21), "of the blur and sinc kernels", least=1, most=999, odd=True),
    "final_sinc": share(0.8, "probability of the last sinc filter"),
    # Runs that began before these keys go on without them.
    "plain": share(
        0.0, "of examples that are resized as benchmarks do, in place of both rounds", needed=False
    ),
    "plain_noise": share(0.25, "of those, with the second round's noise", needed=False),
    "plain_jpeg": share(0.75, "of those, with the second round's JPEG", needed=False),
    "first": _order(
        1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1.0, 30.0), (0.05, 3.0)
    ),
    "second": _order(
        0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5)
    ),
}  # fmt: skip
KEYS: Table = {
    "source": Key(
        "photos", "where pictures come from", choices=("photos", "folder", "tfds", "df2k")
    ),
    "path": Key("", "folder: the pictures' folder, searched through"),
    "path_validation": Key("", 'folder, df2k: validation pictures; "": `holdout` of the others'),
    "name": Key("", "tfds: dataset, such as `div2k/bicubic_x4`"),
    "data_dir": Key("", 'tfds: where it was prepared; "": TFDS\'s own default'),
    "image_key": Key("", 'tfds: the feature that holds the picture; "": found by its type'),
    "div2k": Key("", "df2k: folder of DIV2K's HR pictures (or the one that holds DIV2K_*_HR)"),
    "flickr2k": Key("", "df2k: folder of Flickr2K's HR pictures"),
    "holdout": whole(8, "pictures kept for validation where a source has no such split", 0),
    "on_bad": Key(
        "skip",
        "unreadable or too small pictures: skip (with a warning), or an error",
        choices=("skip", "error"),
    ),
    "cache_mb": whole(512, "MB of decoded pictures kept in memory, per process", 0),
    "scale": whole(4, "of the enlargement", most=64),
    "hr_size": whole(96, "side of the HR examples; a multiple of scale", most=2**16),
    "crop": Key(
        "random",
        "random crop, or resize of the whole picture to hr_size",
        choices=("random", "resize"),
    ),
    "degradation": Key(
        "bicubic",
        "how LR is made; `bicubic` as MATLAB's",
        choices=("bicubic", "bilinear", "area", "blur", "blind"),
    ),
    "blur_sigma": span(
        (1.0, 1.0), "blur: range of sigma in HR pixels, drawn per example", above=0, most=1000
    ),
    "blind": BLIND,  # see `jaxgen.data.sr.blind`
    "flip": Key(True, "left-right, half of the examples"),
    "rescale": span(
        (1.0, 1.0),
        "random crop: photos shrunk first, by a factor from this range",
        above=0,
        most=1,
    ),
    "rotate": Key(True, "by 0, 90, 180 or 270 degrees, a quarter each"),
    "recolour": share(
        0.0, "of examples whose channels are exchanged: few photos have few colours", needed=False
    ),
    "workers": whole(0, "worker processes; 0: threads of this process only", 0, most=1024),
    "threads": whole(2, "reading threads per process", 0, most=1024),
}


def defaults() -> ConfigDict:
    """Every key of the `data` section with its default: the embedded photos, x4, 96x96 crops."""
    return keys.defaults(KEYS)


def check(data: ConfigDict) -> None:
    """Refuses unknown keys and impossible values of a `data` section.

    Raises:
      UserError: naming the key and what it may be.
    """
    keys.check(data, KEYS, "data", start="jaxgen.data.sr.section.defaults()")
    if data.hr_size % data.scale:
        raise UserError(
            f"data.hr_size={data.hr_size} must be a multiple of data.scale={data.scale}; "
            f"{data.hr_size // data.scale * data.scale or data.scale} would be"
        )
    for name in ("first", "second"):
        order = data.blind[name]
        for key in ("kernels", "resize"):
            _check_sum(f"data.blind.{name}.{key}", order[key])
        if not order.factor[0] <= 1 <= order.factor[1]:
            raise UserError(f"data.blind.{name}.factor={order.factor} must lie around 1")


def _check_sum(key: str, shares: Sequence[Any]) -> None:
    if abs(sum(shares) - 1) > 1e-6:
        raise UserError(f"{key}={shares}: give {len(shares)} probabilities with the sum 1")
