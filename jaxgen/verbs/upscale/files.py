"""What `jaxgen upscale` does with files: which picture goes where, and each one's way there.

While the network works on one picture (or group of frames), the next is decoded and the one before
is encoded, each in a thread of its own; what they hold in memory is bounded.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.picture_files import Picture, image_size, read_picture, write_image
from jaxgen.data.picture_frames import (
    Frame,
    Frames,
    beside,
    check_frames,
    frames_of,
    read_frames,
    write_frames,
)
from jaxgen.errors import UserError
from jaxgen.verbs.files import FORMATS
from jaxgen.verbs.upscale.pictures import enlarged, finished, for_network
from jaxgen.verbs.upscale.use import Upscaler

# Results above this are written before the next picture begins: two in memory would be too much.
OVERLAP_BYTES = 256 << 20
Job = tuple[Path, Path]


class Outcome(NamedTuple):
    """What became of one job: (height, width) written after `seconds` of work, or an error.

    remark: what the user should know of it.
    """

    source: Path
    target: Path
    size: tuple[int, int] | None
    seconds: float
    error: Exception | None
    remark: str = ""


class How(NamedTuple):
    """How pictures are enlarged.

    tile: as in `Upscaler`. batch: tiles or frames per device at a time; None: 1 on a CPU, else what
    memory allows. scale: of the result, where it is not the network's: then resized by Lanczos'
    filter. depth: bits a channel, 8 or 16, of formats that hold 16; None: 16 where the file has
    more than 8.
    """

    tile: int | None = None
    batch: int | None = None
    scale: float | None = None
    depth: int | None = None


AS_IS = How()


class _Picture(NamedTuple):
    job: Job
    image: np.ndarray  # (h, w, 3), or gray (h, w)
    whole: Picture
    seconds: float
    remark: str = ""


class _Several(NamedTuple):
    """A file of several frames, to be read frame by frame."""

    job: Job
    frames: Frames


def upscale_files(
    upscale: Upscaler,
    jobs: list[Job],
    progress: Callable[[float], None],
    how: How = AS_IS,
) -> Generator[Outcome, None, None]:
    """Reads, enlarges and writes each picture, and gives the outcomes in the jobs' order.

    Neighbouring pictures of one size go through the network together where that pays.

    Args:
      progress: called with the number of jobs that the network has done, fractions included.

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
        groups = _Groups(upscale, jobs, reader, how)
        for group, at_once, per_device in groups:
            if not isinstance(group, list):
                yield from _finished(pending)
                if isinstance(group, _Several):
                    group = _frames(upscale, group, how, functools.partial(_part, progress, done))
                yield group
                done += 1
                progress(done)
                continue

            def moved(part: int, total: int, begin: int = done, count: int = len(group)) -> None:
                progress(begin + count * part / total)

            results = _enlarge(upscale, group, at_once, moved, how.tile, per_device)
            done += len(group)
            yield from _finished(pending)
            while results:
                picture, result, seconds = results.pop(0)
                large = not isinstance(result, Exception) and result.nbytes > OVERLAP_BYTES
                if isinstance(result, Exception):
                    pending.append(_failed(picture.job, result))
                else:
                    job = writer.submit(_write, picture, result, upscale.scale, how.scale, seconds)
                    pending.append(job)
                del picture, result
                if large:
                    yield from _finished(pending)
            del group
        yield from _finished(pending)


def _part(progress: Callable[[float], None], done: int, part: float) -> None:
    progress(done + part)


class _Groups:
    """Iterates over groups of pictures that go through the network together.

    Gives (group, at_once, batch): a list of at most `at_once` pictures of one shape, to be filled
    up to that number; a file of several frames; or the outcome of a picture that could not be read.
    """

    def __init__(self, upscale: Upscaler, jobs: list[Job], reader: ThreadPoolExecutor, how: How):
        self.upscale, self.how = upscale, how
        self.jobs, self.reader = deque(jobs), reader
        self.reading: deque[Future] = deque()
        self.plans: dict[tuple[int, ...], tuple[int, int]] = {}
        self.compiled: set[tuple[int, ...]] = set()

    def __iter__(self) -> Iterator[tuple[list[_Picture] | _Several | Outcome, int, int]]:
        while first := self._next(1):
            if not isinstance(first, _Picture):
                yield first, 1, 1
                continue
            at_once, batch = self._plan(first.image.shape)
            group = [first]
            while len(group) < at_once and (more := self._next(at_once)):
                if not isinstance(more, _Picture) or _kind(more) != _kind(first):
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
            how = self.how
            self.plans[shape] = self.upscale.frames_at_once(size, how.tile, how.batch)
        return self.plans[shape]

    def _next(self, ahead: int) -> _Picture | _Several | Outcome | None:
        self._read_ahead(ahead)
        return self.reading.popleft().result() if self.reading else None

    def _read_ahead(self, count: int) -> None:
        while self.jobs and len(self.reading) < count:
            factor, depth = self.how.scale or self.upscale.scale, self.how.depth
            self.reading.append(self.reader.submit(_read, self.jobs.popleft(), factor, depth))


def _kind(picture: _Picture) -> tuple[tuple[int, ...], Any]:
    return picture.image.shape, picture.image.dtype


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


def _read(job: Job, scale: float, depth: int | None) -> _Picture | _Several | Outcome:
    began = time.monotonic()
    source, target = job
    try:
        frames = frames_of(source)
        side = round(max(image_size(source)) * scale)
        if side > FORMATS[target.suffix.lower()]:
            raise UserError(
                f"the result has a side of {side} pixels, too many for {target.suffix[1:]}; "
                "use --format png"
            )
        if frames:
            check_frames(source, target, frames)
            return _Several(job, frames)
        picture = _of_depth(
            read_picture(source, depth != 8 and holds_16_bits(target)), depth, target
        )
        others = beside(source)
        remarks = [picture.about.remark] if picture.about.remark else []
        if others:
            remarks.append(f"{source} holds {others} more beside this one")
        if picture.about.icc and target.suffix.lower() == ".gif":
            remarks.append("colour profile applied: sRGB")
        remark = ", ".join(remarks)
        return _Picture(job, for_network(picture), picture, time.monotonic() - began, remark)
    except (UserError, OSError, MemoryError) as error:
        return _failed(job, error)


def holds_16_bits(target: Path) -> bool:
    """Whether a file of this name can have 16 bits a channel."""
    return target.suffix.lower() in (".png", ".tif", ".tiff")


def _of_depth(picture: Picture, depth: int | None, target: Path) -> Picture:
    if depth != 16 or picture.rgb.dtype == np.uint16 or not holds_16_bits(target):
        return picture
    alpha = None if picture.alpha is None else picture.alpha.astype(np.uint16) * 257
    return picture._replace(rgb=picture.rgb.astype(np.uint16) * 257, alpha=alpha)


def _frames(
    upscale: Upscaler, several: _Several, how: How, moved: Callable[[float], None]
) -> Outcome:
    """A file of several frames, from reading to writing."""
    began = time.monotonic()
    (source, target), frames = several
    deep = frames.pages and how.depth != 8 and holds_16_bits(target)
    shown: list[Frame] = []
    times: list[float] = []

    def pictures() -> Iterator[Picture]:
        for frame in read_frames(source, frames, deep):
            times.append(frame.milliseconds)
            picture = frame.picture
            yield _of_depth(picture, how.depth, target) if frames.pages else picture

    try:
        results = enlarged(
            upscale, pictures(), tile=how.tile, batch=how.batch, scale=how.scale,
            moved=lambda done: moved(done / len(frames.at)),
        )  # fmt: skip
        for picture in results:
            shown.append(Frame(picture, times[len(shown)]))
        write_frames(target, shown, frames)
    except (UserError, OSError, MemoryError) as error:
        return _failed(several.job, error)
    size = shown[0].picture.rgb.shape
    seconds = time.monotonic() - began
    return Outcome(source, target, (size[0], size[1]), seconds, None, frames.says())


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
    began = time.monotonic()
    source, target = picture.job
    try:
        rgb, alpha, gray, about = finished(picture.whole, result, factor, scale)
        write_image(target, rgb, alpha=alpha, gray=gray, about=about)
    except (UserError, OSError, MemoryError) as error:
        return _failed(picture.job, error)
    size = rgb.shape[0], rgb.shape[1]
    took = seconds + time.monotonic() - began
    return Outcome(source, target, size, took, None, picture.remark)
