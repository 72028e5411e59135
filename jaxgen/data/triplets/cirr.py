"""CIRR (Liu et al., ICCV 2021): photos, and one sentence on how another of six alike differs.

    PATH/captions/cap.rc2.<split>.json · PATH/image_splits/split.rc2.<split>.json
    PATH/<the paths that the split names>: dev/*.png, test1/*.png, train/*/*.png

The source leaves the ranking. Recall among the other five of its six ("subset") is told too. Of the
split "test1" the targets are not published: a submission is written for the server.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from jaxgen.data.triplets.folders import Listed, folder_of, one_text_each, present, read_json
from jaxgen.data.triplets.source import Drawn, Query
from jaxgen.errors import UserError

EXAMPLE = "show two dogs on the grass"
SPLITS = ("train", "val", "test1")


check = one_text_each


def open_split(data: ConfigDict, split: str) -> Listed:
    """The photos of a split.

    Raises:
      UserError: captions, lists or all pictures are missing.
    """
    folder = folder_of(data)
    listed = read_json(folder / "image_splits" / f"split.rc2.{split}.json")
    asked = read_json(folder / "captions" / f"cap.rc2.{split}.json")
    if not isinstance(listed, dict) or not isinstance(asked, list):
        raise UserError(f"{folder} does not hold CIRR's lists of {split}")
    names = list(listed)
    paths = [folder / Path(listed[name]) for name in names]
    there = present(paths, data.on_bad, f"CIRR's {split}")
    kept = [i for i, found in enumerate(there) if found]
    numbers = {names[i]: at for at, i in enumerate(kept)}
    queries, items = [], []
    for one in asked:
        source, target = one["reference"], one.get("target_hard", "")
        if source not in numbers or (target and target not in numbers):
            continue
        members = tuple(numbers[m] for m in one["img_set"]["members"] if m in numbers)
        query = Query(
            numbers[source], one["caption"], target, subset=members, name=str(one["pairid"])
        )
        queries.append(query)
        if target:
            items.append(Drawn(query.source, query.text, numbers[target]))
    return Listed(
        data,
        [paths[i] for i in kept],
        [names[i] for i in kept],
        queries if split != "train" else [],
        "the source removed, the target alone is right",
        [names[i] for i in kept],
        items=items,
    )
