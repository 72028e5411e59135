"""The command `jaxgen`: upscale, eval, models, prepare, export. Training is `jaxgen.main`.

Everything slow (jax above all) is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import enum
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen import __version__
from jaxgen.errors import UserError

DEFAULT_MODEL = "srgan_x4"

app = typer.Typer(
    help="Generates and enlarges pictures with models trained by jaxgen.",
    epilog="Train: python -m jaxgen.main --config=configs/srgan.py",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(enum.StrEnum):
    """File formats that `upscale` writes."""

    png = "png"
    jpg = "jpg"
    webp = "webp"


class Gray(enum.StrEnum):
    """How gray originals are measured."""

    keep = "keep"
    replicate = "replicate"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"jaxgen {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


# ------------------------------------------------------------------------------------- upscale


@app.command()
def upscale(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO", help="Pictures, or folders of pictures.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The folder to write to; for one picture also a file name."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, an exported model's folder, or a bundled model (`jaxgen "
            "models`). srgan_x4 gives sharp pictures with likely detail; srresnet_x4 is softer "
            "and closer to the original."
        ),
    ] = DEFAULT_MODEL,
    tile: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the tiles in input pixels. The result is the same without; smaller "
            "tiles need less memory and more time. Default: what memory allows.",
        ),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="File format; by default OUT's, else png.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace pictures that are there; otherwise they are left out.")
    ] = False,
) -> None:
    """Enlarge photos.

    Gray stays gray, transparency is kept (PNG, WebP), EXIF rotation is applied.

    A picture that can't be read is named and the others are done; exit code 1.
    """
    from jaxgen import upscale_files

    out = out.expanduser()
    jobs = upscale_files.plan_outputs(photos, out, format.value if format else None)
    single = len(jobs) == 1
    if not overwrite and single and jobs[0][1].exists():
        raise UserError(f"{jobs[0][1]} exists; give --overwrite to replace it")
    upscale_files.check_writable(jobs[0][1].parent if single else out)

    from tqdm import tqdm

    from jaxgen.run import load

    opened = load(model)
    _ = opened.scale  # a model that does not upscale is refused here, not once per picture
    failed = skipped = 0
    style = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
    # disable=None: no bar where stderr is not a terminal.
    with (
        _interruptible() as check,
        tqdm(total=len(jobs), unit="photo", disable=None, bar_format=style) as bar,
    ):

        def moved(done: int, total: int) -> None:
            check()
            bar.update(index + done / total - bar.n)

        def say(text: str, file: Any) -> None:
            with bar.external_write_mode(file=file):
                print(text, file=file, flush=True)

        for index, (source, target) in enumerate(jobs):
            if target.exists() and not overwrite:
                skipped += 1
            else:
                try:
                    began = time.monotonic()
                    size = upscale_files.upscale_file(opened, source, target, tile, moved)
                    took = time.monotonic() - began
                    say(f"{target}  {size[1]}x{size[0]}  {took:.1f} s", sys.stdout)
                except (UserError, OSError) as error:
                    if upscale_files.fatal(error):
                        raise UserError(f"{error}; {len(jobs) - index} pictures left") from error
                    failed += 1
                    say(f"error: {upscale_files.naming(source, error)}", sys.stderr)
            moved(1, 1)
    if skipped:
        print(f"{skipped} of {len(jobs)} were there already (--overwrite replaces them)")
    if failed:
        print(f"{failed} of {len(jobs)} pictures failed", file=sys.stderr)
        raise typer.Exit(1)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Gives a function that raises KeyboardInterrupt if one was lost.

    Python drops exceptions inside finalizers, and JAX runs one at every garbage collection: a
    Ctrl-C that falls into it would have no effect.
    """
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: signals don't come here
        yield check
        return
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


# ---------------------------------------------------------------------------------------- eval


@app.command("eval")
def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of originals, or of HR and LR pairs. Without an LR folder the small "
            "pictures are made by MATLAB-exact bicubic resizing."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A run's folder, a bundled model, or 'bicubic' alone.")
    ] = DEFAULT_MODEL,
    gray: Annotated[
        Gray,
        typer.Option(
            help="Gray originals: measured as gray (as the MATLAB scripts do), or replicated to "
            "RGB first, which reads 1.3 dB higher on them."
        ),
    ] = Gray.keep,
    shave: Annotated[
        int | None, typer.Option(min=0, help="Border pixels left out; default: the scale.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(min=2, help="Scale for --model bicubic [default: 4].")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers to this file.")
    ] = None,
) -> None:
    """Measure PSNR and SSIM of a model on a folder of pictures, with bicubic beside."""
    from jaxgen.data.sr import folder_pairs
    from jaxgen.metrics.sr_evaluation import compare

    if json_file:
        from jaxgen.upscale_files import check_writable

        check_writable(json_file.parent)
    opened = None
    if model != "bicubic":
        from jaxgen.run import load

        opened = load(model)
        if scale not in (None, opened.scale):
            raise UserError(f"{model} upscales by {opened.scale}, not by {scale}")
    factor = opened.scale if opened else scale or 4
    border = factor if shave is None else shave
    rows: list[dict[str, Any]] = []
    for name, low, high in folder_pairs(data, factor, gray=gray.value):
        try:
            _, scores = compare(
                opened.upscale if opened else None, low, high, factor, border, gray.value
            )
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        rows.append({"name": name, **scores})
    if not rows:
        raise UserError(f"{data}: no pictures in this folder")
    mean = {
        kind: {key: math.fsum(r[kind][key] for r in rows) / len(rows) for key in rows[0][kind]}
        for kind in rows[0]
        if kind != "name"
    }
    _print_scores(rows, mean, f"{model} x{factor} on {data} (shave {border}, gray {gray.value})")
    if json_file:
        report = {
            "model": model,
            "step": opened.step if opened else None,
            "data": str(data),
            "scale": factor,
            "shave": border,
            "gray": gray.value,
            "mean": mean,
            "images": rows,
        }
        try:
            json_file.write_text(json.dumps(_finite(report), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {json_file}: {error.strerror}") from None


def _print_scores(rows: list[dict[str, Any]], mean: dict[str, Any], title: str) -> None:
    from rich.table import Table

    kinds = list(mean)
    table = Table(title=title)
    table.add_column("picture")
    for kind in kinds:
        for head in ("PSNR-Y", "SSIM-Y", "PSNR-RGB"):
            table.add_column(head if kind == "model" else f"{kind} {head}", justify="right")

    def add(name: str, scores: dict[str, dict[str, float]], **style: Any) -> None:
        cells = []
        for kind in kinds:
            s = scores[kind]
            cells += [f"{s['psnr_y']:.3f}", f"{s['ssim_y']:.4f}", f"{s['psnr_rgb']:.3f}"]
        table.add_row(name, *cells, **style)

    for row in rows:
        add(row["name"], row)
    table.add_section()
    add(f"mean of {len(rows)}", mean, style="bold")
    _console().print(table)


def _console() -> Any:
    """Rich's console; where the output is a pipe, lines are not broken at 80 columns."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=200)


def _finite(value: Any) -> Any:
    """JSON has no infinity (the PSNR of equal pictures): null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --------------------------------------------------------------------- models, prepare, export


@app.command()
def models() -> None:
    """List the bundled models."""
    from rich.table import Table

    from jaxgen.run import list_models

    table = Table("name", "family", "scale", "parameters", "evaluation", "about")
    for row in list_models():
        scale = f"x{row['scale']}" if row["scale"] else ""
        scores = ", ".join(f"{k} {v:.4g}" for k, v in list(row["metrics"].items())[:3])
        table.add_row(
            row["name"], row["family"], scale, f"{row['parameters']:,}", scores, row["headline"]
        )
    if not table.row_count:
        raise UserError("no model is bundled with this installation; install jaxgen again")
    _console().print(table)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="A dataset's name, e.g. div2k/bicubic_x4.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Where to put it; default: the user's TFDS folder.")
    ] = None,
) -> None:
    """Download a dataset and convert it for training (array_record, without TensorFlow)."""
    from jaxgen.data.prepare import prepare as prepare_dataset

    print(f"prepared: {prepare_dataset(name, data_dir or '')}")


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder.")],
    step: Annotated[
        int | None, typer.Option(min=0, help="Which checkpoint [default: the newest].")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The best evaluated checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a model exported there.")] = False,
) -> None:
    """Write a run's model as a folder to keep or to share: config, weights, model card."""
    from jaxgen.run import load

    if step is not None and best:
        raise UserError("--step and --best exclude each other; give one")
    model = load(run, step=step, best=best)
    folder = model.export(out, overwrite=overwrite)
    print(f"{folder}  step {model.step}  {model.parameters:,} parameters")


def main() -> None:
    """The command: user mistakes end in one line and exit code 2, Ctrl-C in 130."""
    try:
        app()
    except UserError as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
