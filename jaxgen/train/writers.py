"""What a run leaves for its reader: metrics.jsonl, TensorBoard, curves.png, sample grids."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxgen import glossary
from jaxgen.data.picture_files import write_image
from jaxgen.errors import UserError
from jaxgen.grid import captioned_grid
from jaxgen.log import log
from jaxgen.task import Evaluation
from jaxgen.train.curves import BASELINE, draw_curves
from jaxgen.train.plan import Pace
from jaxgen.weights.checkpoints import METRICS, read_metrics

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "jaxgen")


class Writer:
    """Writes from process 0; on other processes every method does nothing.

    Raises:
      UserError: by each method, where the run's folder is gone or can't be written.
    """

    def __init__(self, workdir: Path, start: int, pace: Pace, *, tensorboard: bool):
        self.workdir = workdir
        self.main = jax.process_index() == 0
        self.pace, self.total = pace, pace.total
        self.explained: set[str] = set()  # metrics whose meaning was said
        self.board = None
        self.progress: tqdm | None = None
        if not self.main:
            return
        with _writing_to(workdir):
            _forget_after(workdir / METRICS, start)
            # Line-buffered: a killed run has all its lines.
            self.file = open(workdir / METRICS, "a", buffering=1)  # noqa: SIM115
            if tensorboard:
                from tensorboardX import SummaryWriter

                self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)
        if sys.stderr.isatty():
            self.progress = tqdm(
                total=self.total, initial=start, unit="step", dynamic_ncols=True, desc=workdir.name
            )

    def tick(self) -> None:
        """One step was dispatched: moves the progress line."""
        if self.progress is not None:
            self.progress.update()

    def say(self, text: str) -> None:
        """A log line that does not break the progress line."""
        if self.progress is not None:
            self.progress.write(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr)
        else:
            log.info("%s", text)

    def scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, the same to TensorBoard, and a readable line."""
        if not self.main:
            return
        clean = {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        with _writing_to(self.workdir):
            os.stat(self.workdir / METRICS)  # what is written to a file that was removed is lost
            self.file.write(json.dumps({"step": step, "kind": kind, **clean}) + "\n")
            if self.board is not None:
                for key, value in values.items():
                    self.board.add_scalar(f"{kind}/{key}", value, step)
        text = shown(values)
        eta = ""
        if kind == "train" and "speed/steps_per_s" in values:
            self.pace.measured(step, values["speed/steps_per_s"])
            eta = f"  eta {self.pace.left(step)}"
        self.say(f"{kind} step {step}/{self.total}  {text}{eta}")

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Metrics, the sample grid and the curves of one evaluation."""
        self.scalars(step, "eval", result.metrics)
        if not self.main:
            return
        for line in glossary.explain(name for name in result.metrics if name not in self.explained):
            self.say(f"  {line}")
        self.explained.update(result.metrics)
        with _writing_to(self.workdir):
            if path := save_samples(self.workdir / "samples", step, result):
                self.say(f"samples: {path}")
            draw_curves(self.workdir, [(stage.start, str(stage)) for stage in self.pace.stages])

    def close(self) -> None:
        """Flushes and closes the files."""
        if not self.main:
            return
        if self.progress is not None:
            self.progress.close()
        # A write that failed was told of; closing tries it again.
        with contextlib.suppress(OSError):
            if self.board is not None:
                self.board.close()
        with contextlib.suppress(OSError):
            self.file.close()


@contextlib.contextmanager
def _writing_to(workdir: Path) -> Iterator[None]:
    """Turns what a folder that is gone, full or read-only raises into one line."""
    try:
        yield
    except OSError as error:
        if not (workdir / METRICS).is_file():
            raise UserError(
                f"{workdir} or its {METRICS} is gone: it must stay while the run lasts"
            ) from error
        raise UserError(
            f"can't write {error.filename or workdir}: {error.strerror}; the same command resumes "
            "from the last checkpoint"
        ) from error


def save_samples(folder: Path, step: int, result: Evaluation) -> Path | None:
    """Writes an evaluation's pictures as one sheet into `folder`; None where it has none."""
    if not result.pictures:
        return None
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{step:08d}.png"
    sheet = np.asarray(captioned_grid(result.pictures, titles=result.titles))
    write_image(path, sheet, mark="sheet")
    return path


def shown(values: Mapping[str, float]) -> str:
    """Metrics as one line for the log, without those that only curves are read from."""
    hidden = ("grad_norm", BASELINE, "/lr")
    kept = {k: v for k, v in values.items() if not any(part in k for part in hidden)}
    return "  ".join(f"{k} {_short(v)}" for k, v in kept.items())


def _forget_after(path: Path, step: int) -> None:
    """Drops lines that a resumed run will write again."""
    if not path.exists():
        return
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    partial.replace(path)


def environment(command: list[str] | None = None) -> dict[str, Any]:
    """Versions, devices, git revision and command line, for `environment.json`."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    devices = jax.devices()
    return {
        "command": command or sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "backend": jax.default_backend(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "git_revision": _git("rev-parse", "HEAD"),
        "git_changed": bool(_git("status", "--porcelain")),
    }


def _git(*args: str) -> str | None:
    """Output of a git command in the package's folder; None where it is no checkout."""
    try:
        found = subprocess.run(
            ["git", *args],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all.

    Raises:
      UserError: the folder can't be written.
    """
    try:
        partial = path.with_name(path.name + ".tmp")
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; choose another --workdir") from None


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.3e}"
