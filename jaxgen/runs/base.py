"""What every trained model has, whatever it can do: its nets on the device, verbs and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.task import Prompt, PromptedUpscale
from jaxgen.verbs.offered import nets_of, verbs_of
from jaxgen.weights import parts


class BaseModel:
    """A trained model, ready for use.

    Attributes:
      name: the run's or the folder's name.
      config: the resolved config that it was trained with.
      step: training step of the weights.
      nets: variables by net name, {"g": {"params": ..., "batch_stats": ...}}, averaged over
        training (EMA) where the run kept an average.
      metrics: of the evaluation at `step`, {} if there was none.
      verbs: what the family offers, by name; each is also a method here. Weights without one can
        be exported and trained from.
      made_of: the trained models that it is made of, by name (`jaxgen.weights.parts`); their nets
        are among `nets` as "first_stage/decoder".
    """

    def __init__(
        self,
        name: str,
        config: ConfigDict,
        nets: Mapping[str, Any],
        step: int,
        metrics: Mapping[str, float] | None = None,
        verbs: Mapping[str, Any] | None = None,
        made_of: Mapping[str, parts.Part] | None = None,
    ):
        self.name = name
        self.config = config
        self.step = step
        self.metrics = dict(metrics or {})
        self.made_of = dict(made_of or {})
        self.verbs = dict(verbs_of(parts.filled(config, self.made_of)) if verbs is None else verbs)
        nets = {**nets, **parts.named(parts.arrays(self.made_of))}
        # Only what the verbs need: no discriminator.
        self.nets = {net: nets[net] for net in nets_of(self.verbs) or nets}
        self._placed: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}  # by net: the prompt that goes with its variables
        self._words: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Name of the folder in `jaxgen/models`."""
        return self.config.family

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each axis, of the verb `upscale`."""
        return self._verb("upscale").scale

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that the verb `generate` draws."""
        return self._verb("generate").size

    @property
    def parameters(self) -> int:
        """Number of trained parameters in the nets that the verbs use."""
        return sum(_count(net["params"]) for net in self.nets.values())

    def read_prompt(self, text: str) -> Prompt:
        """The text as the model reads it: its words, and which of them it does not know.

        Raises:
          UserError: the model takes no prompt.
        """
        verb = self._prompted() if "upscale" in self.verbs else self._verb("generate")
        return verb.read(text)

    def _verb(self, name: str) -> Any:
        if name not in self.verbs:
            raise UserError(
                f"{self.name} (family {self.family}) does not {name}; it can: "
                f"{', '.join(sorted(self.verbs)) or 'nothing'}"
            )
        return self.verbs[name]

    def _variables(self, net: str) -> Any:
        """The net's variables on the device; put there at their first use."""
        if net not in self._placed:
            import jax

            from jaxgen import cache

            cache.enable()
            self._placed[net] = jax.device_put(self.nets[net])
        if net in self._asked:
            return {**self._placed[net], "prompt": self._asked[net]}
        return self._placed[net]

    def _read_aloud(self, prompt: str | Prompt) -> Prompt:
        """The prompt of a text, with a warning where words of it are unknown or too many."""
        from jaxgen.data.text.tokens import complaint
        from jaxgen.log import log

        if not isinstance(prompt, str):
            return prompt
        read = self.read_prompt(prompt)
        if problem := complaint(read):
            log.warning("%s", problem)
        return read

    def _prompted(self) -> PromptedUpscale:
        verb = self._verb("upscale")
        if not isinstance(verb, PromptedUpscale):
            raise UserError(
                f"{self.name} (family {self.family}) takes no prompt; use a model of the family "
                "prompt_srgan"
            )
        return verb


def _count(tree: Any) -> int:
    return sum(int(np.prod(a.shape)) for a in weights.flatten(tree).values())
