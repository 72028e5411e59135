"""The `data` section of composed retrieval: a picture, words that change it, and what they mean."""

from __future__ import annotations

from ml_collections import ConfigDict

from jaxgen import keys
from jaxgen.data.triplets.source import find_source
from jaxgen.keys import Key, Table, span, whole

KEYS: Table = {
    "source": Key(
        "css", "css, fashion200k, mit_states, fashion_iq or cirr: a module beside this one"
    ),
    "size": whole(64, "side of the pictures", 8, most=2**14),
    "path": Key("", 'the data set\'s folder; css: of the published file, "": scenes are drawn'),
    "render": Key(
        "2d",
        "css: flat drawings, shaded ones seen from above, or shaded ones that are asked for with "
        "flat ones; files: the pictures in `path`",
        choices=("2d", "shaded", "2d_to_shaded", "files"),
    ),
    "scenes": whole(1000, "css: drawn scenes of a split that are changed", most=10**6),
    "train_scenes": whole(
        0, "css: of the split that is trained on, as many instead; 0: data.scenes", 0, most=10**6,
        needed=False,
    ),
    "changes": whole(16, "css: of each of them", most=1000),
    "objects": span((2, 5), "css: the least and most objects in such a scene", least=0, most=8),
    "gallery": Key(
        "split",
        "fashion_iq: rank the pictures of the whole split, or those that captions name (VAL's)",
        choices=("split", "captions"),
    ),
    "category": Key(
        "all", "fashion_iq: of clothes", choices=("all", "dress", "shirt", "toptee")
    ),
    "per_source": whole(
        2, "changes of one source picture in an example: each is hard to tell from the other"
    ),
    "vocabulary": Key((), "in the order of their ids; (): the training texts'", each=Key("")),
    "length": whole(12, "words per text, at most", most=2**12),
    "on_bad": Key(
        "skip", "missing pictures: skip (with a warning), or an error", choices=("skip", "error")
    ),
    "cache_mb": whole(512, "MB of decoded pictures kept in memory, per process", 0),
    "workers": whole(0, "worker processes; 0: threads of this process only", 0, most=1024),
    "threads": whole(2, "reading threads per process", 0, most=1024),
}  # fmt: skip


def defaults() -> ConfigDict:
    """The section `data` of a composed retrieval config: CSS's scenes, drawn flat."""
    return keys.defaults(KEYS)


def check(data: ConfigDict) -> None:
    """Refuses unknown keys and impossible values of a `data` section.

    Raises:
      UserError: naming the key and what it may be.
    """
    keys.check(data, KEYS, "data", start="jaxgen.data.triplets.section.defaults()")
    source = find_source(data.source)
    if source.check is not None:
        source.check(data)
