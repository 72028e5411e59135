"""Videos by PyAV; see `jaxgen.data.video`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.video import QUALITY, Clip, Shown
from jaxgen.errors import UserError

_BT709 = 1  # of colours, in FFmpeg's numbers
_TICK = Fraction(1, 90_000)  # where a source's own is coarser, or none


class PyAV:
    """Reads and writes in this process; `video.engine` gives it where the package is there."""

    def about(self, path: Path) -> Clip:
        """See `Engine`."""
        with _opened(path) as (_, stream):
            size, frames = (stream.height, stream.width), int(stream.frames or 0)
        first = next(self.frames(path), None)
        return Clip(size if first is None else first.image.shape[:2], frames)

    def frames(self, path: Path) -> Iterator[Shown]:
        """See `Engine`."""
        import av

        with _opened(path) as (container, stream):
            stream.thread_type = "AUTO"
            try:
                for number, frame in enumerate(container.decode(stream)):
                    rate = stream.average_rate or Fraction(25)
                    seconds = number / Fraction(rate)
                    if frame.pts is not None:
                        seconds = frame.pts * Fraction(frame.time_base)
                    image = frame.to_ndarray(format="rgb24")
                    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
                    yield Shown(np.ascontiguousarray(np.rot90(image, turns)), seconds)
            except av.FFmpegError as error:
                raise UserError(f"{path}: damaged or cut short ({error})") from None

    def write_part(self, path: Path, shown: Iterable[Shown]) -> None:
        """See `Engine`."""
        import av

        shown = iter(shown)
        first = next(shown)
        try:
            with av.open(str(path), "w", format="nut") as container:
                stream: Any = container.add_stream("libx264", rate=Fraction(25))
                stream.height, stream.width = first.image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": str(QUALITY), "bf": "0"}
                stream.codec_context.time_base = _TICK
                stream.codec_context.colorspace = _BT709
                stream.codec_context.color_primaries = _BT709
                stream.codec_context.color_trc = _BT709
                stream.codec_context.color_range = 1  # limited, as players expect
                for one in itertools.chain([first], shown):
                    frame = av.VideoFrame.from_ndarray(one.image, format="rgb24")
                    frame = frame.reformat(
                        format="yuv420p", src_color_range="JPEG", dst_colorspace="ITU709",
                        dst_color_range="MPEG",
                    )  # fmt: skip
                    frame.time_base, frame.pts = _TICK, round((one.time - first.time) / _TICK)
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        except av.FFmpegError as error:
            raise UserError(f"cannot write {path}: {error}") from error

    def join(
        self, parts: Sequence[Path], times: Sequence[Fraction], source: Path, out: Path
    ) -> None:
        """See `Engine`."""
        import av

        try:
            with contextlib.ExitStack() as stack:
                old = stack.enter_context(av.open(str(source)))
                first = stack.enter_context(av.open(str(parts[0])))
                options = {"video_track_timescale": str(_TICK.denominator)}
                new = stack.enter_context(
                    av.open(
                        str(out), "w", container_options=options if out.suffix != ".mkv" else {}
                    )
                )
                new.metadata.update({key: str(value) for key, value in old.metadata.items()})
                video = new.add_stream_from_template(first.streams.video[0])
                video.time_base = _TICK
                sounds = {s.index: new.add_stream_from_template(s) for s in old.streams.audio}
                for packet in _by_time(_lasting(_moved(parts, times, video)), _sound(old, sounds)):
                    new.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise UserError(
                f"cannot write {out} ({error}); a sound that this container doesn't hold goes into "
                ".mkv"
            ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: no video that can be read ({error})") from None
    with container:
        if not container.streams.video:
            raise UserError(f"{path}: there is no picture in this video")
        yield container, container.streams.video[0]


def _moved(parts: Sequence[Path], times: Sequence[Fraction], video: Any) -> Iterator[Any]:
    """The parts' packets at their places in the whole."""
    import av

    for path, time in zip(parts, times, strict=True):
        with av.open(str(path)) as part:
            for packet in part.demux(video=0):
                if packet.pts is not None:
                    within = packet.pts * Fraction(packet.time_base)
                    packet.pts = packet.dts = round((within + time) / _TICK)
                    packet.time_base, packet.stream = _TICK, video
                    yield packet


def _lasting(packets: Iterator[Any]) -> Iterator[Any]:
    """Each until the next one; the last as long as the one before."""
    before, lasts = next(packets), 0
    for packet in packets:
        before.duration = lasts = packet.pts - before.pts
        yield before
        before = packet
    before.duration = lasts
    yield before


def _sound(old: Any, sounds: dict[int, Any]) -> Iterator[Any]:
    if not sounds:
        return
    for packet in old.demux(audio=tuple(range(len(sounds)))):
        if packet.dts is not None:
            packet.stream = sounds[packet.stream.index]
            yield packet


def _by_time(*streams: Iterator[Any]) -> Iterator[Any]:
    """Packets of several streams in the order of their times."""
    waiting: list[list[Any]] = [[next(stream, None), stream] for stream in streams]
    while left := [pair for pair in waiting if pair[0] is not None]:
        soonest = min(left, key=lambda pair: pair[0].dts * Fraction(pair[0].time_base))
        yield soonest[0]
        soonest[0] = next(soonest[1], None)
