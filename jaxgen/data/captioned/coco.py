"""COCO 2014 with its captions, in text-to-image's split: train2014 and val2014.

`data.captions` is the folder of the official captions_train2014.json and captions_val2014.json;
`data.path` holds the folders train2014 and val2014, or the pictures of both.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jaxgen.data.captioned.pictures import CaptionedPictures, named, refuse_empty, shared_meanings
from jaxgen.data.picture_source import usable
from jaxgen.data.text.unicode import nfc, plain, read_text
from jaxgen.errors import NO_JSON, UserError, one_line, shown

EXAMPLE = "a man riding a wave on top of a surfboard"
_PARTS = {"train": "train2014", "validation": "val2014"}


def open_records(data: ConfigDict, split: str) -> CaptionedPictures:
    """Pictures and captions of a split.

    The meaning is COCO's number of the picture; pictures that share an equal caption have that of
    the first of them.

    Raises:
      UserError: folders or files missing, JSON of another kind, or, with `data.on_bad="error"`,
        missing and unreadable pictures.
    """
    part = _PARTS[split]
    if not (data.path and data.captions):
        raise UserError(
            "data.source='coco' needs data.path, the folder of train2014 and val2014, and "
            "data.captions, that of captions_train2014.json"
        )
    annotations = Path(data.captions).expanduser()
    files, captions = read_captions(_annotations(annotations, part))
    folder = Path(data.path).expanduser()
    if (folder / part).is_dir():
        folder = folder / part
    else:
        _check_apart(annotations, part, files)
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: no such folder")
    there = {nfc(name): name for name in os.listdir(folder)}
    for file in files.values():  # in the form that the file system has
        if file not in there and "/" in file and (folder / file).is_file():
            there[file] = file
    numbers = sorted(number for number in files if captions.get(number))
    missing = [files[number] for number in numbers if files[number] not in there]
    if missing:
        said = f"{len(missing)} of {len(numbers)} pictures are not in {folder}: {named(missing)}"
        if data.on_bad == "error":
            raise UserError(f"{said}; data.on_bad='skip' leaves them out")
        logging.warning("%s", said)
    numbers = [number for number in numbers if files[number] in there]
    refuse_empty(len(numbers), f"{folder} holds none of the pictures that have captions")
    files = {number: there[files[number]] for number in numbers}
    reader = usable([(files[n], folder / files[n]) for n in numbers], 1, data.on_bad)
    by_name = {files[n]: tuple(captions[n]) for n in numbers}
    leaders = shared_meanings([captions[n] for n in numbers])
    meanings = {files[n]: numbers[at] for n, at in zip(numbers, leaders, strict=True)}
    kept = {name: by_name[name] for name in reader.names}
    return CaptionedPictures(reader, kept, meanings, data)


def read_captions(path: Path) -> tuple[dict[int, str], dict[int, list[str]]]:
    """(file names, captions), both by picture number, of an official captions file.

    Raises:
      UserError: not readable, or another kind of JSON.
    """
    try:
        content: Any = json.loads(read_text(path))
        files: dict[int, str] = {}
        for image in content["images"]:
            number = int(image["id"])
            name = plain(str(image["file_name"]), f"{path}, picture {number}")
            if files.setdefault(number, name) != name:
                raise UserError(f"{path}: picture {number} is {shown(files[number])} and {name!r}")
        captions: dict[int, list[str]] = {}
        for note in content["annotations"]:
            where = f"{path}, a caption of picture {note['image_id']}"
            if text := " ".join(plain(note["caption"], where).split()):
                captions.setdefault(int(note["image_id"]), []).append(text)
    except (*NO_JSON, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is not a COCO captions file ({one_line(error)})") from None
    numbers: dict[str, int] = {}
    for number, name in files.items():
        if numbers.setdefault(name, number) != number:
            raise UserError(
                f"{path}: the pictures {numbers[name]} and {number} are both called {shown(name)}; "
                "give each a name, or the folder below data.path with it"
            )
    return files, captions


def _check_apart(annotations: Path, part: str, files: dict[int, str]) -> None:
    """Refuses pictures of both parts, where these lie in one folder."""
    for other in set(_PARTS.values()) - {part}:
        try:
            path = _annotations(annotations, other)
        except UserError:  # there is no other part
            continue
        if both := sorted(set(files.values()) & set(read_captions(path)[0].values())):
            raise UserError(
                f"{len(both)} pictures are of {part} and of {other}: {named(both)}; take them out "
                "of one captions file"
            )


def _annotations(folder: Path, part: str) -> Path:
    """The captions file of a part, in the folder or in its `annotations`."""
    name = f"captions_{part}.json"
    for path in (folder / name, folder / "annotations" / name):
        if path.is_file():
            return path
    raise UserError(f"data.captions={folder} holds no {name}")
