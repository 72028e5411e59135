"""A user's own captioned pictures: JSON Lines, a CSV table, or a text file beside each picture.

The first two name a picture per line, relative to the file or to the pictures' folder, and say
what it shows; a picture may come on several lines. See `docs/captions.md`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from absl import logging
from ml_collections import ConfigDict

from jaxgen.data.captioned.pictures import (
    CaptionedPictures,
    buckets_of,
    hold_out,
    named,
    refuse_empty,
    shared_meanings,
)
from jaxgen.data.captioned.rows import SPLIT_NAMES, Row, read_rows, read_sidecars
from jaxgen.data.picture_files import list_images
from jaxgen.data.picture_source import usable
from jaxgen.data.text.unicode import nfc
from jaxgen.errors import UserError

EXAMPLE = "a text"
BUCKETS = True
# Looked for in the pictures' folder, in this order.
USUAL = ("captions.jsonl", "metadata.jsonl", "captions.csv", "metadata.csv", "captions.tsv")
# Rows, and what their pictures' names are relative to.
Found = list[tuple[list[Row], Path]]


def open_records(data: ConfigDict, split: str) -> CaptionedPictures:
    """The captioned pictures of `data.path`, for "train" or "validation".

    Pictures that share an equal caption have the same meaning. Validation pictures are those whose
    rows say so ("split"), else `data.holdout` of them by a hash of their names.

    Raises:
      UserError: no pictures or captions, a malformed line, or, with `data.on_bad="error"`,
        captions whose picture is missing and unreadable pictures.
    """
    if not data.path:
        raise UserError("data.source='folder' needs data.path, the folder of your pictures")
    root = Path(data.path).expanduser()
    paths = list_images(root)
    if not root.is_dir() or not paths:
        raise UserError(f"{root} holds no pictures (PNG, JPEG, WebP, TIFF or BMP)")
    pictures = {path.relative_to(root).as_posix(): path for path in paths}
    captions, splits = _captioned(data, root, pictures)
    names = sorted(captions)
    if without := len(pictures) - len(names):
        lonely = [name for name in pictures if name not in captions]
        logging.warning("%d pictures without a caption are left out: %s", without, named(lonely))
    meanings = dict(zip(names, shared_meanings([captions[n] for n in names]), strict=True))
    held = _held_out(names, splits, data.holdout)
    chosen = [name for name in names if (name in held) == (split == "validation")]
    if not chosen:
        raise UserError(
            f"no {split} pictures among the {len(names)} captioned ones of {root}: set "
            "data.holdout, or 'split' in the captions file"
        )
    reader = usable([(name, pictures[name]) for name in chosen], 1, data.on_bad)
    captions = {name: captions[name] for name in reader.names}
    shapes = buckets_of(reader.paths, data, split)
    return CaptionedPictures(reader, captions, meanings, data, shapes)


def _captioned(
    data: ConfigDict, root: Path, pictures: Mapping[str, Path]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """(captions, said splits) by the pictures' names below `root`."""
    if said := tuple(data.get("texts", ())):
        return dict.fromkeys(pictures, said), dict.fromkeys(pictures, "")
    texts = _given(data, root)
    captions, splits = _match(_find_rows(texts, pictures), pictures, root, data.on_bad)
    refuse_empty(len(captions), f"none of {texts}'s captions is of a picture in {root}")
    return captions, splits


# ---- finding -------------------------------------------------------------------------------------


def _given(data: ConfigDict, root: Path) -> Path:
    """The captions file, or the folder that holds captions."""
    given = Path(data.captions).expanduser() if data.captions else root
    if not given.exists() and not given.is_absolute():
        given = root / given
    if not given.exists():
        raise UserError(f"data.captions={data.captions}: no such file or folder")
    return given


def _find_rows(texts: Path, pictures: Mapping[str, Path]) -> Found:
    """All rows of a captions file, or of a folder: of its file, of those below it, or of texts."""
    if texts.is_file():
        return [(read_rows(texts), texts.parent)]
    if file := _usual(texts):
        return [(read_rows(file), texts)]
    folders = {folder for name in pictures for folder in PurePosixPath(name).parents}
    below = [file for folder in sorted(folders) if (file := _usual(texts / folder))]
    if below:
        logging.info("captions are read from %s", named([str(file) for file in below]))
        return _split_by_folder([(read_rows(file), file.parent) for file in below], texts)
    rows = read_sidecars(pictures, texts)
    if not rows:
        raise UserError(
            f"{texts} holds no captions: put captions.jsonl or captions.csv into it, or a .txt "
            "file beside each picture, or set data.captions"
        )
    return [(rows, texts)]


def _usual(folder: Path) -> Path | None:
    found = [folder / name for name in USUAL if (folder / name).is_file()]
    if len(found) > 1:
        logging.info("captions are read from %s, not from %s", found[0], found[1].name)
    return found[0] if found else None


def _split_by_folder(found: Found, root: Path) -> Found:
    """Rows below folders that are called train and validation (or test, ...) are of that split."""

    def split(base: Path) -> str:
        parts = base.relative_to(root).parts
        return SPLIT_NAMES.get(parts[0].lower(), "") if parts else ""

    if "validation" not in {split(base) for _, base in found}:
        return found
    return [
        ([dataclasses.replace(row, split=row.split or split(base)) for row in rows], base)
        for rows, base in found
    ]


# ---- matching with pictures ----------------------------------------------------------------------


def _prefix(base: Path, root: Path) -> str:
    """What leads from the pictures' folder to the captions file's: "" or "sub/folder/"."""
    base, root = base.resolve(), root.resolve()
    if base != root and base.is_relative_to(root):
        return nfc(base.relative_to(root).as_posix()) + "/"
    return ""


class _Names:
    """The pictures' names as captions files write them: in NFC, by paths, without endings."""

    def __init__(self, pictures: Mapping[str, Path], root: Path):
        self._root, self._pictures = f"{nfc(str(root.absolute()))}/", pictures
        self._names: dict[str, str] = {}
        self._stems: dict[str, str] = {}
        for name in pictures:
            key = nfc(name)
            if key == name or key not in self._names:
                self._names[key] = name
            stem = key.rpartition(".")[0]
            # Two endings: ambiguous. Two forms of one name are one.
            other = self._stems.get(stem, name)
            self._stems[stem] = name if nfc(other) == key else ""

    def find(self, file: str, prefix: str, base: Path) -> str:
        """The picture's name below the folder; "": there is none."""
        file = file.removeprefix("./")
        for key in (file, prefix + file):
            if key in self._names:
                return self._names[key]
        return (
            self._stems.get(file, "") or self._stems.get(prefix + file, "") or self._by(base, file)
        )

    def _by(self, base: Path, file: str) -> str:
        """Of a path that leads to a picture by way of elsewhere, links included."""
        path = (base / file).absolute()
        key = nfc(os.path.normpath(path)).removeprefix(self._root)
        try:
            return self._names.get(key, "") or self._real.get(nfc(os.path.realpath(path)), "")
        except ValueError:  # no file can have such a name
            return ""

    @functools.cached_property
    def _real(self) -> dict[str, str]:
        """The pictures' names by where they lie in truth."""
        return {nfc(os.path.realpath(path)): name for name, path in self._pictures.items()}


def _match(
    found: Found, pictures: Mapping[str, Path], root: Path, on_bad: str
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """(captions, said splits) by the pictures' names below `root`."""
    names = _Names(pictures, root)
    captions: dict[str, tuple[str, ...]] = {}
    splits: dict[str, str] = {}
    missing = []
    for rows, base in found:
        prefix = _prefix(base, root)
        for row in rows:
            name = names.find(row.file, prefix, base)
            if not name:
                missing.append(f"{row.file} ({row.where})")
            elif row.captions:
                before = splits.get(name, "")
                if before and row.split and before != row.split:
                    raise UserError(
                        f"{row.where}: {row.file} is of {row.split}, and of {before} above"
                    )
                captions[name] = tuple(dict.fromkeys((*captions.get(name, ()), *row.captions)))
                splits[name] = row.split or before
    if missing:
        count = sum(len(rows) for rows, _ in found)
        said = f"{len(missing)} of {count} captions are of missing pictures: {named(missing)}"
        if on_bad == "error":
            raise UserError(f"{said}; data.on_bad='skip' leaves them out")
        logging.warning("%s", said)
    return captions, splits


def _held_out(names: list[str], splits: Mapping[str, str], share: float) -> set[str]:
    if any(splits.values()):
        return {name for name in names if splits[name] == "validation"}
    return hold_out(names, share)
