"""Compositions over a trained CLIP, which stays as it is: net "g" is the composer alone.

`config.parts.clip` is the CLIP. As published (CLIP4Cir) its features come as they are, not
normalised, and logits are 100 times the cosines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.text.prompt import Prompt
from jaxgen.encoders.clip.model import CLIP
from jaxgen.encoders.clip.preprocess import fit, normalise, padded
from jaxgen.errors import UserError
from jaxgen.keys import Key, Table
from jaxgen.models.clip.networks import make_clip
from jaxgen.models.clip.task import embed_verb, ended
from jaxgen.models.tirg import compose
from jaxgen.models.tirg.compose import View
from jaxgen.task import Nets
from jaxgen.tasks.common import make_module, module_of
from jaxgen.weights.parts import Part, Wanted

PART = "clip"
NET = f"{PART}/g"
SCALE = 10.0  # of normalised features, whose products are then 100 cosines
KEYS: Table = {
    "pad": Key(
        0.0,
        "black borders where the sides differ by this factor or more, 1.25 as published; 0: none",
        least=1,
        most=100,
        also=(0.0,),
        needed=False,
    )
}
# Those that look at a picture's map, which CLIP's feature has not.
_OF_MAPS = ("tirg_lastconv", "film", "relationship")


def is_over_clip(config: ConfigDict) -> bool:
    """Whether a config's features are a CLIP's."""
    image = config.model.get("image")
    return isinstance(image, ConfigDict) and image.get("form") == PART


def parts(config: ConfigDict) -> dict[str, Wanted]:
    """What trained models the config's family is made of."""
    if not is_over_clip(config):
        return {}
    size = config.data.size

    def trains(part: Part) -> None:
        theirs = part.config.data.size if part.config is not None else size
        if theirs != size:
            raise UserError(f"data.size={size} must be {theirs}, that of parts.clip={part.source}")

    return {PART: Wanted(families=("clip",), nets=("g",), trains=trains)}


class ClipWords:
    """Texts as the CLIP reads them; see `jaxgen.data.triplets.words.Words`."""

    def __init__(self, clip: ConfigDict):
        verb = embed_verb(clip)
        self._read, self.length = verb.read, verb.length

    def ids(self, text: str) -> list[int]:
        """All ids of a text."""
        prompt = self.encode(text)
        return prompt.tokens[prompt.mask].tolist()

    def fill(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """(tokens (t,) int32, mask (t,) bool)."""
        prompt = self.encode(text)
        return prompt.tokens, prompt.mask

    def encode(self, text: str) -> Prompt:
        """The prompt of a text, with a report of what was not understood."""
        return self._read(text)


def fit_of(config: ConfigDict) -> Callable[[np.ndarray, int], np.ndarray]:
    """How pictures are looked at: as CLIP does, behind borders where `model.image.pad` says so."""
    return functools.partial(_fitted, config.model.image.get("pad", 0.0))


def _fitted(ratio: float, image: np.ndarray, size: int) -> np.ndarray:
    return fit(padded(image, ratio) if ratio else image, size)


class OverClip:
    """The networks of a config whose `parts.clip` is filled in.

    Raises:
      UserError: a composition that looks at maps, or that has nothing to train.
    """

    def __init__(self, config: ConfigDict):
        form = config.model.compose.form
        if form in _OF_MAPS:
            raise UserError(
                f"model.compose.form={form} looks at a picture's map: with model.image.form=clip "
                "use combiner, tirg, concat or mrn"
            )
        clip = config.parts[PART]
        self.clip = make_clip(clip)
        self._published = "origin" in clip or bool(clip.model.vocabulary)
        self.embed = self.clip.embed
        settings = config.model.compose.to_dict()
        settings.pop("form")
        self.composer = make_module(
            module_of(config, "compose", compose.FORMS), "compose", config, **settings
        )

    def pictures(self, clip: Any, x: jax.Array) -> jax.Array:
        """(b, size, size, 3) float32 in [-1, 1] -> CLIP's features (b, e), not normalised."""
        found: Any = self.clip.apply(clip, normalise(x), method=CLIP.pictures)
        return found

    def texts(self, clip: Any, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """(b, t) -> CLIP's features (b, e), not normalised."""
        ids = tokens if self._published else ended(tokens, mask, self.clip.text.vocabulary - 1)
        found: Any = self.clip.apply(clip, ids, method=CLIP.texts)
        return found

    def queries(self, nets: Nets, x: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Pictures with texts -> (b, e) float32, not normalised; for use."""
        seen, said = self.pictures(nets[NET], x), self.texts(nets[NET], tokens, mask)
        found: Any = self.composer.apply(nets["g"], _view(seen), said)
        return found.astype(jnp.float32)

    def init(self, rng: jax.Array) -> Any:
        """Net g's variables."""
        row = jnp.zeros((1, self.embed), jnp.float32)
        return self.composer.init(rng, _view(row), row)

    def train(
        self, net: Any, clip: Any, batch: Any, source: jax.Array, target: jax.Array, rng: jax.Array
    ) -> tuple[jax.Array, jax.Array, Any]:
        """(queries (b * k, e), targets (b * k, e), changed state), not normalised.

        Args: net: net g's variables. source: (b, h, w, 3). target: (b, k, h, w, 3).
        """
        b, k = batch["tokens"].shape[:2]
        flat = target.reshape(b * k, *target.shape[2:])
        seen = self.pictures(clip, jnp.concatenate([source, flat]))
        tokens, mask = (batch[name].reshape(b * k, -1) for name in ("tokens", "mask"))
        said = self.texts(clip, tokens, mask)
        state = [key for key in net if key != "params"]
        queries, changed = self.composer.apply(
            net,
            _view(jnp.repeat(seen[:b], k, axis=0)),
            said,
            train=True,
            rngs={"dropout": rng},
            mutable=state,
        )
        return queries.astype(jnp.float32), seen[b:], changed


def _view(feature: jax.Array) -> View:
    return View(feature, feature)
