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
from jaxgen.errors import NO_JSON, UserError, one_line

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
    files, captions = read_captions(_annotations(Path(data.captions).expanduser(), part))
    folder = Path(data.path).expanduser()
    folder = folder / part if (folder / part).is_dir() else folder
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: no such folder")
    there = set(os.listdir(folder))
    numbers = sorted(number for number in files if captions.get(number))
    missing = [files[number] for number in numbers if files[number] not in there]
    if missing:
        said = f"{len(missing)} of {len(numbers)} pictures are not in {folder}: {named(missing)}"
        if data.on_bad == "error":
            raise UserError(f"{said}; data.on_bad='skip' leaves them out")
        logging.warning("%s", said)
    numbers = [number for number in numbers if files[number] in there]
    refuse_empty(len(numbers), f"{folder} holds none of the pictures that have captions")
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
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        files = {int(image["id"]): str(image["file_name"]) for image in content["images"]}
        captions: dict[int, list[str]] = {}
        for note in content["annotations"]:
            if text := " ".join(note["caption"].split()):
                captions.setdefault(int(note["image_id"]), []).append(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (*NO_JSON, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is not a COCO captions file ({one_line(error)})") from None
    return files, captions


def _annotations(folder: Path, part: str) -> Path:
    """The captions file of a part, in the folder or in its `annotations`."""
    name = f"captions_{part}.json"
    for path in (folder / name, folder / "annotations" / name):
        if path.is_file():
            return path
    raise UserError(f"data.captions={folder} holds no {name}")
