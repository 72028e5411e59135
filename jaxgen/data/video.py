"""Videos, by PyAV or by the program ffmpeg: frames with their times in, parts and a whole out.

Both ways have the same functions, see `Engine`. A part is a piece of the new video that is done;
the whole is the parts after each other with the sound of the old one.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from jaxgen.errors import UserError

# Containers that are written. Others can't hold this video, or not any sound.
CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv")
PART = ".nut"  # keeps times of any kind
QUALITY = 17  # x264's constant rate factor: hardly told from the original


class Clip(NamedTuple):
    """What a video's header says: (height, width) as it is seen; frames, 0 where it is not said."""

    size: tuple[int, int]
    frames: int


class Shown(NamedTuple):
    """One frame: uint8 (h, w, 3), upright, and when it is shown, in seconds."""

    image: np.ndarray
    time: Fraction


class Engine(Protocol):
    """A way to videos. All raise UserError, with the file's name, for what can't be done."""

    def about(self, path: Path) -> Clip:
        """From the header alone."""

    def frames(self, path: Path) -> Iterator[Shown]:
        """All frames, in the order in which they are shown."""

    def write_part(self, path: Path, shown: Iterable[Shown]) -> None:
        """Encodes frames of one even size as H.264, with their times."""

    def join(
        self, parts: Sequence[Path], times: Sequence[Fraction], source: Path, out: Path
    ) -> None:
        """Puts parts that begin at `times` after each other, with the sound of `source`."""


def engine() -> Engine:
    """PyAV, else ffmpeg.

    Raises:
      UserError: neither is there.
    """
    if importlib.util.find_spec("av") is not None:
        from jaxgen.data import video_av

        return video_av.PyAV()
    if (program := shutil.which("ffmpeg")) is not None:
        from jaxgen.data import video_ffmpeg

        return video_ffmpeg.Ffmpeg(program)
    raise UserError("videos need PyAV (pip install av) or the program ffmpeg on the PATH")
