"""The `data` section of text-to-image configs: captioned pictures."""

from __future__ import annotations

from ml_collections import ConfigDict

from jaxgen.data.captioned.source import find_source
from jaxgen.data.checks import check_choices, check_keys, check_least
from jaxgen.data.text.tokens import SPECIAL
from jaxgen.errors import UserError

_CHOICES = {
    "crop": ("center", "random", "bbox"),
    "tokenizer": ("words", "bpe"),
    "on_bad": ("skip", "error"),
}


def defaults() -> ConfigDict:
    """The section `data` of a text-to-image config: scenes of one shape, 32 px."""
    return ConfigDict(
        {
            "source": "shapes",  # shapes | emoji | folder | cub | coco: a module beside this one
            "size": 32,  # side of the pictures
            "path": "",  # folder, coco: the pictures
            "captions": "",  # folder: JSON Lines, CSV or a folder of texts, "": found in `path`;
            # cub, coco: the folder of the texts
            "font": "",  # emoji: a bitmap font file; "": Noto Color Emoji where Debian puts it
            "data_dir": "",  # cub: where TFDS keeps what it prepared; "": TFDS's own default
            "holdout": 0.1,  # folder, emoji: share of the pictures kept for validation
            "objects": (1, 1),  # shapes: the least and most objects in a scene
            "count": 20_000,  # shapes: scenes
            "crop": "center",  # center | random | bbox (cub: around the bird) and random
            "enlarge": 1.0,  # random, bbox: cut from a picture this many times as large
            "flip": False,  # left-right; not where captions say left and right
            "tokenizer": "words",  # words | bpe: trained on the captions
            "vocabulary": (),  # words: in the order of their ids; (): from the captions
            "vocabulary_size": 1024,  # bpe: ids; words: the most frequent, at most so many
            "tokenizer_json": "",  # bpe: as the library `tokenizers` writes it; "": trained
            "length": 24,  # tokens per text, the start and padding included
            "embeddings": "",  # file of precomputed text features; "": the encoder reads the text
            "captions_per_example": 1,  # with embeddings: the sentence is the mean of so many
            "on_bad": "skip",  # unusable pictures and captions: skip (with a warning) | error
            "cache_mb": 512,  # decoded pictures kept in memory, per process
            "workers": 0,  # worker processes; 0: threads of this process only
            "threads": 2,  # reading threads per process
        }
    )


def check(data: ConfigDict) -> None:
    """Refuses unknown keys and impossible values of a `data` section.

    Raises:
      UserError: naming the key and what it may be.
    """
    check_keys(data, defaults(), "data", start="jaxgen.data.captioned.section.defaults()")
    source = find_source(data.source)
    check_choices(data, _CHOICES)
    check_least(
        data,
        {
            "size": 8, "count": 1, "enlarge": 1, "vocabulary_size": 1, "length": 2,
            "captions_per_example": 1, "cache_mb": 0, "workers": 0, "threads": 0,
        },
    )  # fmt: skip
    if not 0 <= data.holdout < 1:
        raise UserError(f"data.holdout={data.holdout} must be a share, from 0 to below 1")
    low, high = data.objects
    if not 1 <= low <= high:
        raise UserError(f"data.objects={data.objects} must be a rising range from 1 up")
    if data.enlarge > 1 and data.crop == "center":
        raise UserError(
            f"data.enlarge={data.enlarge} needs data.crop=random or bbox; with center set it to 1"
        )
    if data.crop == "bbox" and not source.BOXES:
        raise UserError(f"data.crop=bbox: the pictures of data.source={data.source} have no boxes")
    if source.check is not None:
        source.check(data)
    if data.captions_per_example > 1 and not data.embeddings:
        raise UserError(
            "data.captions_per_example above 1 takes the mean of sentence features, which needs "
            "data.embeddings"
        )
    if data.tokenizer == "bpe" and data.vocabulary_size < len(SPECIAL) + 256:
        raise UserError(
            f"data.vocabulary_size={data.vocabulary_size}: bpe needs {len(SPECIAL) + 256} ids for "
            "the bytes alone"
        )
