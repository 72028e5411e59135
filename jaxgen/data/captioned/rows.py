"""Files of captions: JSON Lines, CSV tables and text files, as rows. See `docs/captions.md`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxgen.data.text.unicode import nfc, plain, read_text
from jaxgen.errors import NO_JSON, UserError, one_line

_FILE_KEYS = ("file", "file_name", "filename", "image", "path", "img")
_CAPTION_KEYS = ("caption", "captions", "text", "texts", "prompt", "description")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "test", "dev", "eval"), "validation"),
}
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a captions file: picture, captions, split ("" if not said), and where it stands."""

    file: str
    captions: tuple[str, ...]
    split: str
    where: str


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
    return clean(read_text(path).splitlines())


def read_sidecars(pictures: Mapping[str, Path], folder: Path) -> list[Row]:
    """The captions in text files called like the pictures, in the same tree below `folder`."""
    rows = []
    listed: dict[Path, dict[str, Path]] = {}
    for name in pictures:
        path = (folder / name).with_suffix(".txt")
        if not (name.isascii() or path.is_file()) and path.parent.is_dir():
            if path.parent not in listed:
                listed[path.parent] = {nfc(p.name): p for p in path.parent.iterdir()}
            path = listed[path.parent].get(nfc(path.name), path)
        if path.is_file():
            rows.append(Row(name, read_lines(path), "", str(path)))
    return rows


def clean(captions: Iterable[str]) -> tuple[str, ...]:
    """In NFC, without white space around and within lines, without empty ones, each once."""
    stripped = (" ".join(plain(caption).split()) for caption in captions)
    return tuple(dict.fromkeys(caption for caption in stripped if caption))


# ---- JSON Lines ----------------------------------------------------------------------------------


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    # Not splitlines(): JSON text may hold U+2028 and the like unescaped.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
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


# ---- tables --------------------------------------------------------------------------------------


def _read_csv(path: Path) -> list[Row]:
    header: list[str] = []
    rows = []
    for number, fields in _table(path):
        where = f"{path}, line {number}"
        while fields and not fields[-1].strip() and len(fields) > len(header) > 0:
            fields.pop()  # a spreadsheet's empty columns
        if not any(field.strip() for field in fields):  # and its empty rows
            continue
        if not header:
            header = fields
            continue
        if len(fields) > len(header):
            raise UserError(
                f"{where}: more fields than the header has; put captions that hold the mark "
                "between fields into double quotes"
            )
        filled: list[str | None] = [*fields, *[None] * (len(header) - len(fields))]
        rows.append(_row(dict(zip(header, filled, strict=True)), where))
    return rows


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, fields) of each row."""
    text = read_text(path)
    first = next((line for line in _LINE_END.split(text) if line.strip(" ,;\t")), "")
    before = csv.field_size_limit(len(text) + 1)  # long captions are welcome
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True
    )
    begins = 1
    try:
        for fields in reader:
            yield begins, fields
            begins = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise UserError(
                f'{path}, line {begins}: not CSV (a quote, ", begins here and does not end)'
            ) from None
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    finally:
        csv.field_size_limit(before)


# ---- rows ----------------------------------------------------------------------------------------


def _row(record: Mapping[str, Any], where: str) -> Row:
    lower = {str(key).strip().lower(): value for key, value in record.items()}
    file = _first(lower, _FILE_KEYS, where)
    captions = _first(lower, _CAPTION_KEYS, where)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(file, str) or not file.strip():
        raise UserError(f"{where}: the file must be a name, not {file!r}")
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise UserError(f"{where}: the caption must be a text or a list of texts, not {captions!r}")
    file, *captions = (plain(text, where) for text in (file, *captions))
    split = str(lower.get("split") or "").strip().lower()
    if split and split not in SPLIT_NAMES:
        raise UserError(f"{where}: split must be train or validation, not {split!r}")
    return Row(file.strip().replace("\\", "/"), clean(captions), SPLIT_NAMES.get(split, ""), where)


def _first(record: Mapping[str, Any], keys: tuple[str, ...], where: str) -> Any:
    for key in keys:
        if key in record:
            return record[key]
    raise UserError(f"{where}: no {keys[0]!r} (or {', '.join(keys[1:])}); it has {list(record)}")
