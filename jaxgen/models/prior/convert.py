"""taming-transformers' Net2Net checkpoint whole: a transformer and the first stages it writes for.

It becomes net "g" of a prior with the parts `first_stage` and, where the condition is a picture's
codes (depth, segmentation), `condition`. Other conditions have no weights, so that keys do not tell
them apart: ImageNet's model of 1.4 billion has classes and is known by its size, as is FacesHQ's,
whose coordinates there are not here; others begin with a start token.
"""

from __future__ import annotations

import math
from pathlib import Path

from ml_collections import ConfigDict

from jaxgen import keys, weights
from jaxgen.errors import UserError
from jaxgen.models.prior.layout import FIRST, SECOND
from jaxgen.models.prior.transformer_layout import LAYOUTS, NET2NET
from jaxgen.models.vqgan.convert import TAMING
from jaxgen.nn.autoencoder import factor
from jaxgen.tasks.prior.config import MODEL
from jaxgen.weights.layout import Gathered, Tensors, Whole, fitted, part_of, published, under
from jaxgen.weights.parts import Part, filled

NAME = "taming Net2Net"
_PREFIXES = {FIRST: "first_stage_model.", SECOND: "cond_stage_model."}
_MOST = 16  # codes on a side in their training; beyond it they draw by a sliding window
_CLASSES = {(48, 1536): 1000}  # (layers, width) -> of models that begin with a class
_COORDINATES = (24, 1024)  # (layers, width) of FacesHQ's, where no condition has weights
_COLOURS = "colorize"  # of a segmentation's first stage: how it is shown
_SAMPLING = {"top_k": 100}  # of their samplers


def read(path: Path, tensors: Tensors | None, prediction: str) -> Gathered | None:
    """The models of one file; None if it has no transformer or no first stage.

    Raises:
      UserError: a net that does not fit, or nets that do not fit each other.
    """
    del prediction
    if tensors is None or "transformer.tok_emb.weight" not in tensors:
        return None
    nets = {name: under(tensors, prefix) for name, prefix in _PREFIXES.items()}
    if "encoder.conv_in.weight" not in nets[FIRST]:
        return None
    sizes, config, variables = fitted(NET2NET, path, tensors)
    parts: dict[str, Part] = {}
    for name, own in nets.items():
        own.pop(_COLOURS, None)
        if own:
            parts[name] = part_of(path.name, NAME, "vqgan", "g", fitted(TAMING, path, own))
    first = parts[FIRST].config
    assert first is not None
    if first.model.quantize.codes != sizes["codes"]:
        raise UserError(
            f"{path}: its transformer writes {sizes['codes']} codes and its first stage has "
            f"{first.model.quantize.codes}: they are not of one model"
        )
    shape = sizes["layers"], sizes["width"]
    if shape == _COORDINATES and SECOND not in parts:
        raise UserError(
            f"{path}: a model of FacesHQ's size, whose condition are coordinates: there is no such "
            f'condition here; --layout "{NET2NET.name}" reads its transformer alone'
        )
    _complete(config, sizes["length"], SECOND in parts, shape)
    config.data.size = _side(config, sizes["length"]) * factor(first.model.autoencoder)
    config.parts = {name: f"{path.name} ({name})" for name in parts}
    shown = {key: sizes[key] for key in ("layers", "width", "codes", "length")}
    config.origin = {"file": path.name, "layout": NAME, "net": "g", "sizes": shown}
    return Gathered(config, {"g": variables}, parts)


def _complete(config: ConfigDict, length: int, image: bool, shape: tuple[int, int]) -> None:
    """The rest of a prior's settings, as published."""
    settings = {name: config.model.transformer[name] for name in ("layers", "heads", "width")}
    classes = 0 if image else _CLASSES.get(shape, 0)
    config.model = keys.defaults(MODEL)
    config.model.update(
        transformer={**settings, "dropout": 0.0},
        condition="image" if image else "class" if classes else "none",
        classes=classes,
        shared_ids=True,
        length=length,
        ema=0.0,
    )
    config.model.sampling.update(_SAMPLING)


def _side(config: ConfigDict, length: int) -> int:
    """Codes on a side of a picture that the transformer's positions hold with its condition."""
    most = (length + 1) / 2 if config.model.condition == "image" else length
    return min(_MOST, math.isqrt(int(most)))


def write(model: Gathered, target: Path) -> bool:
    """One `.safetensors`, or `.ckpt` by torch, of taming-transformers' names."""
    if model.config.model.get("form") != "gpt" or "text" in model.parts:
        return False
    own = published(NET2NET, filled(model.config, model.parts), model.nets["g"])
    if own is None:
        return False
    tensors = dict(own)
    for name, part in model.parts.items():
        if part.family != "vqgan" or part.config is None:
            return False
        found = published(TAMING, part.config, part.nets["g"])
        if found is None:
            return False
        tensors |= {f"{_PREFIXES[name]}{key}": value for key, value in found.items()}
    weights.write_tensors(target, tensors)
    return True


WHOLES = (Whole(NAME, read, write, folder=False),)
__all__ = ["LAYOUTS", "WHOLES"]
