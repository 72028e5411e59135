"""Pictures of a user's own folder with captions, and what a run reads of them."""

from __future__ import annotations

import numpy as np
from helpers import captioned_settings as settings
from PIL import Image

from jaxgen.data.captioned import folder as caption_files


def picture(path, level=0, size=(10, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(path)


def opened(folder, split="train", **changes):
    """{name: (captions, meaning)} of a split."""
    records = caption_files.open_records(settings(path=str(folder), **changes), split)
    rows = [records[i] for i in range(len(records))]
    found = {row["_name"]: (row["_captions"], row["meaning"]) for row in rows}
    assert list(records.captions()) == [found[name][0] for name in sorted(found)]
    return found
