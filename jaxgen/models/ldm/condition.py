"""What a denoiser is asked for: nothing, a class, or a text, and each of them left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned import tokenizers
from jaxgen.data.captioned.examples import ReadCaptions
from jaxgen.data.text.prompt import Prompt
from jaxgen.data.text.tokens import PAD, START, only_start
from jaxgen.data.text.weighted import Frame, reader, weigh
from jaxgen.errors import UserError
from jaxgen.models.ldm import clip_text
from jaxgen.tasks.t2i.task import make_text_encoder

TEXT = "text"  # the net, and the part that fixes it


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """Tokens (b, t) int32 and mask (b, t) bool -> what a denoiser attends to.

    Attributes:
      kind: "none", "class" or "text".
      nothing: the tokens that ask for nothing, int32 (t,).
      read: a prompt.
      encoder: module of texts; None but of those.
      width: of the vectors that are attended to; 0: there are none.
      fixed: whether `parts.text` has trained the encoder.
      pooled: width of a text's one vector, which stands beside the time; 0: it is left out.
      captions: what reads a record's captions in training; None: as the config's data say.
    """

    kind: str
    nothing: np.ndarray
    read: Callable[[str], Prompt]
    encoder: Any = None
    width: int = 0
    fixed: bool = False
    pooled: int = 0
    captions: ReadCaptions | None = None

    def init(self, rng: jax.Array) -> dict[str, Any]:
        """{net: variables} of what this needs."""
        if self.encoder is None:
            return {}
        tokens, mask = self.empty(1)
        return {TEXT: self.encoder.init(rng, tokens, mask)}

    def empty(self, count: int) -> tuple[jax.Array, jax.Array]:
        """Tokens and mask of `count` rows that ask for nothing."""
        tokens = jnp.broadcast_to(jnp.asarray(self.nothing), (count, len(self.nothing)))
        return tokens, jnp.broadcast_to(jnp.arange(len(self.nothing)) < 1, tokens.shape)

    def of_batch(self, batch: Mapping[str, Any], count: int) -> tuple[jax.Array, jax.Array]:
        """Tokens and mask of a training batch."""
        if self.kind == "text":
            return batch["tokens"], batch["mask"]
        tokens, mask = self.empty(count)
        return (tokens, mask) if self.kind == "none" else (batch["meaning"][:, None], mask)

    def dropped(
        self, rng: jax.Array, tokens: jax.Array, mask: jax.Array, share: float
    ) -> tuple[jax.Array, jax.Array]:
        """A share of the rows asks for nothing, as guidance needs it."""
        if not share or self.kind == "none":
            return tokens, mask
        drop = jax.random.bernoulli(rng, share, (len(tokens), 1))
        nothing, none = self.empty(len(tokens))
        return jnp.where(drop, nothing, tokens), jnp.where(drop, none, mask)

    def embed(
        self, text: Any, tokens: jax.Array, mask: jax.Array, rng: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """What a denoiser takes beside x and time: {"context", "mask"} and perhaps
        "label" of texts, {"label"} of classes, or {}.

        Args:
          text: variables of that net, where there is one.
          tokens: (b, t) of one chunk, or of several one after another.
          mask: bool, or float32: how much each token counts (`jaxgen.data.text.weighted`).
          rng: of dropout, in training.
        """
        if self.kind == "none":
            return {}
        if self.kind == "class":
            return {"label": tokens[:, 0]}
        more = {} if rng is None or self.fixed else {"train": True, "rngs": {"dropout": rng}}
        chunks = (-1, len(self.nothing))
        read = self.encoder.apply(text, tokens.reshape(chunks), mask.reshape(chunks) > 0, **more)
        words = read.words
        if mask.dtype != bool:  # an encoder may leave out the first token
            words = weigh(words, mask.reshape(chunks)[:, -words.shape[1] :])
        count = len(tokens)
        words = words.reshape(count, -1, words.shape[-1])
        asked = {"context": words, "mask": read.mask.reshape(count, -1)}
        if not self.pooled:
            return asked
        sentences = read.sentence.reshape(count, -1, self.pooled)  # one of each chunk
        return {**asked, "label": sentences.mean(axis=1)}

    def level(
        self, text: Any, a: dict[str, jax.Array], b: dict[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Two of `embed`'s with as many chunks: the shorter one ends in chunks of nothing."""
        if self.encoder is None or a["context"].shape[1] == b["context"].shape[1]:
            return a, b
        nothing = self.embed(text, *self.empty(1))
        most = max(a["context"].shape[1], b["context"].shape[1])

        def filled(x: jax.Array, more: jax.Array) -> jax.Array:
            more = jnp.broadcast_to(more, (len(x), *more.shape[1:]))
            return jnp.concatenate([x, *[more] * ((most - x.shape[1]) // more.shape[1])], axis=1)

        def leveled(x: dict[str, jax.Array]) -> dict[str, jax.Array]:
            return x | {key: filled(x[key], nothing[key]) for key in ("context", "mask")}

        return leveled(a), leveled(b)


def make_condition(config: ConfigDict) -> Condition:
    """Of a config with its parts filled in.

    Raises:
      UserError: settings that go against each other.
    """
    model = config.model
    kind = model.condition
    if kind == "none":
        if model.drop_condition:
            raise UserError(
                "model.condition=none leaves nothing to drop: set model.drop_condition=0"
            )
        return Condition(kind, np.zeros(1, np.int32), lambda text: _prompt(0))
    if kind == "class":
        if not model.classes:
            raise UserError("model.condition=class needs model.classes, their number")
        return Condition(kind, np.full(1, model.classes, np.int32), _class_reader(model.classes))
    given = config.get("parts", {}).get(TEXT)
    fixed = isinstance(given, ConfigDict)
    source = given if fixed else config
    if source.family == "clip":
        words = tuple(model.get("change", {}).get("words", ()))
        encoder = clip_text.make_clip_text(source, words)
        nothing, read = clip_text.empty(source), clip_text.reader(source, encoder.captions)
        pooled = encoder.width if model.get("sentence", False) else 0
        return Condition(
            kind, nothing, read, encoder, encoder.width, fixed, pooled, encoder.captions
        )
    encoder = make_text_encoder(source)
    tokenizer = tokenizers.make_tokenizer(source.data)
    frame = Frame(tokenizer.length, START, end=None, pad=PAD)
    return Condition(
        kind,
        only_start(tokenizer.length)[0],
        reader(tokenizer, frame),
        encoder,
        encoder.width,
        fixed,
        encoder.width if model.get("sentence", False) else 0,
    )


def _class_reader(classes: int) -> Callable[[str], Prompt]:
    def read(text: str) -> Prompt:
        if not text.strip():
            return _prompt(classes)
        number = int(text) if text.strip().isdecimal() else -1
        if not 0 <= number < classes:
            raise UserError(f"the class must be a number from 0 to {classes - 1}, not {text!r}")
        return _prompt(number, str(number))

    return read


def _prompt(token: int, *words: str) -> Prompt:
    return Prompt(np.array([token], np.int32), np.ones(1, bool), words)
