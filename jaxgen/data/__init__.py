"""Data: sources of pictures, degradations and the Grain pipeline. Host side, NumPy, no TensorFlow.

`defaults()` is the `data` section of every config, and `check` refuses impossible values in one.
The work is in `sources` (where records come from), `sr` (examples of LR and HR), `pipeline`
(shuffled, sharded, resumable batches), `degrade` and `resize` (the pictures' arithmetic).
"""

from __future__ import annotations

import difflib

from ml_collections import ConfigDict

from jaxgen.errors import UserError

_CHOICES = {
    "source": ("photos", "folder", "tfds", "df2k"),
    "crop": ("random", "resize"),
    "degradation": ("bicubic", "bilinear", "area", "blur"),
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
            "degradation": "bicubic",  # bicubic (MATLAB) | bilinear | area | blur (then bicubic)
            "blur_sigma": (1.0, 1.0),  # blur: range of sigma in HR pixels, drawn per example
            "flip": True,  # left-right, half of the examples
            "rescale": (1.0, 1.0),  # random crop: photos shrunk first, by a factor from this range
            "rotate": True,  # by 0, 90, 180 or 270 degrees, a quarter each
            "workers": 0,  # worker processes; 0: threads of this process only
            "threads": 2,  # reading threads per process
        }
    )


def check(data: ConfigDict) -> None:
    """Refuses unknown keys and impossible values of a `data` section.

    Raises:
      UserError: naming the key and what it may be.
    """
    known = defaults()
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"unknown config key data.{key}{hint}")
    for key in known:
        if key not in data:
            raise UserError(f"config key data.{key} is missing; start from jaxgen.data.defaults()")
    for key, choices in _CHOICES.items():
        if data[key] not in choices:
            raise UserError(f"data.{key} must be one of {', '.join(choices)}, not {data[key]!r}")
    for key, least in (("scale", 1), ("hr_size", 1), ("holdout", 0), ("cache_mb", 0)):
        if data[key] < least:
            raise UserError(f"data.{key} must be at least {least}, not {data[key]}")
    low, high = data.rescale
    if not 0 < low <= high <= 1:
        raise UserError(f"data.rescale={data.rescale} must be a range (low, high) in (0, 1]")
    for key in ("workers", "threads"):
        if data[key] < 0:
            raise UserError(f"data.{key} can't be negative, but is {data[key]}")
    if data.hr_size % data.scale:
        raise UserError(
            f"data.hr_size={data.hr_size} must be a multiple of data.scale={data.scale}; "
            f"{data.hr_size // data.scale * data.scale or data.scale} would be"
        )
    low, high = data.blur_sigma
    if not 0 < low <= high:
        raise UserError(f"data.blur_sigma must be positive and rising, not {data.blur_sigma}")
