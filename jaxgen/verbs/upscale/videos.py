"""What `jaxgen upscale` does with videos: frame by frame, and on from where it was stopped.

What is done lies in a hidden folder beside OUT, in parts of some frames, until the whole is there.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.picture_files import Picture
from jaxgen.data.picture_open import VIDEOS
from jaxgen.data.video import CONTAINERS, PART, Engine, Shown, engine
from jaxgen.errors import UserError
from jaxgen.verbs.upscale.files import AS_IS, How, Job, Outcome, upscale_files
from jaxgen.verbs.upscale.pictures import enlarged, resized
from jaxgen.verbs.upscale.use import Upscaler
from jaxgen.weights.digests import sampled_fingerprint

# A part ends after so many frames or seconds, whichever comes first: what a stop can cost.
PART_FRAMES, PART_SECONDS = 250, 60.0
_ABOUT = "about.json"
_PART = re.compile(rf"(\d+)-(\d+){re.escape(PART)}")


def is_video(path: Path) -> bool:
    """By its ending; a folder is none."""
    return path.suffix.lower() in VIDEOS and not path.expanduser().is_dir()


def plan_videos(videos: list[Path], out: Path | None, suffix: Callable[[], str]) -> list[Job]:
    """(source, target) of each video.

    Args: out: a folder, or for one video a file's name; None: beside the video, NAME_x4.mp4.
    suffix: gives "_x4".

    Raises:
      UserError: no such file, a container that can't be written, a target that is a source, or
        neither PyAV nor ffmpeg.
    """
    jobs: list[Job] = []
    if videos:
        engine()
    for video in videos:
        source = video.expanduser()
        if not source.is_file():
            raise UserError(f"{video}: no such file")
        own = source.suffix.lower()
        ending = own if own in CONTAINERS else ".mkv"
        if out is not None and out.suffix and not out.is_dir():
            if len(videos) > 1:
                raise UserError(f"{out}: several videos need a folder to write to")
            if out.suffix.lower() not in CONTAINERS:
                raise UserError(
                    f"{out}: cannot write a video as {out.suffix}; use {', '.join(CONTAINERS)}"
                )
            target = out
        else:
            folder = source.parent if out is None else out
            beside = folder.resolve() == source.parent.resolve()
            target = folder / f"{source.stem}{suffix() if beside else ''}{ending}"
        jobs.append((source, target))
    sources = {source.resolve() for source, _ in jobs}
    for source, target in jobs:
        if target.resolve() in sources:
            raise UserError(f"{target} would replace a video ({source}): choose another OUT")
    if len({target for _, target in jobs}) < len(jobs):
        raise UserError("two videos would be written to one file: give them one by one")
    return jobs


def upscale_all(
    upscale: Upscaler,
    jobs: list[Job],
    progress: Callable[[float], None],
    how: How = AS_IS,
    asked: str = "",
) -> Generator[Outcome, None, None]:
    """As `upscale_files`, of pictures, and then of the videos among the jobs; see there.

    Args: asked: as for `upscale_video`.
    """
    videos = [job for job in jobs if is_video(job[0])]
    pictures = [job for job in jobs if not is_video(job[0])]
    with contextlib.closing(upscale_files(upscale, pictures, progress, how)) as outcomes:
        yield from outcomes
    for done, job in enumerate(videos, len(pictures)):
        moved = functools.partial(_moved, progress, done)
        yield upscale_video(upscale, job, moved, how, asked)
        progress(done + 1)


def _moved(progress: Callable[[float], None], done: int, part: float) -> None:
    progress(done + part)


def upscale_video(
    upscale: Upscaler, job: Job, progress: Callable[[float], None], how: How, asked: str = ""
) -> Outcome:
    """Enlarges a video: sound, and the times of its frames, as they were.

    Args:
      progress: called with the share that is done, where the number of frames is known.
      how: without depth; a video has 8 bits.
      asked: what else the result depends on, such as a prompt; another one starts anew.

    Raises:
      UserError: neither PyAV nor ffmpeg is there. What is wrong with the video is in the outcome.
    """
    began = time.monotonic()
    tool = engine()
    source, target = job
    folder = target.with_name(f".{target.name}.parts")
    try:
        facts = _facts(upscale, source, how, asked)
        parts = _begin(folder, facts)
        clip = tool.about(source)
        done = parts[-1][1] if parts else 0
        shown = itertools.islice(tool.frames(source), done, None)
        for first, large in _parts(upscale, shown, how, done, clip.frames, progress):
            _write_part(tool, folder, first, large, parts)
        if not parts:
            raise UserError(f"{source}: there is no frame in this video")
        _join(tool, folder, parts, source, target)
        size = _size(tool, target)
    except (UserError, OSError, MemoryError) as error:
        if isinstance(error, MemoryError):
            error = UserError(f"{source}: its frames do not fit in this machine's memory")
        return Outcome(source, target, None, 0.0, error)
    shutil.rmtree(folder, ignore_errors=True)
    count = parts[-1][1]
    return Outcome(source, target, size, time.monotonic() - began, None, f"{count} frames")


def _size(tool: Engine, path: Path) -> tuple[int, int]:
    return tool.about(path).size


def _facts(upscale: Upscaler, source: Path, how: How, asked: str) -> dict[str, Any]:
    """What the parts depend on."""
    found = source.stat()
    return {
        "source": str(source.resolve()), "bytes": found.st_size, "changed": found.st_mtime_ns,
        # Two models may have one name, and a run trains on.
        "weights": sampled_fingerprint(upscale.variables),
        "scale": how.scale or upscale.scale, "asked": asked,
    }  # fmt: skip


# (first frame, the frame after the last, the first one's time, file)
_Part = tuple[int, int, Fraction, Path]


def _begin(folder: Path, facts: dict[str, Any]) -> list[_Part]:
    """The parts that are there of the same work; else an empty folder."""
    times: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        said = json.loads((folder / _ABOUT).read_text())
        if said["of"] == facts:
            times = said["times"]
    parts: list[_Part] = []
    for name, when in sorted(times.items()):
        found = _PART.fullmatch(name)
        end = parts[-1][1] if parts else 0
        if not found or int(found[1]) != end or not (folder / name).is_file():
            break
        parts.append((end, int(found[2]), Fraction(when), folder / name))
    if not parts:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    _note(folder, facts, parts)
    return parts


def _note(folder: Path, facts: dict[str, Any], parts: list[_Part]) -> None:
    text = json.dumps({"of": facts, "times": {p.name: str(when) for _, _, when, p in parts}})
    part = folder / f"{_ABOUT}.part"
    part.write_text(text)
    os.replace(part, folder / _ABOUT)


def _parts(
    upscale: Upscaler,
    shown: Iterator[Shown],
    how: How,
    done: int,
    total: int,
    progress: Callable[[float], None],
) -> Iterator[tuple[int, list[Shown]]]:
    """(number of the first, enlarged frames) of one part after the other."""
    times: deque[Fraction] = deque()

    def pictures() -> Iterator[Picture]:
        for one in shown:
            times.append(one.time)
            yield Picture(one.image, None, False)

    def moved(count: float) -> None:
        if total:
            progress(min(1.0, (done + count) / total))
        else:
            progress(0.0)

    first, began = done, time.monotonic()
    large: list[Shown] = []
    results = enlarged(
        upscale, pictures(), tile=how.tile, batch=how.batch, scale=how.scale, moved=moved
    )
    for picture in results:
        large.append(Shown(_even(picture.rgb), times.popleft()))
        if len(large) == PART_FRAMES or time.monotonic() - began > PART_SECONDS:
            yield first, large
            first, large, began = first + len(large), [], time.monotonic()
    if large:
        yield first, large


def _even(image: np.ndarray) -> np.ndarray:
    """In even sides, which H.264's halved colours need."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return resized(image, (height + height % 2, width + width % 2))


def _write_part(
    tool: Engine, folder: Path, first: int, large: list[Shown], parts: list[_Part]
) -> None:
    path = folder / f"{first:08d}-{first + len(large):08d}{PART}"
    half = path.with_name(f"{path.name}.part")
    tool.write_part(half, large)
    os.replace(half, path)
    parts.append((first, first + len(large), large[0].time, path))
    facts = json.loads((folder / _ABOUT).read_text())["of"]
    _note(folder, facts, parts)


def _join(tool: Engine, folder: Path, parts: list[_Part], source: Path, target: Path) -> None:
    half = folder / f"whole{target.suffix.lower()}"
    tool.join([path for *_, path in parts], [when for _, _, when, _ in parts], source, half)
    os.replace(half, target)
