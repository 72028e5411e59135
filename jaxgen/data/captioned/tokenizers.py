"""What reads the captions: a tokenizer that is made of them once and travels with the config."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data.captioned.records import open_records
from jaxgen.data.captioned.section import check
from jaxgen.data.captioned.source import find_source
from jaxgen.data.text.tokens import UNKNOWN, Tokenizer, WordTokenizer, split_words
from jaxgen.errors import UserError

# What each tokenizer is made of: the key that `resolve` fills.
_FILLED = {"words": "vocabulary", "bpe": "tokenizer_json"}


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy of a whole config that says all that is needed to read a prompt.

    `data.vocabulary` (tokenizer "words") or `data.tokenizer_json` ("bpe") is made of the training
    captions where it is empty: the same captions give the same result. With `data.embeddings` it is
    the tokenizer of the encoder that made the file, if the file says it. Filled ones stay.

    Raises:
      UserError: impossible settings, or captions that cannot be read.
    """
    config = config.copy_and_resolve_references()
    data = config.data
    check(data)
    if data.tokenizer == "clip":  # comes with the part
        return config
    if data.embeddings and not data[_FILLED[data.tokenizer]]:
        _take_tokenizer(data)
    if not data[_FILLED[data.tokenizer]]:
        data[_FILLED[data.tokenizer]] = _make(data)
    return config


def make_tokenizer(data: ConfigDict) -> Tokenizer:
    """The tokenizer of a resolved config; or of any, where the source's words are known beforehand.

    Raises:
      UserError: a config whose captions were not read yet.
    """
    if data.tokenizer == "clip":
        raise UserError(
            "data.tokenizer=clip is that of a CLIP's text tower: give it as parts.text, or a "
            "converted Stable Diffusion as configs/sd15.py takes it (train.init_from.g, or parts.g)"
        )
    key = _FILLED[data.tokenizer]
    filled = data[key]
    if not filled:
        if find_source(data.source).vocabulary is None:
            raise UserError(
                f"data.{key} is empty, so no prompt can be read: fill it by "
                "jaxgen.data.captioned.tokenizers.resolve(config), which reads the training "
                "captions"
            )
        filled = _make(data)
    if data.tokenizer == "words":
        return WordTokenizer(filled, data.length)
    from jaxgen.data.text.bpe import BPETokenizer

    return BPETokenizer(filled, data.length)


def about_tokenizer(data: ConfigDict) -> dict[str, Any]:
    """What a file of text features says of its encoder's tokenizer; `data`: resolved."""
    key = _FILLED[data.tokenizer]
    return {"tokenizer": data.tokenizer, key: data[key]}


def report(texts: Iterable[str], tokenizer: Tokenizer) -> str:
    """One line on what the tokenizer leaves out of these captions; "" for nothing."""
    total = tokens = unknown = cut = 0
    for text in texts:
        ids = tokenizer.ids(text)
        total, tokens, unknown = total + 1, tokens + len(ids), unknown + ids.count(UNKNOWN)
        cut += len(ids) > tokenizer.length - 1
    parts = []
    if unknown:
        parts.append(
            f"{unknown / tokens:.2%} of the training captions' words are outside the vocabulary "
            f"and read as <unk> (data.vocabulary_size makes it larger)"
        )
    if cut:
        parts.append(
            f"{cut} of {total} captions are longer than data.length={tokenizer.length} tokens and "
            "are cut"
        )
    return "; ".join(parts)


def _take_tokenizer(data: ConfigDict) -> None:
    from jaxgen.data.text.features import Embeddings

    about = Embeddings(data.embeddings).about
    if "tokenizer" not in about:
        return
    if about["tokenizer"] != data.tokenizer:
        raise UserError(
            f"data.embeddings={data.embeddings} is of an encoder with another tokenizer: set "
            f"data.tokenizer={about['tokenizer']}"
        )
    found = about.get(_FILLED[data.tokenizer])
    if not found:
        raise UserError(f"data.embeddings={data.embeddings} does not hold its tokenizer")
    data[_FILLED[data.tokenizer]] = tuple(found) if isinstance(found, list) else found


def _make(data: ConfigDict) -> tuple[str, ...] | str:
    """What the tokenizer is made of: the vocabulary, or the JSON of one trained on the captions."""
    source = find_source(data.source)
    if data.tokenizer == "words" and source.vocabulary is not None:
        return tuple(source.vocabulary())
    captions = open_records(data, "train").captions()
    texts = itertools.chain.from_iterable(itertools.islice(captions, source.TOKENIZED))
    if data.tokenizer == "bpe":
        from jaxgen.data.text import bpe

        return bpe.train(texts, data.vocabulary_size)
    counts = collections.Counter(word for text in texts for word in split_words(text))
    if not counts:
        raise UserError(f"the training captions of data.source={data.source} hold no words")
    # Equally frequent words by the alphabet, whatever the order of the captions.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return tuple(ranked[: data.vocabulary_size])
