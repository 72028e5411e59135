"""What a family says of a published weight layout: how to tell it, and how its keys map to ours.

`jaxgen/models/<family>/convert.py` lists these as `LAYOUTS`; `jaxgen.runs.convert` tries them in
turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.weights import Rule, Tree
from jaxgen.weights.keymap import convert, template_pattern, to_torch
from jaxgen.weights.parts import Part

Tensors = Mapping[str, np.ndarray]
Sizes = Mapping[str, Any]
# Batches that each BatchNorm has seen; PyTorch reads state dicts without them, too.
NORM_COUNTS = Rule("*.num_batches_tracked", None)


@dataclasses.dataclass(frozen=True)
class Layout:
    """One network's weights as some project publishes them.

    name: as its users know it, e.g. "Real-ESRGAN RRDBNet".
    net: the family's net that they are, "g" or "d".
    sizes: tensors -> what their keys and shapes say of the network (blocks, channels, scale), or
      None if they are not of this layout. Looks at a few telling keys only, so that a file with
      one key missing is still recognised and `weights.convert` can say which.
    config: sizes -> a config of the family whose net has these sizes; enough for its verbs.
    read: config -> sizes, the inverse of `config`; None if the config's net can't be written in
      this layout.
    rules: sizes -> key map; targets begin with the collection ("params/conv_in/kernel").
    expected: config -> the net's variables as shapes ({"params": ..., "batch_stats": ...}).
    join: the file's tensors -> what `sizes` and `rules` see, where several of its tensors are one
      of ours; `part` is its inverse.
    beside: (the file, sizes) -> sizes, with what the files beside it say that its keys do not;
      warns where that stays open.
    """

    name: str
    net: str
    sizes: Callable[[Tensors], Sizes | None]
    config: Callable[[Sizes], ConfigDict]
    read: Callable[[ConfigDict], Sizes | None]
    rules: Callable[[Sizes], Sequence[Rule]]
    expected: Callable[[ConfigDict], Tree]
    join: Callable[[Tensors], Tensors] = dict
    part: Callable[[Tensors], Tensors] = dict
    beside: Callable[[Path, Sizes], Sizes] = lambda path, sizes: sizes


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A model of several nets, as its family has it.

    config: with an entry of `parts` for each part. nets: {net: variables}. parts: {name: part}.
    """

    config: ConfigDict
    nets: Mapping[str, Tree]
    parts: Mapping[str, Part]


@dataclasses.dataclass(frozen=True)
class Whole:
    """A model of several nets as some project publishes it, in one file or in a folder.

    A family lists its own as `WHOLES` beside `LAYOUTS`.

    name: as its users know it.
    read: (file or folder, the file's tensors or None of a folder, prediction) -> the model, None if
      it is none of these; prediction: "eps" or "v" where the user said so, else "".
    write: (model, new file or folder) -> False if it can't be written in this form.
    folder: whether it is a folder.
    """

    name: str
    read: Callable[[Path, Tensors | None, str], Gathered | None]
    write: Callable[[Gathered, Path], bool]
    folder: bool


@dataclasses.dataclass(frozen=True)
class Addition:
    """What was learned beside a model's nets as some project publishes it; `ADDITIONS` of a family.

    name: as its users know it.
    write: (model, new file) -> the number of tensors; raises UserError where it has none such.
    """

    name: str
    write: Callable[[Gathered, Path], int]


def fitted(
    layout: Layout, path: Path, tensors: Tensors, sizes: Sizes | None = None
) -> tuple[Sizes, ConfigDict, Tree]:
    """(sizes, config, variables) of tensors that are of this layout.

    Args:
      path: their file, beside which more may lie.
      sizes: what is known of them; None: what their keys and shapes say.

    Raises:
      UserError: names every missing, extra and misshapen key.
    """
    joined = layout.join(tensors)
    try:
        sizes = layout.sizes(joined) if sizes is None else sizes
    except (LookupError, ValueError, ArithmeticError):
        sizes = None
    if sizes is None:
        some = ", ".join(sorted(tensors)[:4])
        raise UserError(f"{path}: these keys are not of {layout.name}: {some}, ...")
    sizes = layout.beside(path, sizes)
    config = layout.config(sizes)
    try:
        return sizes, config, convert(joined, layout.rules(sizes), layout.expected(config))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def published(layout: Layout, config: ConfigDict, variables: Tree) -> dict[str, np.ndarray] | None:
    """A net's variables under the layout's keys; None if it has no such network."""
    sizes = layout.read(config)
    if sizes is None:
        return None
    return dict(layout.part(to_torch(variables, layout.rules(sizes))))


def config_of(family: str, net: str, settings: Mapping[str, Any], **data: Any) -> ConfigDict:
    """A config that holds one network and what else its verbs read.

    Args:
      net: the section of `config.model`, "generator" or "discriminator".
      data: `scale`, `hr_size`: what the network depends on.
    """
    config = configs.base(family)
    config.data = data
    config.model = {net: dict(settings)}
    return config


def shapes_of(module: Any, side: int = 8, channels: int = 3) -> Tree:
    """The variables, as shapes, of a module that takes pictures of `side` pixels."""
    picture = jax.ShapeDtypeStruct((1, side, side, channels), "float32")
    return jax.eval_shape(module.init, jax.random.key(0), picture)


def under(tensors: Tensors, prefix: str) -> dict[str, np.ndarray]:
    """The tensors whose keys begin so, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def part_of(
    file: str, layout: str, family: str, net: str, found: tuple[Sizes, ConfigDict, Tree]
) -> Part:
    """A net of a model that is published whole, as a part of it.

    Args:
      file: its name. layout: the whole model's. found: of `fitted`.
    """
    sizes, config, variables = found
    shown = {key: value for key, value in sizes.items() if key != "vocabulary"}
    config.origin = {"file": file, "layout": layout, "net": net, "sizes": shown}
    return Part(file, family, 0, {}, config, {net: variables})


def count(tensors: Tensors, template: str, field: str = "i") -> int:
    """One more than the largest number that keys have in a template's field; 0 if none fits.

    Gaps count, so that a file with a key missing has its true size.

    Args:
      template: as of a `Rule`, and what such keys begin with: "body.{i}.conv1.".
      field: the one that is counted; the others stand for any number.
    """
    pattern = template_pattern(template)
    found = (pattern.match(key) for key in tensors)
    return 1 + max((int(match[field]) for match in found if match), default=-1)


def norm_rules(source: str, target: str) -> list[Rule]:
    """The rules of a BatchNorm; its statistics are the last two."""
    return [
        Rule(f"{source}.weight", f"params/{target}/scale"),
        Rule(f"{source}.bias", f"params/{target}/bias"),
        Rule(f"{source}.running_mean", f"batch_stats/{target}/mean"),
        Rule(f"{source}.running_var", f"batch_stats/{target}/var"),
    ]
