"""`jaxgen index` and `jaxgen search`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxgen.cli.common import JsonFile, interruptible
from jaxgen.errors import UserError


def index(
    folder: Annotated[Path, typer.Argument(help="Pictures, with all that lies below.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The index, a folder of its own.")],
    model: Annotated[
        str, typer.Option(help="A run's folder, an exported or converted model: tirg or clip.")
    ],
) -> None:
    """Look at a folder's pictures, so that they can be searched.

    Again with the same folder it looks at new and changed pictures alone, and leaves out those that
    are gone; stopped at any moment it goes on where it was. A picture that can't be read is named
    and the others are done; exit code 1.
    """
    from jaxgen.runs.model import load
    from jaxgen.verbs.retrieve import build
    from jaxgen.verbs.retrieve.encoder import encoder_of

    if not folder.expanduser().is_dir():
        raise UserError(f"{folder}: no such folder")
    encoder = encoder_of(load(model), model)

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total}", end="" if done < total else "\n", file=sys.stderr)

    with interruptible() as check:
        report = build.update(folder, out, encoder, check, progress)
    again = f" ({report.rebuilt} damaged entries among them)" if report.rebuilt else ""
    print(
        f"{out}  {report.looked_at} looked at{again}, {report.known} known by their content, "
        f"{report.kept} unchanged, {report.removed} removed"
    )
    for error in report.broken:
        print(f"error: {error}", file=sys.stderr)
    if report.broken:
        raise typer.Exit(1)


def search(
    place: Annotated[Path, typer.Argument(metavar="INDEX", help="What jaxgen index made.")],
    image: Annotated[
        list[Path] | None, typer.Option(help="Ask with a picture; repeatable.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Words: what is wanted, or what changes the picture; repeatable."),
    ] = None,
    unwanted: Annotated[
        list[str] | None, typer.Option("--not", help="Words for what is not wanted (clip).")
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(help="Ask with a picture of the index, by the path of a result; repeatable."),
    ] = None,
    weight: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="Of the words against the pictures.")
    ] = 1.0,
    count: Annotated[int, typer.Option("-k", min=1, help="Results at most.")] = 20,
    min_score: Annotated[float, typer.Option(help="Leave out what is less alike.")] = -1.0,
    where: Annotated[str, typer.Option(help="Only paths that match, such as '2024/*'.")] = "",
    keep_source: Annotated[
        bool, typer.Option(help="Let the picture that is asked with be a result.")
    ] = False,
    model: Annotated[str, typer.Option(help='The index\'s own; "": as it was named then.')] = "",
    engine: Annotated[
        str,
        typer.Option(help="exact; ann (usearch); or Qdrant's address, folder or :memory:."),
    ] = "exact",
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw the results: .png, .jpg or .webp.")
    ] = None,
    draw: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Also draw what picture and words ask for, by a model of family tirg_decoder: "
            "beside what was found, in the --sheet.",
        ),
    ] = "",
    json_file: JsonFile = None,
) -> None:
    """Find pictures of an index by a picture, by words, or by both.

    A model of family tirg reads words as a change of the picture; one of family clip finds by
    pictures, by words alone, and by sums of both. Scores are cosines. Pictures of equal content are
    one result.
    """
    from jaxgen.verbs.files import check_writable
    from jaxgen.verbs.retrieve.index import Index
    from jaxgen.weights.digests import skipped

    for file in (sheet, json_file):
        if file is not None:
            check_writable(file.parent)
    for said in (*(text or []), *(unwanted or [])):
        if not said.strip():
            raise UserError("the text is empty: say what is wanted, or leave it out")
    if not (image or text or like):
        raise UserError("give --image, --text or --like")
    if draw and not (sheet and text and (image or like)):
        raise UserError("--draw is of --text with --image or --like: give them, and --sheet")
    opened = Index(place)
    if not skipped():
        opened.leave_out_broken()
    if opened.damaged:
        print(
            f"warning: {opened.damaged} entries of {place} are damaged and left out; jaxgen index "
            "makes them again",
            file=sys.stderr,
        )
    asked = _asked(opened, image or [], text or [], unwanted or [], like or [], weight)
    _show(
        opened, asked, model, count, min_score, where, keep_source, engine, sheet, draw, json_file
    )


def _asked(
    opened: Any, images: list[Path], texts: list[str], unwanted: list[str], likes: list[str],
    weight: float,
) -> dict[str, Any]:  # fmt: skip
    """What is asked for, with the contents of the sources."""
    import hashlib

    from jaxgen.data.picture_files import read_image
    from jaxgen.errors import near

    pictures = [(str(path), read_image(path)) for path in images]
    contents = [hashlib.sha256(path.expanduser().read_bytes()).hexdigest() for path in images]
    for name in likes:
        if name not in opened.entries:
            raise UserError(f"--like {name} is not in the index{near(name, opened.entries)}")
        contents.append(opened.entries[name].sha)
        pictures.append((name, read_image(Path(opened.header.folder) / name)))
    return {
        "pictures": pictures,
        "contents": contents,
        "texts": texts,
        "unwanted": unwanted,
        "weight": weight,
    }


def _show(
    opened: Any, asked: dict[str, Any], model: str, count: int, least: float, where: str,
    keep_source: bool, engine: str, sheet: Path | None, draw: str, json_file: Path | None,
) -> None:  # fmt: skip
    from jaxgen.evaluation.report import write_report
    from jaxgen.runs.model import load
    from jaxgen.verbs.retrieve import search as searching
    from jaxgen.verbs.retrieve.encoder import Asked, encoder_of

    drawer = _drawer(draw) if draw else None  # a mistaken model is told before the search
    name = model or opened.header.model
    encoder = encoder_of(load(name), name)
    opened.check_model(name, encoder.fingerprint)
    images = [image for _, image in asked["pictures"]]
    query = encoder.query(Asked(images, asked["texts"], asked["unwanted"], asked["weight"]))
    results = searching.search(
        opened,
        query,
        count,
        left_out=() if keep_source else asked["contents"],
        where=where,
        least=least,
        engine=_engine(opened, engine),
    )
    for found in results:
        twins = f"  (also {', '.join(found.twins)})" if found.twins else ""
        print(f"{found.score:7.4f}  {found.path}{twins}")
    if not results:
        print("nothing is so much alike: lower --min-score", file=sys.stderr)
    if sheet is not None and results:
        import numpy as np

        from jaxgen.data.picture_files import write_image

        shown = [(Path(path).name, picture) for path, picture in asked["pictures"]]
        if drawer is not None:
            shown += _drawn(drawer, asked)
        drawn = searching.sheet(Path(opened.header.folder), results, shown)
        write_image(sheet, np.asarray(drawn))
    if json_file is not None:
        write_report(
            json_file,
            {
                "index": str(opened.place),
                "model": name,
                "gallery": len(opened.entries),
                "engine": engine,
                "source": "kept" if keep_source else "left out",
                "texts": asked["texts"],
                "not": asked["unwanted"],
                "results": [
                    {"path": f.path, "score": f.score, "twins": list(f.twins)} for f in results
                ],
            },
        )


def _drawer(draw: str) -> Any:
    from jaxgen.runs.model import load

    drawer = load(draw).edit
    if drawer.method().captioned:
        raise UserError(
            f"{draw} must be told what a picture shows: give --draw a run of family tirg_decoder"
        )
    return drawer


def _drawn(drawer: Any, asked: dict[str, Any]) -> list[tuple[str, Any]]:
    """(text, what is drawn of it) for each picture with each text."""
    return [
        (f"drawn: {text}", picture)
        for _, image in asked["pictures"]
        for text, picture in zip(
            asked["texts"], drawer(image, asked["texts"]).pictures, strict=True
        )
    ]


def _engine(opened: Any, engine: str) -> Any:
    from jaxgen.verbs.retrieve.engines import Ann, Qdrant

    if engine == "exact":
        return None
    if engine == "ann":
        made = Ann(opened.vectors, opened.place / f"graph-{opened.generation}.usearch")
        print(f"usearch finds {made.recall():.3f} of the exact answers", file=sys.stderr)
        return made
    return Qdrant(opened.vectors, engine, opened.header.fingerprint[:16])
