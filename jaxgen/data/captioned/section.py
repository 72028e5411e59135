"""The `data` section of text-to-image configs: captioned pictures."""

from __future__ import annotations

from ml_collections import ConfigDict

from jaxgen import keys
from jaxgen.data.captioned.source import find_source
from jaxgen.data.text.tokens import SPECIAL
from jaxgen.errors import UserError
from jaxgen.keys import Key, Table, span, whole

KEYS: Table = {
    "source": Key(
        "shapes",
        "shapes, emoji, folder, cub or coco; without captions plain, segmentation or depth: a "
        "module beside this one",
    ),
    "size": whole(32, "side of the pictures", 8, most=2**14),
    "path": Key("", "folder, coco, and all without captions: the pictures"),
    "captions": Key(
        "",
        'folder: JSON Lines, CSV or a folder of texts, "": found in `path`; cub, coco: the folder '
        "of the texts",
    ),
    "texts": Key(
        (),
        "folder: captions of every picture, in place of those that are found",
        each=Key(""),
        needed=False,
    ),
    "font": Key("", 'emoji: a bitmap font file; "": Noto Color Emoji where Debian puts it'),
    "data_dir": Key("", 'cub: where TFDS keeps what it prepared; "": TFDS\'s own default'),
    "holdout": Key(
        0.1,
        "folder, emoji, and all without captions: share of the pictures kept for validation",
        least=0,
        below=1,
    ),
    "objects": span((1, 1), "shapes: the least and most objects in a scene", least=1, most=1000),
    "relations": whole(
        1,
        "shapes: in training each caption with a relation stands so many times",
        most=100,
        needed=False,
    ),
    "count": whole(20_000, "shapes: scenes"),
    "crop": Key(
        "center",
        "where pictures are cut; `bbox` (cub): around the bird, and random",
        choices=("center", "random", "bbox"),
    ),
    "enlarge": Key(
        1.0, "random, bbox: cut from a picture this many times as large", least=1, most=64
    ),
    "flip": Key(False, "left-right; not where captions say left and right"),
    "salt_pepper": Key(
        0.0,
        "share of pixels made black or white, in half of the examples",
        least=0,
        most=1,
        needed=False,
    ),
    "tokenizer": Key(
        "words",
        "words, or pieces of words trained on the captions, or those of a CLIP's text tower as "
        "parts.text",
        choices=("words", "bpe", "clip"),
    ),
    "vocabulary": Key((), "words: in the order of their ids; (): from the captions", each=Key("")),
    "vocabulary_size": whole(1024, "bpe: ids; words: the most frequent, at most so many"),
    "tokenizer_json": Key("", 'bpe: as the library `tokenizers` writes it; "": trained'),
    "length": whole(24, "tokens per text, the start and padding included", 2, most=2**16),
    "embeddings": Key("", 'file of precomputed text features; "": the encoder reads the text'),
    "captions_per_example": whole(1, "with embeddings: the sentence is the mean of so many"),
    "on_bad": Key(
        "skip",
        "unusable pictures and captions: skip (with a warning), or an error",
        choices=("skip", "error"),
    ),
    "cache_mb": whole(512, "MB of decoded pictures kept in memory, per process", 0),
    "workers": whole(0, "worker processes; 0: threads of this process only", 0, most=1024),
    "threads": whole(2, "reading threads per process", 0, most=1024),
}


# Of families whose nets take any shape, beside KEYS.
BUCKETS: Table = {
    "bucket_ratio": Key(
        1.0,
        "folder, plain: pictures are sorted by their shape, of the same area, into batches of one "
        "shape each, with sides of at most this ratio; 1: all are cut square",
        least=1,
        most=16,
        needed=False,
    ),
    "bucket_step": whole(
        64, "of which the sides of these shapes are multiples", most=2**14, needed=False
    ),
}


def bucketed(data: ConfigDict) -> bool:
    """Whether a `data` section asks for buckets; it may lack the key."""
    return bool(data.get("bucket_ratio", 1.0) > 1)


def bucket_step(data: ConfigDict) -> int:
    """Of which the sides of buckets are multiples."""
    return int(data.get("bucket_step", BUCKETS["bucket_step"].default))


def check_step(data: ConfigDict, multiple: int, why: str) -> None:
    """Raises UserError where the sides of buckets are no multiples of what a net's places need."""
    if bucketed(data) and bucket_step(data) % multiple:
        raise UserError(
            f"data.bucket_step={bucket_step(data)} must be a multiple of {multiple}, {why}"
        )


def defaults() -> ConfigDict:
    """The section `data` of a text-to-image config: scenes of one shape, 32 px."""
    return keys.defaults(KEYS)


def check(data: ConfigDict, captioned: bool = True) -> None:
    """Refuses unknown keys and impossible values of a `data` section.

    Args: captioned: whether the pictures must have captions.

    Raises:
      UserError: naming the key and what it may be.
    """
    keys.check(data, {**KEYS, **BUCKETS}, "data", start="jaxgen.data.captioned.section.defaults()")
    source = find_source(data.source)
    if captioned and not source.CAPTIONED:
        raise UserError(
            f"data.source={data.source} has pictures without captions; this family needs some, "
            "such as those of data.source=folder"
        )
    if data.enlarge > 1 and data.crop == "center":
        raise UserError(
            f"data.enlarge={data.enlarge} needs data.crop=random or bbox; with center set it to 1"
        )
    if bucketed(data) and not source.BUCKETS:
        raise UserError(
            f"data.bucket_ratio={data.bucket_ratio} is of data.source=folder or plain, not of "
            f"{data.source}"
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
    if data.get("texts", ()) and data.source != "folder":
        raise UserError(f"data.texts is of data.source=folder; that of {data.source} has its own")
    if data.tokenizer == "bpe" and data.vocabulary_size < len(SPECIAL) + 256:
        raise UserError(
            f"data.vocabulary_size={data.vocabulary_size}: bpe needs {len(SPECIAL) + 256} ids for "
            "the bytes alone"
        )
