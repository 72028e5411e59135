"""LoRA files (Hu et al. 2021) of Stable Diffusion, added to a model's weights.

Each changed layer has two small matrices: W + scale * alpha / rank * up down. Two layouts are read:
kohya-ss's, with all dots of a layer's name as underscores (`lora_unet_...`, `lora_te_...`), and
diffusers', with them (`unet.`, `text_encoder.`), in its present and its older form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgen.errors import UserError
from jaxgen.weights import Rule, Tree, read_metadata, read_tensors
from jaxgen.weights.keymap import flatten, located, unflatten

# Of a key: the layer, and which of its matrices.
_KOHYA = re.compile(r"lora_(unet|te|te1)_(.+)\.(lora_down\.weight|lora_up\.weight|alpha)")
_DIFFUSERS = re.compile(
    r"(unet|text_encoder)\.(.+?)\.?"
    r"(lora_A\.weight|lora_B\.weight|lora\.down\.weight|lora\.up\.weight"
    r"|lora_linear_layer\.down\.weight|lora_linear_layer\.up\.weight"
    r"|_lora\.down\.weight|_lora\.up\.weight|alpha)"
)
_SPLIT = re.compile(r"(.*\.self_attn\.)([qkv])_proj\.weight")


class Change(NamedTuple):
    """Of one layer: down (r, in, ...), up (out, r, ...), alpha (None: the rank)."""

    down: np.ndarray
    up: np.ndarray
    alpha: float | None

    def delta(self) -> np.ndarray:
        """What is added to the layer's weight, (out, in, ...) float32."""
        down, up = self.down.astype(np.float32), self.up.astype(np.float32)
        rank = down.shape[0]
        product = up.reshape(up.shape[0], rank) @ down.reshape(rank, -1)
        alpha = rank if self.alpha is None else self.alpha
        return (alpha / rank) * product.reshape(up.shape[0], *down.shape[1:])


def read_lora(path: Path, layers: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Change]]:
    """A file's changes, by net and by the layer's name in diffusers' and transformers' models.

    Args: layers: of each net ("unet", "text"), the names of the layers with a weight.

    Raises:
      UserError: no LoRA, a layer that the model has not, or half of one.
    """
    tensors = read_tensors(path)
    flat = {net: {name.replace(".", "_"): name for name in names} for net, names in layers.items()}
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    unknown = []
    for key, value in tensors.items():
        place = _place(key, flat, layers)
        if place is None:
            unknown.append(key)
        else:
            found.setdefault(place[:2], {})[place[2]] = value
    if unknown:
        raise UserError(
            f"{path}: {len(unknown)} keys are of no layer of this model: "
            f"{', '.join(sorted(unknown)[:4])}; it is a LoRA of another model, or in another layout"
        )
    alphas = _alphas(path)
    result: dict[str, dict[str, Change]] = {net: {} for net in layers}
    for (net, name), parts in found.items():
        if not {"down", "up"} <= parts.keys():
            raise UserError(f"{path}: of the layer {name} only {', '.join(sorted(parts))} is there")
        alpha = float(parts["alpha"]) if "alpha" in parts else alphas.get(net)
        change = Change(parts["down"], parts["up"], alpha)
        if change.down.shape[0] != change.up.shape[1]:
            raise UserError(f"{path}: the two matrices of {name} are of different ranks")
        result[net][name] = change
    return result


def merged(
    variables: Tree, rules: Sequence[Rule], changes: Mapping[str, Change], scale: float, path: Path
) -> Tree:
    """A net's variables with changes added.

    Args: rules: of diffusers' or transformers' names. changes: by these. path: for messages.

    Raises:
      UserError: a change of another shape.
    """
    flat = dict(flatten(variables))
    for name, change in changes.items():
        key, delta = f"{name}.weight", change.delta()
        part = _SPLIT.fullmatch(key)
        if part is not None:  # of three layers that are one here
            key = f"{part[1]}qkv_proj.weight"
            whole = np.zeros((3 * delta.shape[0], *delta.shape[1:]), np.float32)
            row = "qkv".index(part[2]) * delta.shape[0]
            whole[row : row + delta.shape[0]] = delta
            delta = whole
        place = located(key, rules)
        assert place is not None  # `read_lora` knows the layers
        target, transform = place
        if transform.ndim == 4 and delta.ndim == 2:  # a dense change of a 1x1 convolution
            delta = delta[..., None, None]
        if transform.ndim == 2 and delta.ndim == 4:
            delta = delta[..., 0, 0]
        add = transform.to_jax(delta)
        old = np.asarray(flat[target])
        if add.shape != old.shape:
            raise UserError(
                f"{path}: the change of {name} is {delta.shape}, and the layer is another: it is a "
                "LoRA of another model"
            )
        flat[target] = (old.astype(np.float32) + np.float32(scale) * add).astype(old.dtype)
    return unflatten(flat)


def layers_of(name: str, down: np.ndarray, up: np.ndarray, alpha: float) -> dict[str, Change]:
    """The changes of a published layer, three where it is q, k and v in one, which share `down`.

    Args: name: of the layer, without ".weight". down (r, in), up (out, r).
    """
    if not name.endswith(".qkv_proj"):
        return {name: Change(down, up, alpha)}
    head = name.removesuffix("qkv_proj")
    halves = zip("qkv", np.split(up, 3), strict=True)
    return {f"{head}{which}_proj": Change(down, own, alpha) for which, own in halves}


def kohya(changes: Mapping[str, Mapping[str, Change]]) -> dict[str, np.ndarray]:
    """A file's tensors in kohya-ss's layout, of "unet" and "text"."""
    tensors: dict[str, np.ndarray] = {}
    for net, start in (("unet", "lora_unet_"), ("text", "lora_te_text_model_")):
        for name, change in changes[net].items():
            key = start + name.replace(".", "_")
            tensors[f"{key}.lora_down.weight"] = change.down
            tensors[f"{key}.lora_up.weight"] = change.up
            tensors[f"{key}.alpha"] = np.array(change.alpha, np.float32)
    return {key: np.asarray(value, order="C") for key, value in tensors.items()}


def diffusers(changes: Mapping[str, Mapping[str, Change]]) -> dict[str, np.ndarray]:
    """The same in diffusers' layout, which has no alpha: it is within the second matrix."""
    tensors = {}
    for net, start in (("unet", "unet."), ("text", "text_encoder.text_model.")):
        for name, change in changes[net].items():
            rank = change.down.shape[0]
            scale = np.float32(1.0 if change.alpha is None else change.alpha / rank)
            tensors[f"{start}{name}.lora_A.weight"] = change.down
            tensors[f"{start}{name}.lora_B.weight"] = scale * change.up
    return {key: np.asarray(value, order="C") for key, value in tensors.items()}


def _place(
    key: str, flat: Mapping[str, Mapping[str, str]], layers: Mapping[str, Sequence[str]]
) -> tuple[str, str, str] | None:
    """(net, layer, "down", "up" or "alpha") of a key."""
    if (found := _KOHYA.fullmatch(key)) is not None:
        net, name = "unet" if found[1] == "unet" else "text", found[2]
        layer = flat[net].get(name.removeprefix("text_model_") if net == "text" else name)
    elif (found := _DIFFUSERS.fullmatch(key)) is not None:
        net, name = "unet" if found[1] == "unet" else "text", found[2]
        # Older files: attn1.processor.to_q_lora, and of the text to_q_lora for q_proj.
        name = name.replace(".processor.", ".").removeprefix("text_model.")
        if name.endswith(".to_out"):
            name += ".0"
        if net == "text":
            name = re.sub(r"self_attn\.to_([qkv])$", r"self_attn.\1_proj", name)
            name = re.sub(r"self_attn\.to_out\.0$", "self_attn.out_proj", name)
        layer = name if name in layers[net] else None
    else:
        return None
    kind = found[3]
    part = "alpha" if kind == "alpha" else "down" if "down" in kind or "lora_A" in kind else "up"
    return None if layer is None else (net, layer, part)


def _alphas(path: Path) -> dict[str, float]:
    """What PEFT's metadata say of each net's alpha."""
    if path.suffix != ".safetensors":
        return {}
    try:
        said = json.loads(read_metadata(path).get("lora_adapter_metadata", "{}"))
        names = {"unet": "unet", "text": "text_encoder"}
        return {
            net: float(said[f"{name}.lora_alpha"])
            for net, name in names.items()
            if f"{name}.lora_alpha" in said
        }
    except (json.JSONDecodeError, TypeError, ValueError):
        return {}
