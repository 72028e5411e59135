"""Videos by the program ffmpeg; see `jaxgen.data.video`.

Frames go to it as Matroska of plain pixels, since that has a time for each frame.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from jaxgen.data.video import QUALITY, Clip, Shown
from jaxgen.errors import UserError

_TICK = Fraction(1, 1_000_000)  # of the frames' times on their way


class Ffmpeg:
    """Reads and writes by pipes to and from the program."""

    def __init__(self, program: str):
        self.program = program
        # Each frame once, at its own time.
        self._unchanged = (self._word_for_each_frame(), "passthrough")

    def _word_for_each_frame(self) -> str:
        ran = subprocess.run(
            [self.program, "-version"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        found = re.search(r"version n?(\d+)\.(\d+)", ran.stdout)
        old = found is not None and (int(found[1]), int(found[2])) < (5, 1)
        return "-vsync" if old else "-fps_mode"

    def about(self, path: Path) -> Clip:
        """See `Engine`."""
        first = self._header(path)
        size = re.search(r" (\d+)x(\d+)", first)
        if size is None:
            raise UserError(f"{path}: there is no picture in this video")
        return Clip((int(size[2]), int(size[1])), 0)

    def _header(self, path: Path) -> str:
        """The line about the frames as they come out: turned, as plain pixels."""
        ran = subprocess.run(
            [*self._start(), "-i", _url(path), "-map", "0:v:0", "-frames:v", "1", "-f", "rawvideo",
             "-pix_fmt", "rgb24", "-loglevel", "info", "-y", "/dev/null"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        found = re.findall(r"Stream #.*Video: rawvideo.*", ran.stderr)
        if ran.returncode or not found:
            raise UserError(f"{path}: no video that can be read ({_last(ran.stderr)})")
        return found[-1].split("rgb24", 1)[-1]

    def _start(self) -> list[str]:
        return [self.program, "-hide_banner", "-loglevel", "error", "-nostdin"]

    def frames(self, path: Path) -> Iterator[Shown]:
        """See `Engine`."""
        height, width = self.about(path).size
        times = self._times(path)
        command = [
            *self._start(), "-i", _url(path), "-map", "0:v:0", *self._unchanged, "-f", "rawvideo",
            "-pix_fmt", "rgb24", "-",
        ]  # fmt: skip
        with self._running(command, path, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for time in times:
                pixels = process.stdout.read(height * width * 3)
                if len(pixels) < height * width * 3:
                    break
                yield Shown(np.frombuffer(pixels, np.uint8).reshape(height, width, 3), time)

    def _times(self, path: Path) -> list[Fraction]:
        """When each frame is shown, as FFmpeg's filter "showinfo" says."""
        ran = subprocess.run(
            [*self._start(), "-loglevel", "info", "-i", _url(path), "-map", "0:v:0",
             *self._unchanged, "-vf", "showinfo", "-f", "null", "-"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        base = re.search(r"config in time_base: (\d+)/(\d+)", ran.stderr)
        if ran.returncode or not base:
            raise UserError(f"{path}: no video that can be read ({_last(ran.stderr)})")
        tick = Fraction(int(base[1]), int(base[2]))
        return [int(pts) * tick for pts in re.findall(r"\bn: *\d+ pts: *(-?\d+)", ran.stderr)]

    def write_part(self, path: Path, shown: Iterable[Shown]) -> None:
        """See `Engine`."""
        shown = iter(shown)
        first = next(shown)
        colors = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"
        command = [
            *self._start(), "-f", "matroska", "-i", "-", *self._unchanged, "-enc_time_base",
            "1:90000", "-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p",
            *itertools.chain(*(("-" + one.split("=")[0], one.split("=")[1])
                               for one in colors.split(":"))),
            "-c:v", "libx264", "-crf", str(QUALITY), "-bf", "0", "-f", "nut", "-y", _url(path),
        ]  # fmt: skip
        command.remove("-nostdin")
        with self._running(command, path, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            try:
                _write_header(process.stdin, *first.image.shape[:2])
                for one in itertools.chain([first], shown):
                    _write_frame(process.stdin, one, first.time)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it says why it stopped

    def join(
        self, parts: Sequence[Path], times: Sequence[Fraction], source: Path, out: Path
    ) -> None:
        """See `Engine`."""
        with tempfile.TemporaryDirectory(dir=parts[0].parent) as folder:
            table = Path(folder) / "parts.txt"
            lines = ["ffconcat version 1.0"]
            for index, path in enumerate(parts):
                name = str(path.resolve()).replace("'", r"'\''")
                lines.append(f"file '{name}'")
                if index + 1 < len(parts):
                    lines.append(f"duration {float(times[index + 1] - times[index]):.6f}")
            table.write_text("\n".join(lines) + "\n")
            muxer = [] if out.suffix == ".mkv" else ["-video_track_timescale", "90000"]
            command = [
                *self._start(), "-f", "concat", "-safe", "0",
                "-itsoffset", f"{float(times[0]):.6f}", "-i", _url(table),
                "-i", _url(source), "-map", "0:v:0", "-map", "1:a?",
                "-map_metadata", "1", "-c", "copy", *muxer, "-y", _url(out),
            ]  # fmt: skip
            try:
                with self._running(command, out):
                    pass
            except UserError as error:
                raise UserError(
                    f"{error}; a sound that this container doesn't hold goes into .mkv"
                ) from None

    @contextlib.contextmanager
    def _running(
        self, command: list[str], path: Path, stdin: int = subprocess.DEVNULL, stdout: int = -3
    ) -> Iterator[subprocess.Popen]:
        """The program at work; its complaint becomes a UserError, and it ends with the block."""
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said)
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            finally:
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        with contextlib.suppress(BrokenPipeError):
                            pipe.close()
                code = process.wait()
            if code > 0:  # not by a signal: a reader that has enough closes the pipe
                said.seek(0)
                raise UserError(f"{path}: ffmpeg: {_last(said.read().decode(errors='replace'))}")


def _url(path: Path) -> str:
    """A name that begins with a dash is no option so, and one with a colon no protocol."""
    return f"file:{path}"


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


# ----------------------------------------------------------------------------- Matroska (RFC 9559)


def _element(name: str, body: bytes) -> bytes:
    return bytes.fromhex(name) + struct.pack(">Q", len(body) | 1 << 56) + body


def _number(name: str, value: int) -> bytes:
    return _element(name, value.to_bytes(8, "big"))


def _write_header(file: IO[bytes], height: int, width: int) -> None:
    """Up to the first frame: one track of plain RGB, in ticks of a microsecond."""
    head = _element("42F7", b"\x01") + _element("4282", b"matroska") + _number("4287", 4)
    file.write(_element("1A45DFA3", head + _number("4285", 2)))
    file.write(bytes.fromhex("18538067") + b"\x01" + b"\xff" * 7)  # a segment without end
    file.write(_element("1549A966", _number("2AD7B1", 1000)))
    video = _number("B0", width) + _number("BA", height) + _element("2EB524", b"RGB\x18")
    track = _number("D7", 1) + _number("73C5", 1) + _number("83", 1)
    track += _element("86", b"V_UNCOMPRESSED") + _element("E0", video)
    file.write(_element("1654AE6B", _element("AE", track)))


def _write_frame(file: IO[bytes], shown: Shown, begin: Fraction) -> None:
    """A cluster of one frame."""
    time = _number("E7", round((shown.time - begin) / _TICK))
    block = _element("A3", b"\x81\0\0\x80" + np.ascontiguousarray(shown.image).tobytes())
    file.write(_element("1F43B675", time + block))
