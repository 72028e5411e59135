"""What `jaxgen upscale` does with files: which picture goes where, and each one's way there.

While the network works on one picture (or group of frames), the next is decoded and the one before
is encoded, each in a thread of its own; what they hold in memory is bounded.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxgen.data.picture_files import image_size, read_image_with_alpha, write_image
from jaxgen.errors import UserError
from jaxgen.verbs.files import FORMATS
from jaxgen.verbs.upscale.use import Upscaler

# Results above this are written before the next picture begins: two in memory would be too much.
OVERLAP_BYTES = 256 << 20
Job = tuple[Path, Path]


class Outcome(NamedTuple):
    """What became of one job: (height, width) written after `seconds` of work, or an error."""

    source: Path
    target: Path
    size: tuple[int, int] | None
    seconds: float
    error: Exception | None


class _Picture(NamedTuple):
    job: Job
    image: np.ndarray  # (h, w, 3), or gray (h, w)
    alpha: np.ndarray | None
    seconds: float


def upscale_files(
    upscale: Upscaler,
    jobs: list[Job],
    progress: Callable[[float], None],
    *,
    tile: int | None = None,
    batch: int | None = None,
    scale: float | None = None,
) -> Generator[Outcome, None, None]:
    """Reads, enlarges and writes each picture, and gives the outcomes in the jobs' order.

    Neighbouring pictures of one size go through the network together where that pays.

    Args:
      progress: called with the number of jobs that the network has done, fractions included.
      tile: as in `Upscaler`.
      batch: tiles or frames per device at a time; None: 1 on a CPU, else what memory allows.
      scale: of the result, where it is not the network's: then resized by Lanczos' filter.

    Raises:
      Nothing of one picture's own: that is in its outcome. Close the iterator (or exhaust it) to
      end its threads.
    """
    done = 0
    pending: deque[Future[Outcome] | Outcome] = deque()
    with contextlib.ExitStack() as stack:
        reader, writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        stack.callback(writer.shutdown, cancel_futures=True)
        stack.callback(reader.shutdown, cancel_futures=True)
        groups = _Groups(upscale, jobs, reader, scale, batch, tile)
        for group, at_once, per_device in groups:
            if isinstance(group, Outcome):
                yield from _finished(pending)
                yield group
                done += 1
                progress(done)
                continue

            def moved(part: int, total: int, begin: int = done, count: int = len(group)) -> None:
                progress(begin + count * part / total)

            results = _enlarge(upscale, group, at_once, moved, tile, per_device)
            done += len(group)
            yield from _finished(pending)
            while results:
                picture, result, seconds = results.pop(0)
                large = not isinstance(result, Exception) and result.nbytes > OVERLAP_BYTES
                if isinstance(result, Exception):
                    pending.append(_failed(picture.job, result))
                else:
                    job = writer.submit(_write, picture, result, upscale.scale, scale, seconds)
                    pending.append(job)
                del picture, result
                if large:
                    yield from _finished(pending)
            del group
        yield from _finished(pending)


class _Groups:
    """Iterates over groups of pictures that go through the network together.

    Gives (group, at_once, batch): a list of at most `at_once` pictures of one shape, to be filled
    up to that number; or the outcome of a picture that could not be read.
    """

    def __init__(self, upscale, jobs, reader, scale, batch, tile):
        self.upscale, self.scale, self.batch, self.tile = upscale, scale, batch, tile
        self.jobs, self.reader = deque(jobs), reader
        self.reading: deque[Future] = deque()
        self.plans: dict[tuple[int, ...], tuple[int, int]] = {}
        self.compiled: set[tuple[int, ...]] = set()

    def __iter__(self) -> Iterator[tuple[list[_Picture] | Outcome, int, int]]:
        while first := self._next(1):
            if isinstance(first, Outcome):
                yield first, 1, 1
                continue
            at_once, batch = self._plan(first.image.shape)
            group = [first]
            while len(group) < at_once and (more := self._next(at_once)):
                if isinstance(more, Outcome) or more.image.shape != first.image.shape:
                    self.reading.appendleft(_ready(more))
                    break
                group.append(more)
            # The next one is decoded while these are enlarged.
            self._read_ahead(at_once)
            # A program for fewer would take longer to compile than to fill this one up; but a
            # picture that has its size to itself goes alone.
            if len(group) == at_once:
                self.compiled.add(first.image.shape)
            elif first.image.shape not in self.compiled:
                at_once = len(group)
            yield group, at_once, batch
            del first, group

    def _plan(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if shape not in self.plans:
            size = shape[0], shape[1]
            self.plans[shape] = self.upscale.frames_at_once(size, self.tile, self.batch)
        return self.plans[shape]

    def _next(self, ahead: int) -> _Picture | Outcome | None:
        self._read_ahead(ahead)
        return self.reading.popleft().result() if self.reading else None

    def _read_ahead(self, count: int) -> None:
        while self.jobs and len(self.reading) < count:
            factor = self.scale or self.upscale.scale
            self.reading.append(self.reader.submit(_read, self.jobs.popleft(), factor))


def _ready(value: Any) -> Future:
    future: Future = Future()
    future.set_result(value)
    return future


def _finished(pending: deque[Future[Outcome] | Outcome]) -> Iterator[Outcome]:
    """Waits for the writer, and gives all outcomes that it owes."""
    while pending:
        outcome = pending.popleft()
        yield outcome.result() if isinstance(outcome, Future) else outcome


def _failed(job: Job, error: Exception) -> Outcome:
    if isinstance(error, MemoryError):
        error = UserError(f"{job[0]}: the result does not fit in this machine's memory")
    return Outcome(*job, None, 0.0, error)


def _read(job: Job, scale: float) -> _Picture | Outcome:
    began = time.monotonic()
    source, target = job
    try:
        side = round(max(image_size(source)) * scale)
        if side > FORMATS[target.suffix.lower()]:
            raise UserError(
                f"the result has a side of {side} pixels, too many for {target.suffix[1:]}; "
                "use --format png"
            )
        rgb, alpha, gray = read_image_with_alpha(source)
        image = np.ascontiguousarray(rgb[..., 0]) if gray else rgb
        return _Picture(job, image, alpha, time.monotonic() - began)
    except (UserError, OSError, MemoryError) as error:
        return _failed(job, error)


def _enlarge(
    upscale: Upscaler,
    group: list[_Picture],
    at_once: int,
    progress: Callable[[int, int], None],
    tile: int | None,
    batch: int,
) -> list[tuple[_Picture, np.ndarray | Exception, float]]:
    """Each picture with its result, or with what went wrong, and its share of the time."""
    began = time.monotonic()
    try:
        if at_once == 1:
            results = [upscale(group[0].image, tile=tile, batch=batch, progress=progress)]
        else:
            # The last group is filled up: one shape, one compilation.
            frames = [picture.image for picture in group]
            frames += frames[-1:] * (at_once - len(frames))
            results = upscale(frames, tile=tile, batch=batch, progress=progress)
            results = results[: len(group)]
    except (UserError, OSError, MemoryError) as error:
        if len(group) == 1:
            return [(group[0], error, 0.0)]
        # One by one, those that can be done are.
        return [_enlarge(upscale, [one], 1, lambda *_: None, tile, batch)[0] for one in group]
    took = (time.monotonic() - began) / len(group)
    return [(p, r, p.seconds + took) for p, r in zip(group, results, strict=True)]


def _write(
    picture: _Picture, result: np.ndarray, factor: int, scale: float | None, seconds: float
) -> Outcome:
    # jax comes in here, after the mistakes that can be found without it.
    from jaxgen.verbs.upscale.tiling import upscale_alpha

    began = time.monotonic()
    source, target = picture.job
    try:
        alpha, gray = picture.alpha, picture.image.ndim == 2
        if alpha is not None:
            alpha = upscale_alpha(alpha, factor)
        if scale not in (None, factor):
            size = wanted_size(picture.image.shape, scale)
            result = _resized(result, size)
            alpha = None if alpha is None else _resized(alpha, size)
        if gray:
            result = np.repeat(result[..., None], 3, axis=2)
        write_image(target, result, alpha=alpha, gray=gray)
    except (UserError, OSError, MemoryError) as error:
        return _failed(picture.job, error)
    size = result.shape[0], result.shape[1]
    return Outcome(source, target, size, seconds + time.monotonic() - began, None)


def wanted_size(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """(height, width) of a picture of `shape` times `scale`, at least one pixel."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Lanczos' filter with three lobes, antialiased where it shrinks; uint8."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))
