"""A decoded picture on its way through the network: what goes in, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from jaxgen.data.picture_files import Picture
from jaxgen.data.transparency import spread_colours
from jaxgen.verbs.upscale.use import Upscaler


def for_network(picture: Picture) -> np.ndarray:
    """(h, w, 3), or gray (h, w), of the picture's type, with no colour that transparency hides."""
    rgb = picture.rgb[..., :1] if picture.gray else picture.rgb
    if picture.alpha is not None:
        rgb = spread_colours(rgb, picture.alpha)
    return np.ascontiguousarray(rgb[..., 0]) if picture.gray else rgb


def finished(
    picture: Picture, result: np.ndarray, factor: int, scale: float | None = None
) -> Picture:
    """The network's result of a picture with its transparency, in the wanted size.

    Args:
      result: (s*h, s*w, 3), or gray (s*h, s*w). factor: s. scale: that is wanted; None: s.
    """
    # jax comes in here, after the mistakes that can be found without it.
    from jaxgen.verbs.upscale.tiling import upscale_alpha

    alpha = None if picture.alpha is None else upscale_alpha(picture.alpha, factor)
    if scale not in (None, factor):
        size = wanted_size(picture.rgb.shape, scale)
        result = resized(result, size)
        alpha = None if alpha is None else resized(alpha, size)
    if result.ndim == 2:
        result = np.repeat(result[..., None], 3, axis=2)
    return picture._replace(rgb=result, alpha=alpha)


def wanted_size(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """(height, width) of a picture of `shape` times `scale`, at least one pixel."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Lanczos' filter with three lobes, antialiased where it shrinks; uint8 or uint16."""
    how = Image.Resampling.LANCZOS
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size[::-1], how))
    planes = image.reshape(*image.shape[:2], -1).astype(np.float32)
    done = [
        np.asarray(Image.fromarray(np.ascontiguousarray(planes[..., i])).resize(size[::-1], how))
        for i in range(planes.shape[2])
    ]
    rounded = np.clip(np.floor(np.stack(done, -1) + 0.5), 0, 65535).astype(np.uint16)
    return rounded.reshape(*size, *image.shape[2:])


def enlarged(
    upscale: Upscaler,
    pictures: Iterable[Picture],
    *,
    tile: int | None = None,
    batch: int | None = None,
    scale: float | None = None,
    moved: Callable[[float], None] | None = None,
) -> Iterator[Picture]:
    """Pictures that follow each other (frames, pages), enlarged in their order.

    Neighbours of one size go through the network together where that pays.

    Args:
      tile, batch, scale: as for `jaxgen.verbs.upscale.files.upscale_files`.
      moved: called with the number of pictures done, fractions included.
    """
    group: list[Picture] = []
    done, at_once, per_device = 0, 1, 1

    def through() -> Iterator[Picture]:
        nonlocal done

        def part(windows: int, total: int) -> None:
            if moved:
                moved(done + len(group) * windows / total)

        images = [for_network(picture) for picture in group]
        if at_once == 1:
            results = [upscale(images[0], tile=tile, batch=per_device, progress=part)]
        else:  # one shape, one compilation: the last group is filled up
            images += images[-1:] * (at_once - len(images))
            results = upscale(images, tile=tile, batch=per_device, progress=part)
        done += len(group)
        for picture, result in zip(group, results, strict=False):
            yield finished(picture, result, upscale.scale, scale)

    def kind(picture: Picture) -> tuple:
        return picture.rgb.shape, picture.rgb.dtype, picture.gray

    for picture in pictures:
        if group and (len(group) == at_once or kind(picture) != kind(group[0])):
            yield from through()
            group = []
        if not group:
            size = picture.rgb.shape[0], picture.rgb.shape[1]
            at_once, per_device = upscale.frames_at_once(size, tile, batch)
        group.append(picture)
    if group:
        yield from through()
