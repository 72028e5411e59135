"""`jaxgen eval edit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import (
    EditMethod,
    JsonFile,
    OptionTexts,
    console,
    interruptible,
    read_options,
)
from jaxgen.errors import UserError


def edit(
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, an exported or a bundled model that edits; without --list of "
            "family tirg_decoder."
        ),
    ],
    list_path: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FOLDER",
            help="A published list of edits to make and measure: PIE-Bench's folder with "
            "mapping_file.json, or TEdBench's with input_list.json; or that file.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="With --list: a folder for the edits and each picture's numbers. The same "
            "command again goes on where it ended.",
        ),
    ] = None,
    method: EditMethod = None,
    option: OptionTexts = None,
    source: Annotated[
        str | None,
        typer.Option(help="What the pictures show where the list does not say it: TEdBench's."),
    ] = None,
    instructions: Annotated[
        bool,
        typer.Option(
            "--instructions",
            help="Tell the model what to do (the list's editing_instruction), and not what the "
            "result shall show.",
        ),
    ] = False,
    clip: Annotated[
        str | None,
        typer.Option(help="For CLIP scores: a trained, exported, converted or bundled CLIP."),
    ] = None,
    lpips: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="For LPIPS: --lpips TRUNK --lpips HEADS, as of `jaxgen eval upscale`. Published "
            "numbers are SqueezeNet's.",
        ),
    ] = None,
    dino: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For the structure distance: weights of a DINO ViT, dino_vitbase8_pretrain.pth.",
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Structure distance as PIE-Bench's code computes it, with pixels of 0..255 where "
            "the network expects [0, 1]: to compare with its tables.",
        ),
    ] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Edits at a time.")] = None,
    queries: Annotated[
        int, typer.Option(min=0, help="So many test queries or edits, evenly chosen; 0: all.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the noise.")] = 0,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Without --list: also show twelve of the queries, source, drawn and target.",
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure how well pictures are edited, on a published list or a model's own queries.

    With --list the pictures of PIE-Bench or TEdBench are edited, and judged by what had to stay
    and what was asked for (docs/editing.md). What needs weights that are not given is left out.

    Without it, of composed retrieval: how much of what a picture and words ask for is drawn.
    Beside it stand the picture that retrieval finds, and the source as it is. On CSS's flat scenes
    all are read exactly, object by object.
    """
    from jaxgen.verbs.edit.files import check_out
    from jaxgen.verbs.files import check_writable

    if json_file:
        check_writable(json_file.parent)
    if list_path is None:
        own = {
            "--out": out, "--method": method, "--option": option, "--source": source,
            "--instructions": instructions, "--clip": clip, "--lpips": lpips, "--dino": dino,
            "--published": published, "--batch": batch,
        }  # fmt: skip
        if given := [name for name, value in own.items() if value]:
            raise UserError(f"{given[0]} is for a list of edits: give --list, its folder")
        if sheet is not None:
            if check_out(sheet.expanduser()):
                raise UserError(f"--sheet={sheet} is no picture's file: end it in .png")
            check_writable(sheet.expanduser().parent)
        _queries(model, queries, seed, json_file, sheet)
        return
    if sheet is not None:
        raise UserError("--sheet is of a model's own queries: leave --list out")
    if out is None:
        raise UserError("the edits of --list need a folder: give one to -o")
    check_writable(out)

    from jaxgen.data.edit_lists import read_edit_list

    listed = read_edit_list(list_path)

    from jaxgen.evaluation import edit_lists, report
    from jaxgen.evaluation.edit_judge import EditJudge
    from jaxgen.runs.model import load

    use = load(model).edit
    chosen = use.method(method or "")
    judge = EditJudge(None if clip is None else load(clip).embed, lpips or (), dino, published)
    how = edit_lists.How(
        method or "", read_options(option, chosen.options), source or "", instructions, seed, batch
    )
    with interruptible() as check, _Bar() as bar:

        def progress(what: str, done: int, whole: int) -> None:
            bar.show(what, done, whole)
            check()

        measured = edit_lists.evaluate(use, listed, out, judge, how, queries, progress)
    _show(measured, f"{model} by {measured['method']} on {listed.kind} ({list_path})")
    print(f"each picture's numbers: {out / edit_lists.SCORES}")
    if json_file:
        report.write_report(json_file, measured)


def _queries(
    model: str, queries: int, seed: int, json_file: Path | None, sheet: Path | None
) -> None:
    from jaxgen.evaluation import drawing, report
    from jaxgen.runs.model import load

    with interruptible() as check:
        measured = drawing.evaluate_model(
            load(model), queries, seed, check, sheet and sheet.expanduser()
        )
    for name, scores in measured["scores"].items():
        report.show_numbers(scores, f"{name}: {model} on {measured['data']}", console())
    print(f"{measured['queries']:,} queries; {measured['rules']}")
    if sheet is not None:
        print(sheet)
    if json_file:
        report.write_report(json_file, measured)


def _show(measured: dict[str, Any], title: str) -> None:
    from jaxgen.evaluation import report

    by_type = measured.get("by type", {})
    columns = {"all": measured["mean"]} | {key: one["mean"] for key, one in by_type.items()}
    report.show_columns(columns, title, console())
    print(f"{measured['pictures']:,} pictures", end="")
    print("".join(f"; {key} {one['type']}: {one['pictures']}" for key, one in by_type.items()))
    if measured["equal"]:
        print(f"{measured['equal']} stay as they are outside the mask: in no mean of PSNR")
    for name, what in measured["left out"].items():
        print(f"left out: {name}: {what}")
    for kind in ("missing", "failed"):
        for name, why in list(measured[kind].items())[:10]:
            print(f"{kind}: {name}: {why}")
        if len(measured[kind]) > 10:
            print(f"{kind}: {len(measured[kind]):,} in all; --json names them")


class _Bar:
    """A bar for each thing that is done; none where stderr is not a terminal."""

    def __enter__(self) -> _Bar:
        self._bar: Any = None
        self._what = ""
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, what: str, done: int, whole: int) -> None:
        """So many are done."""
        from tqdm import tqdm

        if what != self._what:
            self.__exit__()
            self._bar, self._what = tqdm(total=whole, unit=f" {what}", disable=None), what
        self._bar.update(done - self._bar.n)
