"""Using what was trained: one `Model` for run directories, exported folders and bundled models.

A run directory is what `jaxgen.main` leaves (config.json, checkpoints/, ...). An exported folder
holds only what use needs: config.json, weights.safetensors, README.md. `load` opens either, and
the models that come with the package by their name.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.runs.card import model_card
from jaxgen.task import Prompt
from jaxgen.verbs.generate.use import GeneratingModel
from jaxgen.verbs.offered import check_fit, nets_of, verbs_of, wanted_parts
from jaxgen.weights import parts
from jaxgen.weights.files import whole_folder
from jaxgen.weights.nets import open_nets
from jaxgen.weights.places import CARD, CONFIG, WEIGHTS, is_export, resolve


class Model(GeneratingModel):
    """A trained model, ready for use: `generate` and what it has are in the base classes."""

    def upscale(
        self,
        image: Any,
        tile: int | None = None,
        *,
        prompt: str | Prompt | None = None,
        strength: float = 1.0,
        batch: int = 1,
        progress: Any = None,
    ) -> Any:
        """Upscales one picture by `self.scale`.

        Args:
          image: uint8, colour (h, w, 3), gray (h, w), or with alpha (h, w, 4); alpha is enlarged
            by bicubic interpolation. Or a list of pictures of one shape, without alpha, whose
            tiles share the batches: frames of a video. A list is returned then.
          tile: side of the tiles in low-resolution pixels; None: as large as memory allows. The
            result is the same.
          prompt: what the picture shows, for a model that takes one; None: what `with_prompt` set,
            else the empty prompt.
          strength: of the prompt, see `with_prompt`.
          batch: tiles per device at a time.
          progress: called as progress(tiles done, tiles in all).

        Returns: uint8, (scale*h, scale*w) with the channels of `image`.

        Raises:
          UserError: the model does not upscale, or the array is no such picture.
        """
        from jaxgen.verbs.upscale.tiling import upscale_alpha, upscale_image, upscale_images

        if prompt is not None:
            asked = self.with_prompt(prompt, strength)
            return asked.upscale(image, tile, batch=batch, progress=progress)
        verb = self._verb("upscale")
        if isinstance(image, list):
            frames = [np.asarray(frame) for frame in image]
            variables = self._variables(verb.net)
            return upscale_images(verb, variables, frames, tile, batch, progress)
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
            return upscale_image(verb, self._variables(verb.net), image, tile, batch, progress)
        height, width = image.shape[:2]
        result = np.empty((height * verb.scale, width * verb.scale, 4), np.uint8)
        color, variables = image[..., :3], self._variables(verb.net)
        upscale_image(verb, variables, color, tile, batch, progress, out=result[..., :3])
        result[..., 3] = upscale_alpha(image[..., 3], verb.scale)
        return result

    def with_prompt(self, prompt: str | Prompt, strength: float = 1.0) -> Model:
        """This model, guided by a text in all that it upscales; shares the weights.

        Args:
          prompt: a text, or what `read_prompt` gives. Of a text, unknown words are named in a
            warning, with the nearest known ones.
          strength: the result is empty + strength * (prompted - empty): 0 is the empty prompt's
            result, 1 the prompt's own, more overstates it.

        Raises:
          UserError: the model takes no prompt, or the strength is no finite number.
        """
        verb = self._prompted()
        if not math.isfinite(strength):
            raise UserError(f"the prompt's strength must be a finite number, not {strength}")
        prompt = self._read_aloud(prompt)
        asked = copy.copy(self)
        asked._asked = {verb.net: verb.ask(prompt, strength)}
        asked._words = prompt.words
        return asked

    def attention(
        self, image: np.ndarray, prompt: str | Prompt | None = None
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Where each word of a prompt acted.

        Args:
          image: uint8 (h, w, 3) or gray (h, w).
          prompt: None: what `with_prompt` set.

        Returns: (words, maps (h, w, words) float32): the share of each low-resolution pixel's
          attention that went to the word, mean over heads and layers. What is left of one went to
          the prompt's start.

        Raises:
          UserError: the model takes no prompt or has no attention, or no prompt was given.
        """
        from jaxgen.verbs.upscale.attention import attention_maps

        if prompt is not None:
            return self.with_prompt(prompt).attention(image)
        self.check_attention()
        verb = self._prompted()
        if verb.net not in self._asked:
            raise UserError("attention needs a prompt")
        maps = attention_maps(verb, self._variables(verb.net), np.asarray(image))
        return self._words, maps[..., 1 : 1 + len(self._words)]

    def check_attention(self) -> None:
        """Raises UserError if the model has no attention to show."""
        if self._prompted().attend is None:
            raise UserError(
                f"{self.name} has no attention to show: it was trained with another guidance "
                "(model.generator.guidance)"
            )

    def export(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Writes config, weights and a model card to a new folder, whole or not at all.

        Args:
          overwrite: replace a model exported there before (and nothing else).

        Raises:
          UserError: the folder is in use, or can't be written.
        """
        folder = Path(folder).expanduser().absolute()
        occupied = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
        if occupied and not (overwrite and is_export(folder)):
            hint = "; pass overwrite to replace it" if is_export(folder) else ""
            raise UserError(f"{folder} exists and is not empty: choose another folder{hint}")
        with whole_folder(folder) as partial:
            (partial / CONFIG).write_text(configs.to_json(self.config))
            given = parts.named(parts.arrays(self.made_of))
            own = {net: tree for net, tree in self.nets.items() if net not in given}
            weights.write_safetensors(partial / WEIGHTS, own, self._facts())
            card = model_card(folder.name, self.config, self._facts(), self.metrics)
            (partial / CARD).write_text(card)
            parts.keep(self.made_of, partial)
        return folder

    def _facts(self) -> dict[str, str]:
        """What the weights file's header says, so that a list of models needs no weights."""
        facts = {"family": self.family, "step": str(self.step), "parameters": str(self.parameters)}
        if "upscale" in self.verbs:
            facts["scale"] = str(self.scale)
        if "generate" in self.verbs:
            facts["size"] = str(self.size)
        return {**facts, "metrics": json.dumps(self.metrics)}


def load(name_or_path: str | Path, step: int | None = None, best: bool = False) -> Model:
    """Opens a run directory, an exported folder, or a bundled model by its name.

    A path that exists comes before a bundled name.

    Args:
      step: which checkpoint of a run; None: the newest.
      best: the run's best evaluated checkpoint instead of the newest.

    Raises:
      UserError: nothing of that name, no checkpoint yet, damaged, or not made for this config.
    """
    folder = resolve(name_or_path)
    config = configs.from_json(folder / CONFIG)
    made_of = parts.of_model(folder, config, wanted_parts(config))
    verbs = verbs_of(parts.filled(config, made_of))
    given = parts.named(parts.arrays(made_of))
    own = tuple(net for net in nets_of(verbs) if net not in given)
    opened = open_nets(folder, own or None, step, best)
    check_fit(folder, verbs, {**opened.nets, **given})
    return Model(folder.name, config, opened.nets, opened.step, opened.metrics, verbs, made_of)
