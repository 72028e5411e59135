"""Using what was trained: one `Model` for run directories, exported folders and bundled models.

A run directory is what `jaxgen.main` leaves (config.json, checkpoints/, ...). An exported folder
holds only what use needs: config.json, weights.safetensors, README.md. `load` opens either, and
the models that come with the package by their name.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import verbs, weights
from jaxgen.errors import UserError
from jaxgen.runs.card import model_card
from jaxgen.verbs.offered import check_fit, nets_of, verbs_of, wanted_parts
from jaxgen.weights import parts
from jaxgen.weights.files import whole_folder
from jaxgen.weights.nets import open_nets
from jaxgen.weights.places import (
    CARD,
    CONFIG,
    WEIGHTS,
    is_composed,
    is_export,
    resolve,
    that_do,
)  # fmt: skip

if TYPE_CHECKING:
    from jaxgen.verbs.edit.use import Changer
    from jaxgen.verbs.embed.use import Embedder
    from jaxgen.verbs.encode.use import Coder
    from jaxgen.verbs.generate.base import TextToImage
    from jaxgen.verbs.upscale.use import Upscaler

# Folders of `jaxgen/verbs`: what any model might be asked for.
VERBS = tuple(module.name for module in pkgutil.iter_modules(verbs.__path__) if module.ispkg)


class Model:
    """A trained model, ready for use; each verb of its family is an attribute: `model.upscale`.

    Attributes:
      name: the run's or the folder's name.
      config: the resolved config that it was trained with.
      step: training step of the weights.
      nets: variables by net name, {"g": {"params": ..., "batch_stats": ...}}, averaged over
        training (EMA) where the run kept an average.
      metrics: of the evaluation at `step`, {} if there was none.
      verbs: what the family offers, by name. Weights without one can be exported and trained from.
      made_of: the trained models that it is made of, by name (`jaxgen.weights.parts`); their nets
        are among `nets` as "first_stage/decoder".
    """

    if TYPE_CHECKING:
        upscale: Upscaler
        generate: TextToImage[Any]
        edit: Changer
        embed: Embedder
        encode: Coder

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
        if not self.verbs:
            return
        from jaxgen.devices import Placed  # with it JAX; a mistaken name is told without

        placed = Placed(self.nets)
        for verb, offered in self.verbs.items():
            use = importlib.import_module(f"jaxgen.verbs.{verb}.use")
            setattr(self, verb, use.bind(offered, placed, name))

    def __getattr__(self, name: str) -> Any:
        # Only what is not there comes here.
        if name in VERBS:
            raise UserError(
                f"{self.name} (family {self.family}) does not {name}; it can: "
                f"{', '.join(sorted(self.verbs)) or 'nothing'}{that_do(name)}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def family(self) -> str:
        """Name of the folder in `jaxgen/models`."""
        return self.config.family

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each axis, of the verb `upscale`."""
        return self.upscale.scale

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that the verb `generate` draws."""
        return self.generate.size

    @property
    def parameters(self) -> int:
        """Number of trained parameters in the nets that the verbs use."""
        flat = weights.flatten({name: net["params"] for name, net in self.nets.items()})
        return sum(int(np.prod(a.shape)) for a in flat.values())

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
            weights.write_safetensors(partial / WEIGHTS, own, self.facts())
            (partial / CARD).write_text(model_card(folder.name, self))
            parts.keep(self.made_of, partial)
        return folder

    def facts(self) -> dict[str, str]:
        """What the weights file's header says, so that a list of models needs no weights."""
        return {
            "family": self.family,
            "step": str(self.step),
            "parameters": str(self.parameters),
            "verbs": json.dumps({name: verb.facts() for name, verb in self.verbs.items()}),
            "metrics": json.dumps(self.metrics),
        }


def load(
    name_or_path: str | Path,
    step: int | None = None,
    best: bool = False,
    width: float | None = None,
) -> Model:
    """Opens a run directory, an exported folder, or a bundled model by its name.

    A path that exists comes before a bundled name. `vqgan-clip:VQGAN,CLIP` is two of them put
    together; see `jaxgen.runs.compose`.

    Args:
      step: which checkpoint of a run; None: the newest.
      best: the run's best evaluated checkpoint instead of the newest.
      width: of the average over a run's steps, where `train.power_ema` kept it (see
        docs/configs.md); None: the average that the run was evaluated with.

    Raises:
      UserError: nothing of that name, no checkpoint yet, damaged, or not made for this config.
    """
    if is_composed(name_or_path):
        from jaxgen.runs.compose import load_composed

        if step is not None or best:
            raise UserError(f"{name_or_path} is two models: export the steps that you mean first")
        return load_composed(str(name_or_path))
    folder = resolve(name_or_path)
    config = configs.from_json(folder / CONFIG)
    made_of = parts.of_model(folder, config, wanted_parts(config))
    offered = verbs_of(parts.filled(config, made_of))
    given = parts.named(parts.arrays(made_of))
    own = tuple(net for net in nets_of(offered) if net not in given)
    opened = open_nets(folder, own or None, step, best, width)
    check_fit(folder, offered, {**opened.nets, **given})
    return Model(folder.name, config, opened.nets, opened.step, opened.metrics, offered, made_of)
