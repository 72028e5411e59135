"""`jaxgen prepare embeddings`: the captions of a config's data as features of a text encoder.

Any encoder can be a `TextTower`; `of_model` makes one of a trained model's net "text".
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.data.shard import SHARE, Shard, all_shares, digest, in_turn
from jaxgen.errors import UserError
from jaxgen.weights.places import CONFIG, resolve

BATCH = 256  # captions at a time


@dataclasses.dataclass(frozen=True)
class TextTower:
    """A frozen text encoder.

    encode: up to `BATCH` texts -> (words float (tokens, w), sentence float (e,)) of each, words
    without padding. about: what the file says of it, as JSON; with "tokenizer" and what that is
    made of (`tokenizers.about_tokenizer`) a run trained from the file reads prompts by it.
    """

    encode: Callable[[Sequence[str]], Sequence[tuple[np.ndarray, np.ndarray]]]
    about: Mapping[str, Any]


def of_model(source: str | Path) -> TextTower:
    """The net "text" of a run, an exported folder or a bundled model, computed in float32.

    Raises:
      UserError: nothing of this kind is there, or it has no such net.
    """
    import jax
    import jax.numpy as jnp

    from jaxgen import cache
    from jaxgen.data.captioned import tokenizers
    from jaxgen.tasks.t2i.task import make_text_encoder
    from jaxgen.weights.parts import open_whole

    folder = resolve(source)
    config = configs.from_json(folder / CONFIG)
    if "text" not in config.model or "tokenizer" not in config.data:
        raise UserError(f"{source} (family {config.family}) has no text encoder as net 'text'")
    nets = open_whole(folder, ("text",)).nets
    tokenizer = tokenizers.make_tokenizer(config.data)
    encoder = make_text_encoder(config).clone(dtype=jnp.float32)
    cache.enable()
    variables = jax.device_put(nets["text"])
    apply = jax.jit(encoder.apply)

    def encode(texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        # Always the same shape, so that one program is compiled.
        read = [tokenizer.encode(text) for text in texts]
        read += [read[0]] * (BATCH - len(texts))
        mask = np.stack([one.mask for one in read])
        text = apply(variables, np.stack([one.tokens for one in read]), mask)
        words, sentence = np.asarray(text.words), np.asarray(text.sentence)
        return [(words[i][mask[i]], sentence[i]) for i in range(len(texts))]

    filled = tokenizers.resolve(config).data
    about = {
        "encoder": f"net text of {folder.name} ({config.family})",
        "length": tokenizer.length,
        **tokenizers.about_tokenizer(filled),
    }
    return TextTower(encode, about)


def write(
    config: ConfigDict,
    tower: TextTower,
    path: str | os.PathLike,
    moved: Callable[[int, int], None] | None = None,
    shard: Shard | None = None,
) -> int:
    """Writes the features of all training captions for `data.embeddings`; returns their number.

    Args:
      config: a text-to-image config; of its `data` the source and what that needs are used.
      path: of the file; an older one is replaced.
      moved: called with (captions done, captions in all) after each batch.
      shard: only this share of the captions, for `join`. A file that holds it already is left.

    Raises:
      UserError: a config of other data, captions that cannot be read, a file that can't be written,
        an empty share.
    """
    from jaxgen.data.captioned import section
    from jaxgen.data.captioned.records import open_records
    from jaxgen.data.text import features as embeddings

    if "tokenizer" not in config.data:
        raise UserError(f"the config's family {config.family} has no captions to encode")
    section.check(config.data)
    records = open_records(config.data, "train")
    # Equal ones once; the same order gives the same file.
    unlike: dict[bytes, str] = {}
    for text in (text for captions in records.captions() for text in captions):
        unlike.setdefault(embeddings.key(text), text)
    texts = list(unlike.values())
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    about = dict(tower.about)
    if shard is not None:
        batches = shard.batches(batches, "captions")
        about[SHARE] = {
            "number": shard.number, "count": shard.count, "captions": digest(texts),
        }  # fmt: skip
        if Path(path).expanduser().is_file():
            there = embeddings.Embeddings(path)
            if there.about != about:
                raise UserError(f"{path} holds other features or another share; give another -o")
            return len(there)
    count = sum(map(len, batches))

    def rows() -> Iterator[dict[str, Any]]:
        done = 0
        for part in batches:
            for text, (words, sentence) in zip(part, tower.encode(part), strict=True):
                yield {"caption": text, "words": words, "sentence": sentence}
            done += len(part)
            if moved is not None:
                moved(done, count)

    return embeddings.write(path, rows(), about)


def join(paths: Sequence[str | os.PathLike], path: str | os.PathLike) -> int:
    """Puts the files of all shares together to the file of all captions; returns their number.

    The file is the same as one made without shares, byte for byte.

    Raises:
      UserError: a file that holds no share, shares of several encoders or lists of captions, one
        that is missing or comes twice, a file that can't be written.
    """
    from jaxgen.data.text import features as embeddings

    parts = [embeddings.Embeddings(name) for name in paths]
    files = [(part.path, part.about, part) for part in parts]
    found, about = all_shares(files, "jaxgen prepare embeddings")
    rows = in_turn([part.rows() for part in found], BATCH)
    return embeddings.write(path, rows, about)
