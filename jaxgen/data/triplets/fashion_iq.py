"""FashionIQ (Wu et al., CVPR 2021): clothes and two captions of how another piece differs.

    PATH/captions/cap.<category>.<split>.json · PATH/image_splits/split.<category>.<split>.json
    PATH/images/<asin>.png (or .jpg)

Both captions are joined by "and". Two galleries are in use and their numbers do not compare:
`data.gallery` "split" is the official one, "captions" the one of VAL and those after it. The source
stays in the ranking. Recall at 10 and 50 is the mean over the three categories.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from jaxgen.data.triplets.folders import Listed, folder_of, one_text_each, present, read_json
from jaxgen.data.triplets.source import Drawn, Query
from jaxgen.errors import UserError

EXAMPLE = "is red and has longer sleeves"
SPLITS = ("train", "val", "test")
CATEGORIES = ("dress", "shirt", "toptee")


check = one_text_each


def open_split(data: ConfigDict, split: str) -> FashionIQ:
    """The pieces of a split; of the split "test" the targets are not published.

    Raises:
      UserError: captions, lists or all pictures are missing.
    """
    folder = folder_of(data)
    categories = CATEGORIES if data.category == "all" else (data.category,)
    names: list[str] = []
    captions: list[str] = []
    kinds: list[str] = []
    asked: list[tuple[str, str, str, str]] = []
    for category in categories:
        listed = read_json(folder / "image_splits" / f"split.{category}.{split}.json")
        pairs = read_json(folder / "captions" / f"cap.{category}.{split}.json")
        if not isinstance(listed, list) or not isinstance(pairs, list):
            raise UserError(f"{folder} does not hold FashionIQ's lists of {category}")
        if data.gallery == "captions":
            named = {p[key] for p in pairs for key in ("candidate", "target") if key in p}
            listed = [name for name in listed if name in named]
        names += listed
        # Of its category: the same piece may stand in two galleries.
        captions += [f"{category} {name}" for name in listed]
        kinds += [category] * len(listed)
        asked += [
            (category, p["candidate"], joined(p["captions"]), p.get("target", "")) for p in pairs
        ]
    paths = [picture_path(folder / "images", name) for name in names]
    there = present(paths, data.on_bad, f"FashionIQ's {split}")
    kept = [i for i, found in enumerate(there) if found]
    numbers = {captions[i]: at for at, i in enumerate(kept)}
    queries = [
        Query(
            numbers[f"{category} {source}"],
            text,
            f"{category} {target}" if target else "",
            category,
            name=source,
        )
        for category, source, text, target in asked
        if f"{category} {source}" in numbers and (not target or f"{category} {target}" in numbers)
    ]
    items = [
        Drawn(query.source, query.text, numbers[query.target]) for query in queries if query.target
    ]
    return FashionIQ(
        data,
        [paths[i] for i in kept],
        [captions[i] for i in kept],
        queries if split != "train" else [],
        f"each category its own gallery (data.gallery={data.gallery}), the source kept",
        [names[i] for i in kept],
        items=items,
        galleries=[kinds[i] for i in kept],
    )


class FashionIQ(Listed):
    """See `jaxgen.data.triplets.source.Triplets`; galleries: of each picture, its category."""

    keep_source = True

    def __init__(self, *args, galleries: list[str], **more):
        super().__init__(*args, **more)
        self.galleries = galleries


def joined(captions: list[str]) -> str:
    """CLIP4Cir's joining: "A and b", marks at the ends left out, the first letter large."""
    said = [caption.strip(".?, ") for caption in captions]
    first = said[0].capitalize() if said else ""
    return " and ".join([first, *said[1:]])


def picture_path(images: Path, name: str) -> Path:
    """The picture of a piece, whatever its ending; the .png where there is none."""
    for ending in (".png", ".jpg", ".jpeg"):
        if (images / f"{name}{ending}").is_file():
            return images / f"{name}{ending}"
    return images / f"{name}.png"
