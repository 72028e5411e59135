"""The `data` section of super-resolution configs: its keys with their defaults, and their check.

Where records come from: `sources`; what becomes of one: `examples`, `degrade` and `blind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data.checks import check_choices, check_keys, check_least
from jaxgen.errors import UserError

_CHOICES = {
    "source": ("photos", "folder", "tfds", "df2k"),
    "crop": ("random", "resize"),
    "degradation": ("bicubic", "bilinear", "area", "blur", "blind"),
    "on_bad": ("skip", "error"),
}


def defaults() -> ConfigDict:
    """Every key of the `data` section with its default: the embedded photos, x4, 96x96 crops."""
    return ConfigDict(
        {
            "source": "photos",  # photos | folder | tfds | df2k
            "path": "",  # folder: the pictures' folder, searched through
            "path_validation": "",  # folder, df2k: validation pictures; "": `holdout` of the others
            "name": "",  # tfds: dataset, such as "div2k/bicubic_x4"
            "data_dir": "",  # tfds: where it was prepared; "": TFDS's own default
            "image_key": "",  # tfds: the feature that holds the picture; "": found by its type
            "div2k": "",  # df2k: folder of DIV2K's HR pictures (or the one that holds DIV2K_*_HR)
            "flickr2k": "",  # df2k: folder of Flickr2K's HR pictures
            "holdout": 8,  # pictures kept for validation where a source has no such split
            "on_bad": "skip",  # unreadable or too small pictures: skip (with a warning) | error
            "cache_mb": 512,  # decoded pictures kept in memory, per process
            "scale": 4,
            "hr_size": 96,  # side of the HR examples; a multiple of scale
            "crop": "random",  # random crop | resize of the whole picture to hr_size
            "degradation": "bicubic",  # bicubic (MATLAB) | bilinear | area | blur | blind
            "blur_sigma": (1.0, 1.0),  # blur: range of sigma in HR pixels, drawn per example
            "blind": blind_defaults(),  # blind: Real-ESRGAN's; see `jaxgen.data.sr.blind`
            "flip": True,  # left-right, half of the examples
            "rescale": (1.0, 1.0),  # random crop: photos shrunk first, by a factor from this range
            "rotate": True,  # by 0, 90, 180 or 270 degrees, a quarter each
            "workers": 0,  # worker processes; 0: threads of this process only
            "threads": 2,  # reading threads per process
        }
    )


def blind_defaults() -> ConfigDict:
    """The section `data.blind`: probabilities and ranges as published for Real-ESRGAN."""
    first: dict[str, Any] = {
        "blur": 1.0,  # probability of any blur
        "sinc": 0.1,  # of a sinc kernel, else by `kernels`:
        # Gaussian round, elongated; generalised round, elongated; plateau round, elongated
        "kernels": (0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        "sigma": (0.2, 3.0),  # of the kernels, in pixels
        "beta_gaussian": (0.5, 4.0),  # shape of the generalised Gaussian
        "beta_plateau": (1.0, 2.0),
        "resize": (0.2, 0.7, 0.1),  # probabilities of enlarging, shrinking, neither
        "factor": (0.15, 1.5),  # range of the resize
        "gaussian": 0.5,  # probability of Gaussian noise; Poisson noise otherwise
        "gray_noise": 0.4,  # of the same noise in all channels
        "noise": (1.0, 30.0),  # sigma of the Gaussian noise, in levels of 255
        "poisson": (0.05, 3.0),  # strength of the Poisson noise
        "jpeg": (30, 95),  # quality
    }
    second = first | {
        "blur": 0.8,
        "sigma": (0.2, 1.5),
        "resize": (0.3, 0.4, 0.3),
        "factor": (0.3, 1.2),  # times the LR size
        "noise": (1.0, 25.0),
        "poisson": (0.05, 2.5),
    }
    return ConfigDict(
        {
            "usm": True,  # LR is made of the sharpened HR, which examples carry as "hr_usm"
            "margin": 32,  # HR pixels around a crop that are degraded with it
            "kernel_sizes": (7, 21),  # of the blur and sinc kernels, odd
            "final_sinc": 0.8,  # probability of the last sinc filter
            "first": first,
            "second": second,
        }
    )


def check(data: ConfigDict) -> None:
    """Refuses unknown keys and impossible values of a `data` section.

    Raises:
      UserError: naming the key and what it may be.
    """
    check_keys(data, defaults(), "data", start="jaxgen.data.sr.section.defaults()")
    check_choices(data, _CHOICES)
    least = {"scale": 1, "hr_size": 1, "holdout": 0, "cache_mb": 0, "workers": 0, "threads": 0}
    check_least(data, least)
    low, high = data.rescale
    if not 0 < low <= high <= 1:
        raise UserError(f"data.rescale={data.rescale} must be a range (low, high) in (0, 1]")
    if data.hr_size % data.scale:
        raise UserError(
            f"data.hr_size={data.hr_size} must be a multiple of data.scale={data.scale}; "
            f"{data.hr_size // data.scale * data.scale or data.scale} would be"
        )
    low, high = data.blur_sigma
    if not 0 < low <= high:
        raise UserError(f"data.blur_sigma must be positive and rising, not {data.blur_sigma}")
    _check_blind(data.blind)


# Ranges of `data.blind.first` and `second`, with the least that each may hold.
_LEAST = {
    "sigma": 1e-3,
    "beta_gaussian": 1e-3,
    "beta_plateau": 1e-3,
    "factor": 1e-3,
    "noise": 0.0,
    "poisson": 0.0,
    "jpeg": 1,
}


def _check_blind(blind: ConfigDict) -> None:
    if blind.margin < 0:
        raise UserError(f"data.blind.margin can't be negative, but is {blind.margin}")
    low, high = blind.kernel_sizes
    if not (1 <= low <= high and low % 2 and high % 2):
        raise UserError(f"data.blind.kernel_sizes={blind.kernel_sizes}: give two rising odd sizes")
    _check_probability("final_sinc", blind.final_sinc)
    for name in ("first", "second"):
        order = blind[name]
        for key in ("blur", "sinc", "gaussian", "gray_noise"):
            _check_probability(f"{name}.{key}", order[key])
        for key, count in (("kernels", 6), ("resize", 3)):
            _check_shares(f"{name}.{key}", order[key], count)
        for key, least in _LEAST.items():
            low, high = order[key]
            if not least <= low <= high:
                raise UserError(
                    f"data.blind.{name}.{key}={order[key]}: give a rising range from {least:g} up"
                )
        if order.jpeg[1] > 100:
            raise UserError(f"data.blind.{name}.jpeg={order.jpeg}: qualities end at 100")
        if not order.factor[0] <= 1 <= order.factor[1]:
            raise UserError(f"data.blind.{name}.factor={order.factor} must lie around 1")


def _check_probability(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"data.blind.{key} is a probability, not {value}")


def _check_shares(key: str, shares: Sequence[float], count: int) -> None:
    if len(shares) != count or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(f"data.blind.{key}={shares}: give {count} probabilities with the sum 1")
