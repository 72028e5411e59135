"""What `jaxgen generate` does with files: names of pictures, a sheet of all, folders of many."""

from __future__ import annotations

import itertools
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxgen.data.picture_drawn import write_gif
from jaxgen.data.picture_files import read_image, write_image
from jaxgen.data.text import unicode
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.grid import captioned_grid, enlarge
from jaxgen.verbs.files import FORMATS
from jaxgen.verbs.generate import note
from jaxgen.verbs.generate.base import Drawing, TextToImage
from jaxgen.verbs.generate.film import GAP, Film, filmstrip
from jaxgen.verbs.generate.guide_run import Along

COLUMNS, MASKED_COLUMNS = 8, 2  # pictures of one text in a row of the sheet
MOST_SHOWN = 512  # pictures in a sheet
SHEET = "grid.png"  # in a folder of pictures
NAME = 50  # letters of a text in a file's name
GIF = ".gif"


class How(NamedTuple):
    """How pictures are drawn; see `Drawer`. options: the model's own, such as truncation. size:
    (height, width) of pictures of another size than the training's. along, film: what is done
    meanwhile, of a model whose pictures come about step by step; what looks on, of one that draws
    in steps. about: noted in PNGs, see `note.py`.
    """

    seed: int = 0
    first: int = 0
    same_noise: bool = False
    batch: int | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    size: tuple[int, int] | None = None
    along: Along | None = None
    init: np.ndarray | None = None
    mask: np.ndarray | None = None
    film: Film | None = None
    about: Mapping[str, Any] = MappingProxyType({})

    @property
    def filmed(self) -> bool:
        """Whether frames of each picture are kept."""
        return self.film is not None and self.film.frames > 0


class Cell(NamedTuple):
    """One picture: its caption in the sheet and the name of its file, without ending."""

    caption: str
    name: str


class Strip(NamedTuple):
    """One row of the sheet.

    Attributes:
      title: above it; "" where a text's pictures go on in a further row.
      cells: its pictures.
      prompts: the text of its pictures; of a way from one text to another both.
      numbers: of its pictures; of a way that of the first one.
      way: its pictures lie between two.
      text: what its pictures are of; of a way "".
    """

    title: str
    cells: tuple[Cell, ...]
    prompts: tuple[Prompt, ...]
    numbers: tuple[int, ...]
    way: bool = False
    text: str = ""


def read_prompts(path: Path) -> list[str]:
    """The texts of a file, one a line; empty lines are left out.

    Raises:
      UserError: no such file, not UTF-8, or no text in it.
    """
    lines = unicode.read_text(path.expanduser()).splitlines()
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UserError(f"{path} holds no text: write one prompt a line")
    return texts


def read_size(text: str) -> tuple[int, int]:
    """(height, width) of "496" or "320x512".

    Raises:
      UserError: another text.
    """
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if not found:
        raise UserError(f"--size {text}: give SIDE or HEIGHTxWIDTH in pixels, such as 320x512")
    return int(found[1]), int(found[2] or found[1])


def is_folder(out: Path, filmed: bool = False) -> bool:
    """Whether OUT means a folder of pictures, not one sheet.

    Args: filmed: whether frames are kept, which a .gif can show.

    Raises:
      UserError: a file's name of another format.
    """
    if out.is_dir() or not out.suffix:
        return True
    if out.suffix.lower() == GIF and filmed:
        return False
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"{out}: cannot write {out.suffix}; use .png, .jpg or .webp, or a folder")
    return False


def plan(
    texts: Sequence[str], prompts: Sequence[Prompt], n: int, how: How, masks: bool = False
) -> list[Strip]:
    """Rows of `n` pictures of each text, fewer in a row where masks stand beside them."""
    columns = MASKED_COLUMNS if masks else COLUMNS
    strips = []
    for text, prompt, stem in zip(texts, prompts, stems(texts), strict=True):
        numbers = range(how.first, how.first + n)
        cells = [Cell(_caption(how, k), f"{stem}_seed{how.seed}_{k}") for k in numbers]
        for start in range(0, n, columns):
            end = start + columns
            title = "" if start else text
            part = tuple(numbers[start:end])
            strips.append(Strip(title, tuple(cells[start:end]), (prompt,), part, text=text))
    return strips


def plan_ways(
    texts: Sequence[str], prompts: Sequence[Prompt], steps: int, n: int, how: How
) -> list[Strip]:
    """`n` rows of `steps` pictures: between two texts, or of one text between two noises."""
    stem = "_to_".join(stems(texts, NAME // len(texts)))
    strips = []
    for k in range(how.first, how.first + n):
        captions = ["", *(f"{i / (steps - 1):.2f}" for i in range(1, steps - 1)), ""]
        captions[0] = _caption(how, k)
        captions[-1] = _caption(how, k if len(texts) == 2 else k + 1)
        cells = [
            Cell(caption, f"{stem}_seed{how.seed}_{k}_{i:03d}")
            for i, caption in enumerate(captions)
        ]
        strips.append(Strip(" to ".join(texts), tuple(cells), tuple(prompts), (k,), way=True))
    return strips


def stems(texts: Sequence[str], length: int = NAME) -> list[str]:
    """A file name's beginning for each text: its words; with a number where two would be alike."""
    whole = ["_".join(_words(text)) or "empty" for text in texts]
    count = Counter(name[:length] for name in whole)
    return [
        name
        if count[name[:length]] == 1 and len(name) <= length
        else f"{name[:length]}_{zlib.crc32(text.encode()):08x}"
        for text, name in zip(texts, whole, strict=True)
    ]


def _words(text: str) -> list[str]:
    """What of a text a file's name can hold: its words, and emoji."""
    letters = r"\w+" if text.isascii() else rf"{unicode.emoji()}|(?:\w[{unicode.marks()}]*)+"
    return re.findall(letters, unicode.lower(text))


def new_sheet(texts: Sequence[str], seed: int, way: bool = False) -> Path:
    """A file in the current folder that is not there yet, named by the texts and the seed."""
    if way:
        name = "_to_".join(stems(texts, NAME // len(texts)))
    else:
        name = stems(texts[:1])[0] + (f"_and_{len(texts) - 1}_more" if len(texts) > 1 else "")
    name = f"{name}_seed{seed}"
    again = (f"{name}_{number}.png" for number in itertools.count(2))
    return next(p for p in map(Path, itertools.chain([f"{name}.png"], again)) if not p.exists())


def pictures(generate: TextToImage[Any], strips: Sequence[Strip], how: How) -> Iterator[Drawing]:
    """Draws all cells of the rows, in their order; the rows are all ways, or none is."""
    if not any(strip.way for strip in strips):
        jobs = [(strip.prompts[0], number) for strip in strips for number in strip.numbers]
        asked = {
            "along": how.along, "init": how.init, "mask": how.mask,
            "watch": None if how.film is None else how.film.watch,
        }  # fmt: skip
        more: dict[str, Any] = {name: one for name, one in asked.items() if one is not None}
        yield from generate.each(
            jobs, seed=how.seed, same_noise=how.same_noise, size=how.size, batch=how.batch,
            **more, **how.options,
        )  # fmt: skip
        return
    for strip in strips:
        way = generate.between(
            strip.prompts[0], strip.prompts[1] if len(strip.prompts) == 2 else None,
            len(strip.cells), seed=how.seed, first=strip.numbers[0], batch=how.batch,
            **how.options,
        )  # fmt: skip
        yield from ((picture, ()) for picture in way)


def check_sheet(count: int) -> None:
    """Raises UserError if there are too many pictures for one sheet."""
    if count > MOST_SHOWN:
        raise UserError(
            f"{count} pictures are too many for one file ({MOST_SHOWN}): give a folder to -o"
        )


def write_sheet(
    generate: TextToImage[Any],
    strips: Sequence[Strip],
    out: Path,
    how: How,
    moved: Callable[[], None],
    masks: bool = False,
) -> None:
    """Draws the rows and writes them as one picture with captions, or filmed as a .gif.

    Args:
      masks: show them beside the pictures.
      moved: called after each picture.
    """
    drawn, films = [], []
    for picture, levels in pictures(generate, strips, how):
        if how.film is not None and how.filmed:
            films.append(how.film.of(picture))
        drawn.append(beside(picture, levels if masks else ()))
        moved()
    if out.suffix.lower() == GIF:
        write_gif(out, [sheet(strips, frames) for frames in zip(*films, strict=True)])
        return
    shown = [filmstrip(frames) for frames in films] if films else drawn
    write_image(out, sheet(strips, shown), note=note.text(how.about), mark="sheet")


def write_folder(
    generate: TextToImage[Any],
    strips: Sequence[Strip],
    folder: Path,
    how: How,
    moved: Callable[[], None],
    masks: bool = False,
) -> None:
    """Draws the rows, and writes each picture to a PNG of its own.

    Args:
      strips: what is still to be drawn.
      how: where it films, NAME_steps.png is written, too.
      masks: also write NAME_masks.png: the picture with its masks.
      moved: called after each picture.
    """
    cells = [(strip, i) for strip in strips for i in range(len(strip.cells))]
    for (strip, i), (picture, levels) in zip(cells, pictures(generate, strips, how), strict=True):
        name = strip.cells[i].name
        if masks:
            write_image(folder / f"{name}_masks.png", beside(picture, levels), mark="masks")
        if how.film is not None and how.filmed:
            write_image(folder / f"{name}_steps.png", filmstrip(how.film.of(picture)), mark="steps")
        # Last: with it the work is done.
        write_image(folder / f"{name}.png", picture, note=noted(how, strip, i))
        moved()


def noted(how: How, strip: Strip, i: int) -> str:
    """The note of a row's i-th picture; of those on a way nothing, as none is drawn alone."""
    return "" if strip.way else note.text(note.of_one(how.about, strip.text, strip.numbers[i]))


def missing(
    strips: Sequence[Strip], folder: Path, masks: bool = False, filmed: bool = False
) -> list[Strip]:
    """What of the rows is not in the folder yet; of a way all or nothing."""
    ends = ["", *(["_masks"] if masks else []), *(["_steps"] if filmed else [])]

    def absent(cell: Cell) -> bool:
        return not all((folder / f"{cell.name}{end}.png").exists() for end in ends)

    left = []
    for strip in strips:
        lacks = [absent(cell) for cell in strip.cells]
        if all(lacks) or (strip.way and any(lacks)):
            left.append(strip)
        elif any(lacks):
            cells = tuple(c for c, lack in zip(strip.cells, lacks, strict=True) if lack)
            numbers = tuple(k for k, lack in zip(strip.numbers, lacks, strict=True) if lack)
            left.append(strip._replace(cells=cells, numbers=numbers))
    return left


def write_folder_sheet(strips: Sequence[Strip], folder: Path, masks: bool = False) -> Path:
    """The sheet of the first of a folder's pictures, read from their files."""
    shown: list[Strip] = []
    for strip in strips:
        if sum(len(s.cells) for s in shown) + len(strip.cells) > MOST_SHOWN:
            break
        shown.append(strip)
    ending = "_masks.png" if masks else ".png"
    drawn = [read_image(folder / f"{c.name}{ending}") for strip in shown for c in strip.cells]
    path = folder / SHEET
    write_image(path, sheet(shown, drawn), mark="sheet")
    return path


def sheet(strips: Sequence[Strip], drawn: Sequence[np.ndarray]) -> np.ndarray:
    """The rows as one picture, uint8 (h, w, 3); small pictures are enlarged by whole factors."""
    left = iter(drawn)
    rows = [[(cell.caption, enlarge(next(left))) for cell in strip.cells] for strip in strips]
    titles = [strip.title for strip in strips]
    return np.asarray(captioned_grid(rows, titles=titles, max_side=4096))


def beside(picture: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """A picture and its masks, light where they are 1, in a row; the picture alone without masks.

    Args:
      picture: uint8 (n, n, 3). masks: (h, w) float32 in [0, 1] each, of any size.
    """
    if not masks:
        return picture
    large = enlarge(picture)
    parts = [large]
    for mask in masks:
        gray = Image.fromarray(np.clip(np.round(mask * 255), 0, 255).astype(np.uint8))
        level = np.asarray(gray.resize(large.shape[1::-1], Image.Resampling.NEAREST))
        parts.append(np.full((large.shape[0], GAP, 3), 255, np.uint8))
        parts.append(np.repeat(level[..., None], 3, axis=-1))
    return np.concatenate(parts, axis=1)


def _caption(how: How, number: int) -> str:
    return f"seed {how.seed} #{number}"
