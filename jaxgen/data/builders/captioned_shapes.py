"""The dataset `captioned_shapes` as a TFDS builder: drawn scenes of `jaxgen.data.captioned.shapes`.

Records {"image": uint8 (n, n, 3), "captions": texts, "meaning": int32, "objects": one record of
"shape", "colour", "size", "place" (names) and "box" (share of the picture) per object}; splits
train, validation and held_out. Drawn, not downloaded; the same for the same config and version.

Configs are "32_one", "64_one", "64_three" (one to three objects), and any that `config` makes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen.data.captioned.shapes import (
    ATTRIBUTES,
    COLOURS,
    EXTENT,
    PLACES,
    SHAPES,
    SIZES,
    SPLITS,
    Scene,
    captions,
    check_numbers,
    draw,
    make_scene,
    meaning,
)
from jaxgen.errors import UserError, shown

_NAMES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "place": PLACES}
_NUMBERS = {(1, 1): "one", (1, 2): "two", (1, 3): "three"}
_NAME = re.compile(r"(\d{1,9})_(?:(one|two|three)|(\d)to(\d))(?:_(\d{1,9}))?", re.ASCII)
HELD = 1000  # scenes of the validation and held_out splits, at most


class ShapesConfig(tfds.core.BuilderConfig):
    """Side of the pictures, least and most objects, and training scenes."""

    def __init__(self, *, size: int, objects: tuple[int, int], count: int, **kwargs: str):
        super().__init__(**kwargs)
        self.size, self.objects, self.count = size, objects, count


def config(size: int, objects: tuple[int, int] = (1, 1), count: int = 20_000) -> ShapesConfig:
    """The config of any size, number of objects and number of training scenes.

    Raises:
      UserError: an impossible number.
    """
    objects = (int(objects[0]), int(objects[1]))
    make_scene("train", 0, objects)  # refuses impossible numbers
    check_numbers(size, count)
    number = _NUMBERS.get(objects, f"{objects[0]}to{objects[1]}")
    name = f"{size}_{number}" + ("" if count == 20_000 else f"_{count}")
    least, most = objects
    text = f"{count} scenes of {least if least == most else f'{least} to {most}'}, {size} px"
    return ShapesConfig(name=name, description=text, size=size, objects=objects, count=count)


class CaptionedShapes(tfds.core.GeneratorBasedBuilder):
    """Drawn scenes with captions that are exactly true of them."""

    name = "captioned_shapes"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [config(32), config(64), config(64, (1, 3))]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        side = self.builder_config.size
        thing = {name: tfds.features.ClassLabel(names=list(_NAMES[name])) for name in ATTRIBUTES}
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "meaning": tfds.features.Scalar(np.int32),
                    "objects": tfds.features.Sequence(thing | {"box": tfds.features.BBoxFeature()}),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        own = self.builder_config
        count = own.count if split == "train" else min(own.count, HELD)
        for index in range(count):
            scene = make_scene(split, index, own.objects)
            # Encoded bytes: TFDS would use TensorFlow to encode an array.
            png = io.BytesIO()
            Image.fromarray(draw(scene, own.size)).save(png, format="PNG")
            png.seek(0)
            yield (
                index,
                {
                    "image": png,
                    "captions": list(captions(scene)),
                    "meaning": meaning(scene),
                    "objects": _objects(scene),
                },
            )


def _objects(scene: Scene) -> list[dict]:
    objects = []
    for thing, spot in zip(scene.things, scene.spots, strict=True):
        reach = spot.radius * EXTENT[thing.shape or ""]
        box = tfds.features.BBox(
            ymin=spot.y - reach, xmin=spot.x - reach, ymax=spot.y + reach, xmax=spot.x + reach
        )
        objects.append({name: getattr(thing, name) for name in ATTRIBUTES} | {"box": box})
    return objects


def builder(
    data_dir: str | os.PathLike = "",
    size: int = 32,
    objects: tuple[int, int] = (1, 1),
    count: int = 20_000,
) -> CaptionedShapes:
    """The builder, perhaps not prepared; ArrayRecord files, which need no TensorFlow.

    Args:
      data_dir: root of TFDS datasets; "": TFDS's default.
      size, objects, count: as of `jaxgen.data.captioned.shapes.Shapes`; validation and held_out
        get `count` scenes too, but `HELD` at most.

    Raises:
      UserError: an impossible number.
    """
    root = os.path.expanduser(data_dir) or None
    own = config(size, objects, count)
    # TFDS wants its own configs by name.
    known = own.name in CaptionedShapes.builder_configs
    return CaptionedShapes(
        config=own.name if known else own, data_dir=root, file_format="array_record"
    )


def named(name: str, data_dir: str | os.PathLike) -> CaptionedShapes:
    """The builder of a config's name: side, objects and, unless 20,000, scenes; "": "32_one".

    Raises:
      UserError: another name, or an impossible number.
    """
    found = _NAME.fullmatch(name or "32_one")
    if found is None:
        said = shown(f"captioned_shapes/{name}")
        raise UserError(
            f"{said}: give side and objects, as in captioned_shapes/64_three (one "
            "to three of them), 64_2to3 or, for another number of scenes, 64_one_5000"
        )
    size, number, low, high, count = found.groups()
    words = {word: objects for objects, word in _NUMBERS.items()}
    objects = words[number] if number else (int(low), int(high))
    return builder(data_dir, int(size), objects, int(count or 20_000))
