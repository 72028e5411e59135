"""What a sequence is: the condition in front, then the codes of the picture.

The input's ids are the first stage's codes, then those of the condition (a start, classes, words,
or another first stage's codes), of a masked transformer at last the mask. Published transformers
have conditions that share the codes' ids (`model.shared_ids`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.captioned import tokenizers
from jaxgen.data.text.prompt import Prompt
from jaxgen.data.text.tokens import only_start
from jaxgen.errors import UserError
from jaxgen.models.prior.orders import order
from jaxgen.tasks.t2i.task import make_text_encoder
from jaxgen.verbs.encode.contract import Encode
from jaxgen.verbs.offered import codes_of
from jaxgen.verbs.upscale.contract import LUMA

FIRST, SECOND, TEXT = "first_stage", "condition", "text"  # parts


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A trained first stage that the prior is made of.

    part: its name in `config.parts`. verb: what it offers.
    """

    part: str
    verb: Encode

    @property
    def nets(self) -> tuple[str, ...]:
        """Its nets by a verb's names."""
        return tuple(f"{self.part}/{net}" for net in self.verb.nets)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Cells of a picture."""
        return height // self.verb.factor, width // self.verb.factor

    def codes(self, nets: Mapping[str, Any], pictures: jax.Array) -> jax.Array:
        """Pictures (b, h, w, 3) in [-1, 1] -> int32 (b, h/f, w/f); `nets` of its own names.

        A stage of one channel sees the pictures gray; one of a segmentation takes gray levels for
        classes, 0 to 255.
        """
        if self.verb.channels != 3:
            gray = jnp.einsum("bhwc,c->bhw", pictures, LUMA)
            if self.verb.channels == 1:
                pictures = gray[..., None]
            else:
                levels = jnp.round((gray + 1) * 127.5).astype(jnp.int32)
                pictures = jax.nn.one_hot(levels, self.verb.channels, dtype=jnp.float32)
        return self.verb.encode({n: nets[n] for n in self.verb.nets}, pictures).astype(jnp.int32)


def make_stage(config: ConfigDict, part: str) -> Stage:
    """The first stage of `config.parts`, of a config that `jaxgen.weights.parts.filled` gave.

    Raises:
      UserError: there is none, or it does not give codes.
    """
    given = config.get("parts", {}).get(part)
    if not isinstance(given, ConfigDict):
        raise UserError(
            f"a prior draws codes of a trained first stage: give parts.{part} a run of such a "
            "family (configs/vqgan.py)"
        )
    return Stage(part, codes_of(given, f"parts.{part}"))


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """The layout of a config's sequences.

    stage, second: the first stages of the picture and of the condition (or None); grid,
    second_grid: their cells of a picture of the training. condition: as `config.model.condition`.
    prefix: positions in front. offset: the first id of the condition's tokens. ids: of the input,
    without a mask. order: see `jaxgen.models.prior.orders`. nothing: the condition's own tokens
    where nothing is asked for, int32 (prefix,). read: a text as tokens. encoder: of texts, where
    its features stand in front and no tokens.
    """

    stage: Stage
    second: Stage | None
    second_grid: tuple[int, int] | None
    grid: tuple[int, int]
    condition: str
    prefix: int
    offset: int
    ids: int
    order: np.ndarray
    nothing: np.ndarray
    read: Callable[[str], Prompt] | None = None
    encoder: Any = None

    @property
    def cells(self) -> int:
        """Codes of a picture of the training."""
        return self.grid[0] * self.grid[1]

    @functools.cached_property
    def places(self) -> np.ndarray:
        """Of each cell, row by row, its place in the sequence."""
        return np.argsort(self.order).astype(np.int32)

    def to_sequence(self, codes: jax.Array) -> jax.Array:
        """(b, h, w) -> (b, cells) in the sequence's order."""
        return codes.reshape(len(codes), -1)[:, self.order]

    def to_grid(self, codes: jax.Array) -> jax.Array:
        """The inverse of `to_sequence`."""
        return codes[:, self.places].reshape(len(codes), *self.grid)

    def tokens(self, condition: jax.Array) -> jax.Array:
        """The condition's own tokens (b, prefix) as ids of the input."""
        return condition.astype(jnp.int32) + self.offset


def make_sequence(config: ConfigDict) -> Sequence:
    """The layout of a config with its parts filled in.

    Raises:
      UserError: a part that is missing or gives no codes, or settings that go against each other.
    """
    model, size = config.model, config.data.size
    stage, condition = make_stage(config, FIRST), model.condition
    grid, codes = _grid(stage, size), stage.verb.codes
    second = second_grid = encoder = read = None
    dropped = model.drop_condition > 0
    if condition == "none":
        nothing, more = np.zeros(1, np.int32), 1
    elif condition == "class":
        if not model.classes:
            raise UserError("model.condition=class needs model.classes, their number")
        nothing, more = np.full(1, model.classes, np.int32), model.classes + dropped
    elif condition == "text":
        filled = config.get("parts", {}).get(TEXT)
        if isinstance(filled, ConfigDict):
            encoder, more = make_text_encoder(filled), 0
            tokenizer = tokenizers.make_tokenizer(filled.data)
        else:
            tokenizer = tokenizers.make_tokenizer(config.data)
            more = tokenizer.size
        nothing, read = only_start(tokenizer.length)[0], tokenizer.encode
    else:
        second = make_stage(config, SECOND)
        second_grid = _grid(second, size)
        cells = second_grid[0] * second_grid[1]
        nothing, more = np.full(cells, second.verb.codes, np.int32), second.verb.codes + dropped
    if condition == "none" and dropped:
        raise UserError("model.condition=none leaves nothing to drop: set model.drop_condition=0")
    if model.shared_ids and (dropped or condition == "text"):
        raise UserError(
            "model.shared_ids is of published transformers, whose conditions are never dropped and "
            "no texts: set model.drop_condition=0"
        )
    return Sequence(
        stage=stage,
        second=second,
        second_grid=second_grid,
        grid=grid,
        condition=condition,
        prefix=len(nothing),
        offset=0 if model.shared_ids else codes,
        ids=max(codes, more) if model.shared_ids else codes + more,
        order=order(model.order, grid),
        nothing=nothing,
        encoder=encoder,
        read=read,
    )


def _grid(stage: Stage, size: int) -> tuple[int, int]:
    if size % stage.verb.factor:
        raise UserError(
            f"data.size={size} must be a multiple of {stage.verb.factor}, the pixels of one code "
            f"of parts.{stage.part}"
        )
    return stage.grid(size, size)


def reads(config: ConfigDict) -> bool:
    """Whether the condition comes from what the data say of a picture: its caption, its class."""
    return config.model.condition in ("text", "class")


def settings_of(config: ConfigDict, sequence: Sequence) -> dict[str, Any]:
    """What a config's transformer is made with, its sizes included."""
    settings = config.model.transformer.to_dict()
    needed = sequence.prefix + sequence.cells
    if config.model.form == "maskgit":
        settings |= {"ids": sequence.ids + 1}
    else:
        needed -= 1  # nothing follows the last code
        settings |= {"ids": sequence.ids, "codes": sequence.stage.verb.codes}
    length = config.model.length or needed
    if length < needed:
        raise UserError(f"model.length={length}: a sequence has {needed} positions; set it to 0")
    return settings | {"length": length}
