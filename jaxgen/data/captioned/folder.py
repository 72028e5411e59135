"""A user's own captioned pictures: JSON Lines, a CSV table, or a text file beside each picture.

The first two name a picture per line, relative to the file or to the pictures' folder, and say
what it shows; a picture may come on several lines. See `docs/captions.md`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jaxgen.data.captioned.pictures import (
    CaptionedPictures,
    hold_out,
    named,
    refuse_empty,
    shared_meanings,
)
from jaxgen.data.picture_files import list_images
from jaxgen.data.picture_source import usable
from jaxgen.errors import NO_JSON, UserError, one_line, shown

EXAMPLE = "a text"
# Looked for in the pictures' folder, in this order.
USUAL = ("captions.jsonl", "metadata.jsonl", "captions.csv", "metadata.csv", "captions.tsv")
_FILE_KEYS = ("file", "file_name", "filename", "image", "path", "img")
_CAPTION_KEYS = ("caption", "captions", "text", "texts", "prompt", "description")
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "test", "dev", "eval"), "validation"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a captions file: picture, captions, split ("" if not said), and where it stands."""

    file: str
    captions: tuple[str, ...]
    split: str
    where: str


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
    texts = _find_captions(data, root)
    if texts.is_dir():
        rows = read_sidecars(pictures, texts)
        if not rows:
            raise UserError(
                f"{texts} holds no captions: put captions.jsonl or captions.csv into it, or a .txt "
                "file beside each picture, or set data.captions"
            )
        base = root
    else:
        rows, base = read_rows(texts), texts.parent
    captions, splits = _match(rows, pictures, base, root, data.on_bad)
    refuse_empty(len(captions), f"none of {texts}'s captions is of a picture in {root}")
    names = sorted(captions)
    if without := len(pictures) - len(names):
        lonely = [name for name in pictures if name not in captions]
        logging.warning("%d pictures without a caption are left out: %s", without, named(lonely))
    meanings = dict(zip(names, shared_meanings([captions[n] for n in names]), strict=True))
    if len(names) > 1 and len(set(meanings.values())) == 1:
        logging.warning(
            "all captions are equal, or linked by equal ones: no caption is false of any picture, "
            "and losses of mismatched pairs learn nothing"
        )
    held = _held_out(names, splits, data.holdout)
    chosen = [name for name in names if (name in held) == (split == "validation")]
    if not chosen:
        raise UserError(
            f"no {split} pictures among the {len(names)} captioned ones of {root}: set "
            "data.holdout, or 'split' in the captions file"
        )
    reader = usable([(name, pictures[name]) for name in chosen], 1, data.on_bad)
    captions = {name: captions[name] for name in reader.names}
    return CaptionedPictures(reader, captions, meanings, data)


def read_rows(path: Path) -> list[Row]:
    """The rows of a .jsonl, .csv or .tsv file. Raises UserError, with the line's number."""
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        rows = _read_jsonl(path)
    elif kind in (".csv", ".tsv"):
        rows = _read_csv(path)
    else:
        raise UserError(f"{path}: captions come as .jsonl, .csv or .tsv, or as a folder of .txt")
    if not rows:
        raise UserError(f"{path} holds no captions")
    return rows


def read_lines(path: Path) -> tuple[str, ...]:
    """The captions of a text file, one a line; empty lines are left out. Raises UserError."""
    return _clean(_text(path).splitlines())


def read_sidecars(pictures: Mapping[str, Path], folder: Path) -> list[Row]:
    """The captions in text files called like the pictures, in the same tree below `folder`."""
    rows = []
    for name in pictures:
        path = (folder / name).with_suffix(".txt")
        if path.is_file():
            rows.append(Row(name, read_lines(path), "", str(path)))
    return rows


# ---- reading -------------------------------------------------------------------------------------


def _find_captions(data: ConfigDict, root: Path) -> Path:
    """The captions file, or the folder of text files."""
    given = Path(data.captions).expanduser() if data.captions else root
    if not given.exists() and not given.is_absolute():
        given = root / given
    if not given.exists():
        raise UserError(f"data.captions={data.captions}: no such file or folder")
    if given.is_file():
        return given
    found = [given / name for name in USUAL if (given / name).is_file()]
    if len(found) > 1:
        logging.info("captions are read from %s, not from %s", found[0], found[1].name)
    return found[0] if found else given


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    # Not splitlines(): JSON text may hold U+2028 and the like unescaped.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg}, column {error.colno})") from None
        except NO_JSON as error:
            raise UserError(f"{where}: no JSON that can be read ({one_line(error)})") from None
        if not isinstance(record, dict):
            raise UserError(f'{where}: must be {{"file": ..., "caption": ...}}')
        rows.append(_row(record, where))
    return rows


def _read_csv(path: Path) -> list[Row]:
    text = _text(path)
    above = len(text) - len(text.lstrip("\r\n \t"))
    skipped = text[:above].count("\n")  # empty lines before the header
    text = text[above:]
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        for record in reader:
            where = f"{path}, line {skipped + reader.line_num}"
            if not any(record.values()):  # as spreadsheets leave them
                continue
            if None in record:
                raise UserError(
                    f"{where}: more fields than the header has; put captions that hold "
                    f"{delimiter!r} into double quotes"
                )
            rows.append(_row(record, where))
    except csv.Error as error:
        # The inner reader has counted the line at fault, too.
        line = skipped + reader.reader.line_num
        raise UserError(f"{path}, line {line}: not CSV ({error})") from None
    return rows


def _row(record: Mapping[str, Any], where: str) -> Row:
    lower = {str(key).strip().lower(): value for key, value in record.items()}
    file = _first(lower, _FILE_KEYS, where)
    captions = _first(lower, _CAPTION_KEYS, where)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(file, str) or not file.strip():
        raise UserError(f"{where}: the file must be a name, not {file!r}")
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise UserError(f"{where}: the caption must be a text or a list of texts, not {captions!r}")
    for text in (file, *captions):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"{where}: half a surrogate pair in {shown(text)}; write it as UTF-8")
    split = str(lower.get("split") or "").strip().lower()
    if split and split not in _SPLIT_NAMES:
        raise UserError(f"{where}: split must be train or validation, not {split!r}")
    return Row(
        file.strip().replace("\\", "/"), _clean(captions), _SPLIT_NAMES.get(split, ""), where
    )


def _first(record: Mapping[str, Any], keys: tuple[str, ...], where: str) -> Any:
    for key in keys:
        if key in record:
            return record[key]
    raise UserError(f"{where}: no {keys[0]!r} (or {', '.join(keys[1:])}); it has {list(record)}")


def _clean(captions: Iterable[str]) -> tuple[str, ...]:
    """Without white space around and within lines, without empty ones, each once."""
    stripped = (" ".join(caption.split()) for caption in captions)
    return tuple(dict.fromkeys(caption for caption in stripped if caption))


# ---- matching with pictures ----------------------------------------------------------------------


def _prefix(base: Path, root: Path) -> str:
    """What leads from the pictures' folder to the captions file's: "" or "sub/folder/"."""
    base, root = base.resolve(), root.resolve()
    if base != root and base.is_relative_to(root):
        return base.relative_to(root).as_posix() + "/"
    return ""


def _match(
    rows: list[Row], pictures: Mapping[str, Path], base: Path, root: Path, on_bad: str
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """(captions, said splits) by the pictures' names.

    Args: base: what the rows' names are relative to, beside the pictures' folder `root`.
    """
    prefix, whole_root = _prefix(base, root), root.resolve()
    stems: dict[str, str] = {}
    for name in pictures:
        stem = name.rpartition(".")[0]
        stems[stem] = "" if stem in stems else name  # two endings: ambiguous
    captions: dict[str, tuple[str, ...]] = {}
    splits: dict[str, str] = {}
    missing = []
    for row in rows:
        file = row.file.removeprefix("./")
        name = next((n for n in (file, prefix + file) if n in pictures), "")
        name = name or stems.get(file, "") or stems.get(prefix + file, "")
        name = name or _below(base / file, whole_root, pictures)
        if not name:
            missing.append(f"{row.file} ({row.where})")
        elif row.captions:
            before = splits.get(name, "")
            if before and row.split and before != row.split:
                raise UserError(f"{row.where}: {row.file} is of {row.split}, and of {before} above")
            captions[name] = tuple(dict.fromkeys((*captions.get(name, ()), *row.captions)))
            splits[name] = row.split or splits.get(name, "")
    if missing:
        said = f"{len(missing)} of {len(rows)} captions are of missing pictures: {named(missing)}"
        if on_bad == "error":
            raise UserError(f"{said}; data.on_bad='skip' leaves them out")
        logging.warning("%s", said)
    return captions, splits


def _below(path: Path, root: Path, pictures: Mapping[str, Path]) -> str:
    """The picture's name of a path that leads into `root` by way of elsewhere; "": none."""
    try:
        name = Path(os.path.normpath(path.absolute())).relative_to(root).as_posix()
    except ValueError:
        return ""
    return name if name in pictures else ""


def _held_out(names: list[str], splits: Mapping[str, str], share: float) -> set[str]:
    if any(splits.values()):
        return {name for name in names if splits[name] == "validation"}
    return hold_out(names, share)
