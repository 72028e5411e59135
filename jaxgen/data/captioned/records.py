"""Captioned pictures: opening a source's records, and those that are validated on."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned.section import check
from jaxgen.data.captioned.source import Records, find_source
from jaxgen.errors import UserError


def open_records(data: ConfigDict, split: str) -> Records:
    """The records of `data.source`: "train", "validation", or another split that it has.

    Raises:
      UserError: no such source or split, or nothing usable there, with what to do.
    """
    source = find_source(data.source)
    if split not in source.SPLITS:
        raise UserError(
            f"data.source={data.source} has no split {split}; it has {', '.join(source.SPLITS)}"
        )
    return source.open_records(data, split)


class CenterCropped:
    """Records with the middle square of their pictures, of `size` pixels."""

    def __init__(self, records: Any, size: int):
        self._records, self._size = records, size

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        return {**record, "image": center(record["image"], self._size)}


def center(image: np.ndarray, height: int, width: int = 0) -> np.ndarray:
    """The middle of a picture (h, w, c), the picture itself if it is so; a square without width."""
    width = width or height
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def count_validation(data: ConfigDict, most: int, captioned: bool = True) -> int:
    """How many of `validation_data` an evaluation of at most so many looks at; 0: of all.

    Raises:
      UserError: as `validation_data`.
    """
    there = len(validation_data(data, captioned=captioned))
    return min(most or there, there)


# What was opened last: every evaluation of a run asks for the same again.
_validation: dict[tuple[str, str], CenterCropped] = {}


def validation_data(data: ConfigDict, split: str = "validation", captioned: bool = True) -> Any:
    """Records without randomness: {"image": uint8 (n, n, 3), "_captions", "meaning"}, and more.

    Args:
      split: "validation", or "held_out" where the source has it (see `Source.SPLITS`).
      captioned: whether the pictures must have captions.

    Raises:
      UserError: as `open_records`.
    """
    check(data, captioned)
    key = (data.to_json(sort_keys=True), split)
    if key not in _validation:
        if len(_validation) > 3:
            _validation.clear()
        _validation[key] = CenterCropped(open_records(data, split), data.size)
    return _validation[key]
