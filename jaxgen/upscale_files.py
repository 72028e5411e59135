"""What `jaxgen upscale` does with files: which picture goes where, and each one's way there."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxgen.data.images import image_size, list_images, read_image_with_alpha, write_image
from jaxgen.errors import UserError
from jaxgen.run import Model

# Written by file name ending; and the largest side that the format can hold.
FORMATS = {".png": 2**31 - 1, ".jpg": 65535, ".jpeg": 65535, ".webp": 16383}
# After these every further picture would fail as well.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def plan_outputs(photos: list[Path], out: Path, format: str | None) -> list[tuple[Path, Path]]:
    """(source, target) of each picture; folders keep their tree below `out`.

    Raises:
      UserError: nothing there, OUT does not suit, or a target would replace a source.
    """
    found: list[tuple[Path, Path]] = []  # source, its path below OUT
    for photo in photos:
        files = list_images(photo)
        if not files:
            raise UserError(f"{photo}: no pictures in this folder")
        base = photo.expanduser()
        found += [(f, f.relative_to(base) if base.is_dir() else Path(f.name)) for f in files]
    found = list(dict.fromkeys(found))

    one_file = len(photos) == 1 and not photos[0].expanduser().is_dir()
    suffix = out.suffix.lower()
    if one_file and suffix and not out.is_dir():
        if suffix not in FORMATS:
            raise UserError(f"{out}: cannot write {suffix}; use .png, .jpg or .webp, or a folder")
        if format and suffix.replace("jpeg", "jpg") != f".{format}":
            raise UserError(f"--format {format} contradicts the name {out}; give one of the two")
        jobs = [(found[0][0], out)]
    else:
        if suffix in FORMATS and not out.is_dir():
            raise UserError(f"{out}: several pictures need a folder to write to")
        jobs = list(zip([f for f, _ in found], _targets(out, found, format), strict=True))
    sources = {f.resolve() for f, _ in jobs}
    for source, target in jobs:
        if target.resolve() in sources:
            raise UserError(
                f"{target} would replace an input picture ({source}): choose another OUT"
            )
    return jobs


def _targets(out: Path, found: list[tuple[Path, Path]], format: str | None) -> Iterator[Path]:
    """Below `out` the picture's name with the new ending; where two would meet, both in full."""
    ending = f".{format or 'png'}"
    short = [place.with_suffix(ending) for _, place in found]
    full = [place.with_name(place.name + ending) for _, place in found]
    count = Counter(short)
    chosen = [f if count[s] > 1 else s for s, f in zip(short, full, strict=True)]
    count = Counter(chosen)
    for (source, _), target in zip(found, chosen, strict=True):
        if count[target] > 1:
            raise UserError(f"two pictures would be written to {out / target}; one is {source}")
        yield out / target


def upscale_file(
    model: Model, source: Path, target: Path, tile: int | None, progress: Callable[[int, int], None]
) -> tuple[int, int]:
    """Reads, enlarges and writes one picture; returns (height, width) of the result.

    Raises:
      UserError: it can't be read, or the result can't be written.
    """
    # jax comes in here, after the mistakes that can be found without it.
    from jaxgen.upscale import upscale_alpha

    side = max(image_size(source)) * model.scale
    if side > FORMATS[target.suffix.lower()]:
        raise UserError(
            f"the result has a side of {side} pixels, too many for {target.suffix[1:]}; "
            "use --format png"
        )
    rgb, alpha, gray = read_image_with_alpha(source)
    picture = rgb[..., 0] if gray else rgb
    try:
        result = model.upscale(picture, tile=tile, progress=progress)
        if gray:
            result = np.repeat(result[..., None], 3, axis=2)
        if alpha is not None:
            alpha = upscale_alpha(alpha, model.scale)
    except MemoryError:
        raise UserError(f"{source}: the result does not fit in this machine's memory") from None
    write_image(target, result, alpha=alpha, gray=gray)
    return result.shape[0], result.shape[1]


def check_writable(folder: Path) -> None:
    """Before minutes of work: makes the folder, and a file in it for a moment.

    Raises:
      UserError: the folder can't be written.
    """
    probe = folder / f".jaxgen.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another folder"
        ) from None


def fatal(error: BaseException) -> bool:
    """True for a full or read-only disk, at which the pictures that follow would fail too."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FATAL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def naming(source: Path, error: Exception) -> str:
    """The error's text, with the picture's path in it."""
    return str(error) if str(source) in str(error) else f"{source}: {error}"
