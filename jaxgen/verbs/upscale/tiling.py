"""Upscaling pictures of any size in bounded memory: exact tiling on the host.

The picture stays on the host. Windows of one static shape go to the devices in batches, and of
each result only the part that no cut can have changed is written to the output. A window that
would reach over the picture's border is moved inside instead of padded. So the network sees a
border where the whole picture has one, and nowhere else, and tiled equals whole.

A CPU computes several windows at the same time, each in a thread: XLA leaves cores idle in a single
one. They share the memory, and which thread has which window changes no bit.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import jax
import numpy as np

from jaxgen import devices
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError
from jaxgen.task import Nets, PyTree
from jaxgen.verbs.memory import LIVE, check_batch
from jaxgen.verbs.upscale.contract import Upscale
from jaxgen.verbs.upscale.windows import Span, fitting_window, round_up, spans

# Frames per accelerator at a time: more fill it no better, and delay the first result.
MOST_FRAMES = 8
# Of results waiting on the host to be written.
HOST_BUDGET = 1 << 30
DTYPES = (np.uint8, np.uint16)

Progress = Callable[[int, int], None]


def upscale_image(
    verb: Upscale,
    nets: Nets,
    image: np.ndarray,
    given: PyTree = None,
    tile: int | None = None,
    batch: int = 1,
    progress: Progress | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Upscales one picture of 8 or 16 bits, (h, w, 3) or gray (h, w), to one of the same kind.

    Args:
      verb: the model's `upscale`.
      nets: variables of the nets `verb.nets`.
      image: uint8 or uint16. A gray picture is given to the net as equal channels and comes back
        as luma.
      given: what `verb.give` made of a prompt and options; None: nothing was asked for.
      tile: side, in low-resolution pixels, of what one window contributes; None: whole pictures
        as long as they fit in memory, else the largest windows that do.
      batch: windows per device at a time.
      progress: called as progress(windows done, windows in all), by this thread.
      out: where to write, e.g. a `numpy.memmap`; of the picture's type and the output's shape.

    Raises:
      UserError: the array is no such picture, `tile` is below 1 or needs more memory than there is.
    """
    results = upscale_images(
        verb, nets, [image], given, tile, batch, progress, None if out is None else [out]
    )
    return results[0]


def upscale_images(
    verb: Upscale,
    nets: Nets,
    images: Sequence[np.ndarray],
    given: PyTree = None,
    tile: int | None = None,
    batch: int = 1,
    progress: Progress | None = None,
    outs: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """As `upscale_image` for several pictures of one shape, whose windows share the batches.

    Raises:
      UserError: as `upscale_image`, and for pictures of different shapes.
    """
    if not images:
        return []
    for image in images:
        kind = image.dtype in DTYPES and image.ndim in (2, 3) and image.shape[2:] in ((), (3,))
        if not kind:
            raise UserError(
                "upscale takes uint8 or uint16 arrays of shape (h, w) or (h, w, 3), not "
                f"{image.dtype} {image.shape}"
            )
        if image.dtype != images[0].dtype:
            raise UserError("pictures to upscale together must have one type, uint8 or uint16")
        if image.shape != images[0].shape:
            raise UserError(
                f"pictures to upscale together must have one shape, not {images[0].shape} and "
                f"{image.shape}"
            )
    if images[0].ndim == 3:
        return _upscale(verb, nets, list(images), given, tile, batch, progress, outs)
    planes = None if outs is None else [out[..., None] for out in outs]
    gray = [image[..., None] for image in images]
    results = _upscale(verb, nets, gray, given, tile, batch, progress, planes)
    return [result[..., 0] for result in results]


def upscale_alpha(alpha: np.ndarray, scale: int) -> np.ndarray:
    """Bicubic upscaling of a plane (h, w) of 8 or 16 bits, in bands of rows: memory is bounded."""
    height, width = alpha.shape
    out = np.empty((height * scale, width * scale), alpha.dtype)
    most = np.iinfo(alpha.dtype).max
    # The cubic kernel reaches two pixels; four keep the bands' own borders out of the result.
    for start, low, high in spans(height, 256, 4):
        band = alpha[start : start + 256]
        if alpha.dtype == np.uint8:
            band = imresize(band, scale=scale)
        else:
            band = np.clip(np.floor(imresize(band, scale=scale, mode="float") + 0.5), 0, most)
        out[low * scale : high * scale] = band[(low - start) * scale : (high - start) * scale]
    return out


def frames_at_once(
    verb: Upscale,
    nets: Nets,
    size: tuple[int, int],
    given: PyTree = None,
    tile: int | None = None,
    batch: int | None = None,
) -> tuple[int, int]:
    """(frames, batch): how many frames (h, w) to give to `upscale_images`, and with which batch.

    Args:
      nets, given: as for `upscale_image`.
      tile, batch: as the user wants them; no batch: 1 on a CPU, which gains nothing by more, else
        as many whole frames as fit in a device's memory, `MOST_FRAMES` at most.
    """
    local = jax.local_devices()
    cpu = local[0].platform == "cpu"
    full = round_up(size[0], verb.multiple), round_up(size[1], verb.multiple)
    if batch is None:
        pixels = full[0] * full[1]
        if tile is not None:
            pixels = min(pixels, (round_up(tile, verb.multiple) + 2 * _pad(verb)) ** 2)
        fit = int(devices.memory() / (bytes_per_pixel(verb, nets, given) * pixels))
        batch = 1 if cpu else min(MOST_FRAMES, max(1, fit))
    most = devices.workers() * check_batch(batch)
    window, workers = _plan(verb, nets, given, full, tile, batch, most)
    windows = math.prod(len(spans(n, w, _pad(verb))) for n, w in zip(full, window, strict=True))
    frames = math.ceil(batch * (workers if cpu else len(local)) / windows)
    largest = max(1, HOST_BUDGET // (3 * full[0] * full[1] * verb.scale**2))
    return min(frames, largest), batch


def _pad(verb: Upscale) -> int:
    return round_up(verb.radius, verb.multiple)


class _Plan(NamedTuple):
    window: tuple[int, int]  # (h, w)
    workers: int  # batches of windows in flight; more than one on a CPU only


def _plan(verb, nets, given, full, tile, batch, pictures) -> _Plan:
    """How so many pictures of the size `full` are done soonest within the memory."""
    most, window = devices.workers(), None
    if tile is not None:
        side = round_up(tile, verb.multiple) + 2 * _pad(verb)
        window = min(side, full[0]), min(side, full[1])
        if most == 1:
            return _Plan(window, 1)
    room = devices.memory() / (bytes_per_pixel(verb, nets, given) * batch)
    if window is not None:
        return _Plan(window, max(1, min(most, int(room / math.prod(window)))))
    plans = []  # (time, plan)
    for workers in range(1, most + 1):
        pixels = int(room / workers)
        window = fitting_window(full, pixels, _pad(verb), verb.multiple, workers, pictures)
        if workers > 1 and math.prod(window) > pixels:
            break
        cuts = (len(spans(n, w, _pad(verb))) for n, w in zip(full, window, strict=True))
        rounds = math.ceil(pictures * math.prod(cuts) / (batch * workers))
        work = rounds * workers * math.prod(window)
        busy = devices.busy_cores(workers, batch * math.prod(window))
        plans.append((work / busy, _Plan(window, workers)))
    return min(plans, key=lambda timed: timed[0])[1]  # of equally fast ones the fewest workers


def _upscale(verb, nets, images, given, tile, batch, progress, outs) -> list[np.ndarray]:
    height, width, channels = images[0].shape
    if not height or not width:
        raise UserError(f"the picture is empty: its shape is {images[0].shape}")
    if tile is not None and tile < 1:
        raise UserError(f"the tile must be at least 1 pixel, not {tile}")
    check_batch(batch)
    shape, dtype = (height * verb.scale, width * verb.scale, channels), images[0].dtype
    if outs is None:
        outs = [np.empty(shape, dtype) for _ in images]
    for out in outs:
        if out.shape != shape or out.dtype != dtype:
            raise ValueError(f"out must be {dtype} {shape}, not {out.dtype} {out.shape}")

    # The net takes multiples only: the picture is mirrored at its last row and column, as the
    # original of such nets has it, and cut off again.
    full = round_up(height, verb.multiple), round_up(width, verb.multiple)
    if full != (height, width):
        pads = (0, full[0] - height), (0, full[1] - width), (0, 0)
        images = [np.pad(image, pads, mode="reflect") for image in images]
    pad = _pad(verb)
    window, workers = _plan(verb, nets, given, full, tile, batch, len(images))
    while True:
        try:
            _run_windows(verb, nets, images, given, window, pad, batch, workers, progress, outs)
            return list(outs)
        except jax.errors.JaxRuntimeError as error:
            if not devices.out_of_memory(error):
                raise
        if workers > 1:
            workers = 1
            continue
        if tile is not None:
            raise UserError(
                f"a tile of {tile} pixels does not fit in memory: give a smaller one, "
                f"such as {max(1, tile // 2)}"
            )
        # The estimate was too bold (another process has the memory): half of it, if that makes
        # the windows smaller.
        smaller = fitting_window(full, window[0] * window[1] // 2, pad, verb.multiple)
        if smaller == window:
            raise UserError(
                f"the device's memory does not hold a window of {window[0]}x{window[1]} pixels; "
                "free some, or set JAX_PLATFORMS=cpu"
            )
        window = smaller


def _run_windows(verb, nets, images, given, window, pad, batch, workers, progress, outs) -> None:
    """Upscales `images` window by window into `outs` (which may lack the padded rows, columns)."""
    places = [
        (index, row, column)
        for index in range(len(images))
        for row in spans(images[0].shape[0], window[0], pad)
        for column in spans(images[0].shape[1], window[1], pad)
    ]
    used = jax.local_devices()[: math.ceil(len(places) / batch)]
    size = min(batch, len(places)) * len(used)
    nets, given = devices.replicate(({net: nets[net] for net in verb.nets}, given), used)

    def start(group: list) -> tuple[list, jax.Array]:
        x = np.stack([_cut(images[index], row, column, window) for index, row, column in group])
        if len(group) < size:  # one shape, one compilation: the last group is filled up
            x = np.concatenate([x, np.repeat(x[-1:], size - len(group), axis=0)])
        return group, verb.program(nets, devices.split(x, used), given)

    def finish(group: list, y: jax.Array) -> int:
        for (index, row, column), tile in zip(group, np.asarray(y), strict=False):
            _place(outs[index], tile, row, column, verb.scale)
        return len(group)

    groups = list(_groups(places, size))
    if workers > 1 and len(groups) > 1:
        finished = _in_threads(start, finish, groups, workers)
    else:
        # An accelerator computes the next batch while the host writes this one. A CPU would only
        # hold two batches in memory: what one thread starts there runs in turn.
        ahead = 0 if used[0].platform == "cpu" else 1
        finished = _in_turn(start, finish, groups, ahead)
    done = 0
    with contextlib.closing(finished):  # whatever `progress` raises, no thread stays behind
        for count in finished:
            done += count
            if progress:
                progress(done, len(places))


def _in_turn(
    start: Callable, finish: Callable, groups: list[list], ahead: int
) -> Generator[int, None, None]:
    """What `finish` says of each group, with `ahead` more of them started."""
    waiting: deque = deque()
    for group in groups:
        waiting.append(start(group))
        while len(waiting) > ahead:
            yield finish(*waiting.popleft())
    while waiting:
        yield finish(*waiting.popleft())


def _in_threads(
    start: Callable, finish: Callable, groups: list[list], workers: int
) -> Generator[int, None, None]:
    """What `finish` says of each group, in the order in which they are done.

    An error or Ctrl-C waits only for the groups that have begun.
    """
    with ThreadPoolExecutor(workers, "jaxgen-upscale") as pool:
        try:
            # Started here, the first compiles the program once for all threads.
            jobs = [pool.submit(finish, *start(groups[0]))]
            jobs += [pool.submit(lambda group: finish(*start(group)), g) for g in groups[1:]]
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _cut(image: np.ndarray, row: Span, column: Span, window: tuple[int, int]) -> np.ndarray:
    return image[row.start : row.start + window[0], column.start : column.start + window[1]]


def _place(out: np.ndarray, tile: np.ndarray, row: Span, column: Span, scale: int) -> None:
    top, left = row.low * scale, column.low * scale
    part = tile[
        (row.low - row.start) * scale : (row.high - row.start) * scale,
        (column.low - column.start) * scale : (column.high - column.start) * scale,
    ]
    part = part[: out.shape[0] - top, : out.shape[1] - left]
    out[top : top + part.shape[0], left : left + part.shape[1]] = part


def bytes_per_pixel(verb: Upscale, nets: Nets, given: PyTree = None) -> float:
    """Estimated working memory of `verb.apply` per low-resolution pixel, in bytes."""
    leaves, treedef = jax.tree.flatten(({net: nets[net] for net in verb.nets}, given))
    shapes = tuple(jax.ShapeDtypeStruct(np.shape(a), a.dtype) for a in leaves)
    key = treedef, shapes
    if key not in verb.activations:
        side = round_up(32, verb.multiple)
        x = verb.picture(side)
        some_nets, some_given = jax.tree.unflatten(treedef, shapes)
        largest = devices.largest_activation(verb.apply, some_nets, x, some_given)
        verb.activations[key] = largest / side**2
    output = 4 * 3 * verb.scale**2
    return LIVE * max(verb.activations[key], output)


def _groups(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
