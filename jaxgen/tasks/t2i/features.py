"""Training text-to-image GANs from text features computed beforehand (`data.embeddings`).

The net "text" is made all the same: its weights come by `parts.text` or `train.init_from.text`,
and it reads the prompts of what is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.text.tokens import only_start
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.nn.text import Text
from jaxgen.tasks.t2i import text_part


def check(config: ConfigDict) -> None:
    """Refuses `data.embeddings` where a text encoder is to be trained.

    Raises:
      UserError: what to set.
    """
    if not config.data.embeddings:
        return
    if config.model.text.trained_by != "none" or config.model.damsm_steps:
        raise UserError(
            "data.embeddings leaves no text encoder to train: set model.text.trained_by=none and "
            "model.damsm_steps=0"
        )
    if not (config.train.init_from.text or text_part.given(config)):
        log.warning(
            "parts.text and train.init_from.text are empty, so prompts will be read by an "
            "untrained encoder: give parts.text the run whose encoder made data.embeddings"
        )


def init_text(
    encoder: Any, config: ConfigDict, rng: jax.Array, batch: Mapping[str, jax.Array]
) -> tuple[Any, Text]:
    """(the encoder's variables, the features of a batch's first two texts).

    Raises:
      UserError: features of `data.embeddings` that are not as wide as the encoder's.
    """
    if "sentence" not in batch:
        tokens, mask = batch["tokens"][:2], batch["mask"][:2]
        variables = encoder.init(rng, tokens, mask)
        return variables, encoder.apply(variables, tokens, mask)
    tokens, mask = (jnp.asarray(a)[None] for a in only_start(config.data.length))
    variables = encoder.init(rng, tokens, mask)
    own = jax.eval_shape(encoder.apply, variables, tokens, mask)
    text = Text(**{key: batch[key][:2] for key in ("words", "mask", "sentence")})
    if _widths(own) != _widths(text):
        raise UserError(
            "data.embeddings has words and sentences of {} and {}, model.text of {} and {}: set "
            "model.text as in the run whose encoder made the file".format(
                *_widths(text), *_widths(own)
            )
        )
    return variables, text


def _widths(text: Text) -> tuple[int, int]:
    return text.words.shape[-1], text.sentence.shape[-1]
