"""What is learned beside nets that stay as they are: LoRA, a changed text encoder, new words.

One more net, "change", holds all of it: {"g": of the denoiser, "text": of the text encoder,
"words": (n, width) of new words}. Every number of it is added to what is there, so it begins at
nothing, it alone is trained and saved, and the nets below stay as they were to the last bit:

- a layer's kernel W becomes W + alpha / rank * down up (LoRA, Hu et al. 2021);
- or W + D with a full matrix, of the whole text encoder;
- a new word's vector is that of the word it begins with, plus its own (textual inversion, Gal et
  al. 2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.data.text.clip_bpe import from_json
from jaxgen.edit import low_rank
from jaxgen.errors import UserError
from jaxgen.models.ldm.clip_text import ClipText, check_reads
from jaxgen.models.ldm.condition import TEXT, Condition

CHANGE = "change"  # the net, and the section of `model`
TABLE = "tokens"  # of the text encoder: a vector for each id
_TEXT_LAYERS = "/(qkv|out)/"  # its attention


@dataclasses.dataclass(frozen=True, eq=False)
class Change:
    """What changes, by the config's section `model.change`.

    Attributes:
      settings: the section.
      begin: id of the word that each new vector begins with; () where they begin at zero.
    """

    settings: ConfigDict
    begin: tuple[int, ...] = ()

    def init(self, rng: jax.Array, nets: Mapping[str, Any]) -> dict[str, Any]:
        """Its variables, which change nothing yet.

        Raises:
          UserError: no layer of the denoiser is chosen.
        """
        at = self.settings
        params: dict[str, Any] = {}
        if at.rank:
            below = nets["g"]["params"]
            if not low_rank.layers(below, at.layers):
                some = ", ".join(list(low_rank.layers(below, ""))[:3])
                raise UserError(
                    f"model.change.layers={at.layers} finds none of the denoiser's dense layers, "
                    f"such as {some}"
                )
            params["g"] = low_rank.nested(low_rank.begin(below, at.rank, rng, at.layers))
        if at.text_rank:
            key = jax.random.fold_in(rng, 1)
            below = nets[TEXT]["params"]
            params[TEXT] = low_rank.nested(low_rank.begin(below, at.text_rank, key, _TEXT_LAYERS))
        if at.text:
            params[TEXT] = jax.tree.map(jnp.zeros_like, nets[TEXT]["params"])
        if at.words:
            width = nets[TEXT]["params"][TABLE].shape[1]
            params["words"] = jnp.zeros((len(at.words), width))
        return {"params": params}

    def applied(self, nets: Mapping[str, Any]) -> dict[str, Any]:
        """The nets that are drawn with; those that were changed before are the same."""
        if CHANGE not in nets:
            return dict(nets)
        own, found = nets[CHANGE]["params"], dict(nets)
        del found[CHANGE]
        for net, rank in (("g", self.settings.rank), (TEXT, self.settings.text_rank)):
            if net in own:
                params = self._added(nets[net]["params"], own[net], rank)
                found[net] = {**nets[net], "params": params}
        if "words" in own:
            text = found[TEXT]["params"]
            rows, table = own["words"], text[TABLE]
            if self.begin:
                # The word as it was below, whatever else the text encoder learns.
                below = jnp.asarray(nets[TEXT]["params"][TABLE])
                rows = rows + below[jnp.array(self.begin)]
            params = {**text, TABLE: jnp.concatenate([table, rows.astype(table.dtype)])}
            found[TEXT] = {**found[TEXT], "params": params}
        return found

    def scale(self, rank: int) -> float:
        """What a low-rank change is multiplied with."""
        return self.settings.alpha / rank if self.settings.alpha else 1.0

    def _added(self, params: Any, change: Any, rank: int) -> Any:
        if not rank:
            return jax.tree.map(jnp.add, params, change)
        return low_rank.added(params, low_rank.flat(change), self.scale(rank))


def make_change(config: ConfigDict, condition: Condition) -> Change | None:
    """What changes in a config's model; None: nothing.

    Args: config: with its parts filled in.

    Raises:
      UserError: settings that do not go together, or words that cannot be.
    """
    at = config.model.get(CHANGE)
    if at is None or not (at.rank or at.text_rank or at.text or at.words):
        return None
    tower = isinstance(condition.encoder, ClipText) and condition.fixed
    for key in ("text_rank", "text", "words"):
        if at[key] and not tower:
            raise UserError(
                f"model.change.{key} is of a text tower of CLIP as parts.text, such as that of a "
                "converted Stable Diffusion"
            )
    if at.text and at.text_rank:
        raise UserError("model.change.text is all that text_rank changes, and more: keep one")
    return Change(at, begin_ids(config) if at.words else ())


def begin_ids(config: ConfigDict) -> tuple[int, ...]:
    """Ids of `model.change.begin`, one for each new vector; () where they begin at zero.

    Raises:
      UserError: a word that is there already, or a beginning of several pieces.
    """
    at, tower = config.model.change, config.parts[TEXT]
    check_reads(tower)
    words, begin = tuple(at.words), tuple(at.begin)
    if len(begin) not in (0, 1, len(words)):
        raise UserError(
            f"model.change.begin has {len(begin)} words for the {len(words)} of model.change.words"
        )
    tokenizer = from_json(tower.model.vocabulary, tower.model.text.context)
    for word in words:
        if not word.strip() or word != "".join(word.split()):
            raise UserError(f"model.change.words: {word!r} must be one word, such as <cat-toy>")
        if len(tokenizer.ids(word)) == 1:
            raise UserError(
                f"model.change.words: {word} is a word of the text encoder already; take another, "
                f"such as <{word.strip('<>')}>"
            )
    found = []
    for word in begin:
        ids = tokenizer.ids(word)
        if len(ids) != 1:
            raise UserError(
                f"model.change.begin: {word!r} is {len(ids)} pieces for the text encoder; take a "
                "word that is one"
            )
        found += ids
    return tuple(found * len(words)) if len(found) == 1 else tuple(found)
