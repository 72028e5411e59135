"""The dataset `emoji` as a TFDS builder: the font Noto Color Emoji, drawn and captioned.

Records {"image": uint8 (n, n, 3) on white, "captions": texts, "meaning": int32, "emoji": text};
splits train and validation, by base (see `jaxgen.data.captioned.emoji`). Which emoji there are
depends on the font's version.

Configs are "32", "64" and "128", the side of the pictures, and any that `config` makes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen.data.captioned import emoji
from jaxgen.errors import UserError, shown

MOST_SIDE = 2048
HOLDOUT = 0.1  # share of the bases in the validation split


class EmojiConfig(tfds.core.BuilderConfig):
    """Side of the pictures, and the font's file."""

    def __init__(self, *, size: int, font: str, **kwargs: str):
        super().__init__(**kwargs)
        self.size, self.font = size, font


def config(size: int, font: str = emoji.FONT) -> EmojiConfig:
    """The config of any size and font. Raises UserError for an impossible size."""
    if not 8 <= size <= MOST_SIDE:
        raise UserError(f"emoji need 8 pixels or more on a side, {MOST_SIDE} at most: {size}")
    name = str(size) if font == emoji.FONT else f"{size}_{Path(font).stem}"
    return EmojiConfig(name=name, description=f"{size} px", size=size, font=font)


class Emoji(tfds.core.GeneratorBasedBuilder):
    """Emoji with their names."""

    name = "emoji"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "First version."}  # noqa: RUF012
    BUILDER_CONFIGS = [config(32), config(64), config(128)]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        side = self.builder_config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "meaning": tfds.features.Scalar(np.int32),
                    "emoji": tfds.features.Text(),
                }
            ),
            homepage="https://github.com/googlefonts/noto-emoji",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in ("train", "validation")}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        own = self.builder_config
        for named, meaning in zip(*emoji.divide(own.font, split, HOLDOUT), strict=True):
            # Encoded bytes: TFDS would use TensorFlow to encode an array.
            png = io.BytesIO()
            Image.fromarray(emoji.draw(named.text, own.size, own.font)).save(png, format="PNG")
            png.seek(0)
            yield (
                named.text,
                {
                    "image": png,
                    "captions": list(named.captions),
                    "meaning": meaning,
                    "emoji": named.text,
                },
            )


def builder(data_dir: str | os.PathLike = "", size: int = 64, font: str = emoji.FONT) -> Emoji:
    """The builder, perhaps not prepared; ArrayRecord files, which need no TensorFlow.

    Args:
      data_dir: root of TFDS datasets; "": TFDS's default.

    Raises:
      UserError: an impossible size.
    """
    root = os.path.expanduser(data_dir) or None
    own = config(size, font)
    # TFDS wants the very object that the class lists, where one has the same name.
    own = next((listed for listed in Emoji.BUILDER_CONFIGS if listed.name == own.name), own)
    return Emoji(config=own, data_dir=root, file_format="array_record")


def named(name: str, data_dir: str | os.PathLike) -> Emoji:
    """The builder of a config's name, which is the pictures' side; "": "64".

    Raises:
      UserError: another name, or an impossible size.
    """
    if name and not re.fullmatch("[0-9]{1,9}", name):
        said = shown(f"emoji/{name}")
        raise UserError(f"{said}: give the side of the pictures in pixels, as in emoji/64")
    return builder(data_dir, int(name or 64))
