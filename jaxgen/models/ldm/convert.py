"""Stable Diffusion 1 and 2 whole: diffusers' folder and CompVis's single file, both ways.

InstructPix2Pix is one of them whose UNet takes twice the channels. A whole model is the UNet as net
"g", and two parts: `first_stage`, a vae, and `text`, CLIP's text tower alone. What a file cannot
say is asked for: whether one of SD 2's form predicts noise or v.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import weights
from jaxgen.errors import NO_JSON, UserError
from jaxgen.models.clip.text import HF_TEXT, OPEN_TEXT
from jaxgen.models.ldm import compvis, lora
from jaxgen.models.ldm.diffusers_folder import pipeline_of, write_about
from jaxgen.models.ldm.learned import ADDITIONS, add_words, merged, whole
from jaxgen.models.ldm.unet_layout import COMPVIS, DIFFUSERS
from jaxgen.models.vae import convert as vae
from jaxgen.weights import Rule
from jaxgen.weights.keymap import source_of
from jaxgen.weights.layout import (
    Gathered,
    Layout,
    Sizes,
    Tensors,
    Whole,
    fitted,
    part_of,
    published,
    under,
)
from jaxgen.weights.parts import filled

FIRST, TEXT = "first_stage", "text"
_TARGETS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
_SCHEDULE = {"kind": "scaled-linear", "steps": 1000, "first": 0.00085, "last": 0.012,
             "zero_snr": False, "shift": 1.0}  # fmt: skip
_KINDS = {"scaled_linear": "scaled-linear", "linear": "linear", "squaredcos_cap_v2": "cosine"}
_SAMPLING = {"sampler": "dpmpp-2m", "steps": 25, "guidance": 7.5, "spacing": ""}
_INSTRUCT = {**_SAMPLING, "sampler": "euler-a", "steps": 30}  # published: 100
# Files of a net's weights, the best first.
_FILES = (
    "{}.safetensors", "{}.fp16.safetensors", "{}.bin", "{}.fp16.bin",
)  # fmt: skip
_NETS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}


# -------------------------------------------------------------------------------- diffusers' folder


def read_folder(path: Path, tensors: Tensors | None, prediction: str) -> Gathered | None:
    """`unet/`, `vae/`, `text_encoder/` and `scheduler/` of a folder.

    Raises:
      UserError: a part is missing or does not fit, or what is predicted stays open.
    """
    if tensors is not None or not (path / "unet").is_dir():
        return None
    files = {net: _weights(path / net, stem) for net, stem in _NETS.items()}
    unet = _fitted(DIFFUSERS, files["unet"])
    _check_pipeline(path / "model_index.json", unet[1])
    target, schedule = _scheduled(path / "scheduler" / "scheduler_config.json", prediction)
    return _model(
        path.name,
        "diffusers Stable Diffusion",
        unet,
        _fitted(vae.DIFFUSERS, files["vae"]),
        _fitted(HF_TEXT, files["text_encoder"]),
        target,
        schedule,
        _sample_size(path / "unet" / "config.json"),
    )


def _check_pipeline(about: Path, config: ConfigDict) -> None:
    """Refuses other models whose UNet takes twice the channels, such as Marigold's of depth."""
    if not config.model.get("instruct", False) or not about.is_file():
        return
    try:
        said = str(json.loads(about.read_text())["_class_name"])
    except (*NO_JSON, LookupError, TypeError) as error:
        raise UserError(f"{about} names no pipeline ({error}); mend it or move it") from None
    if said != pipeline_of(config):
        raise UserError(
            f"{about}: a {said}; of models whose UNet sees a picture beside x only "
            f"{pipeline_of(config)} is read"
        )


def _weights(folder: Path, stem: str) -> Path:
    stems = (stem, "pytorch_model") if stem == "model" else (stem,)
    for form in _FILES:
        for one in stems:
            if (folder / form.format(one)).is_file():
                return folder / form.format(one)
    raise UserError(f"{folder} has no {stem}.safetensors: fetch the model whole")


def _fitted(layout: Layout, path: Path) -> tuple[Sizes, ConfigDict, Any]:
    return fitted(layout, path, weights.read_tensors(path))


def _scheduled(about: Path, prediction: str) -> tuple[str, dict[str, Any]]:
    """(target, settings of the schedule) of a scheduler's config."""
    if not about.is_file():
        if not prediction:
            raise UserError(
                f"{about} is missing, and only it says what the model predicts: fetch it, or give "
                "--prediction eps or v"
            )
        return prediction, dict(_SCHEDULE)
    try:
        said = json.loads(about.read_text())
        target = _TARGETS.get(said.get("prediction_type", "epsilon"))
        kind = _KINDS.get(said.get("beta_schedule", "linear"))
        schedule = {
            **_SCHEDULE,
            "kind": kind,
            "steps": int(said.get("num_train_timesteps", 1000)),
            "first": float(said.get("beta_start", 0.0001)),
            "last": float(said.get("beta_end", 0.02)),
            "zero_snr": bool(said.get("rescale_betas_zero_snr", False)),
        }
    except (*NO_JSON, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{about} is no config of a scheduler ({error}); mend it") from None
    if target is None or kind is None:
        raise UserError(
            f"{about}: prediction_type={said.get('prediction_type')}, beta_schedule="
            f"{said.get('beta_schedule')}: not read; there are {', '.join(_TARGETS)} and "
            f"{', '.join(_KINDS)}"
        )
    if prediction and prediction != target:
        raise UserError(f"{about} says that the model predicts {target}, not {prediction}")
    return target, schedule


def _sample_size(about: Path) -> int:
    try:
        return int(json.loads(about.read_text()).get("sample_size") or 64)
    except (*NO_JSON, OSError, AttributeError, TypeError, ValueError):
        return 64


def write_folder(model: Gathered, target: Path) -> bool:
    """A new folder that diffusers' StableDiffusionPipeline opens."""
    model = whole(model)
    found = _layouts_of(model, DIFFUSERS, vae.DIFFUSERS, HF_TEXT)
    if found is None:
        return False
    with weights.files.whole_folder(target) as folder:
        for (net, stem), tensors in zip(_NETS.items(), found, strict=True):
            (folder / net).mkdir()
            weights.write_tensors(folder / net / f"{stem}.safetensors", tensors)
        write_about(folder, model)
    return True


# ----------------------------------------------------------------------------------- CompVis's file


def read_file(path: Path, tensors: Tensors | None, prediction: str) -> Gathered | None:
    """UNet (its average, where there is one), autoencoder and text tower of one file.

    Raises:
      UserError: a net is missing or does not fit, or what is predicted stays open.
    """
    if tensors is None or f"{compvis.UNET}input_blocks.0.0.weight" not in tensors:
        return None
    around = tensors.get(f"{compvis.UNET}middle_block.1.proj_in.weight")
    if around is not None and around.ndim == 2 and not prediction:
        raise UserError(
            f"{path}: a model of Stable Diffusion 2's form, whose keys do not tell what it "
            "predicts: give --prediction eps (the base models) or v (the others, 768 pixels)"
        )
    unet = fitted(COMPVIS, path, under(compvis.averaged(tensors), compvis.UNET))
    first = fitted(vae.COMPVIS, path, under(tensors, compvis.VAE))
    text = under(tensors, compvis.TEXT_OPEN)
    layout = OPEN_TEXT if text else HF_TEXT
    if not text:
        text = next((t for name in compvis.TEXT_HF if (t := under(tensors, name))), {})
    return _model(
        path.name,
        "CompVis Stable Diffusion",
        unet,
        first,
        fitted(layout, path, text),
        prediction or "eps",
        dict(_SCHEDULE),
        96 if prediction == "v" else 64,
    )


def write_file(model: Gathered, target: Path) -> bool:
    """One `.safetensors`, or `.ckpt` by torch, of CompVis's names."""
    model = whole(model)
    second = model.parts[TEXT].config.model.get("activation") == "gelu"  # type: ignore[union-attr]
    text = OPEN_TEXT if second else HF_TEXT
    found = _layouts_of(model, COMPVIS, vae.COMPVIS, text)
    if found is None:
        return False
    tower = compvis.TEXT_OPEN if second else compvis.TEXT_HF[1]
    tensors = {
        f"{prefix}{key}": value
        for prefix, own in zip((compvis.UNET, compvis.VAE, tower), found, strict=True)
        for key, value in own.items()
    }
    weights.write_tensors(target, tensors)
    return True


# --------------------------------------------------------------------------------------------- both


def _layouts_of(
    model: Gathered, unet: Layout, first: Layout, text: Layout
) -> tuple[dict[str, np.ndarray], ...] | None:
    """The three nets' tensors; None if one of them has no such form."""
    found = [published(unet, filled(model.config, model.parts), model.nets["g"])]
    for name, net, layout in ((FIRST, "g", first), (TEXT, "text", text)):
        part = model.parts.get(name)
        if part is None or part.config is None or net not in part.nets:
            return None
        if part.family != {FIRST: "vae", TEXT: "clip"}[name]:
            return None
        found.append(published(layout, part.config, part.nets[net]))
    given = [one for one in found if one is not None]
    return tuple(given) if len(given) == len(found) else None


def _model(
    name: str,
    layout: str,
    unet: tuple[Sizes, ConfigDict, Any],
    first: tuple[Sizes, ConfigDict, Any],
    text: tuple[Sizes, ConfigDict, Any],
    target: str,
    schedule: Mapping[str, Any],
    side: int,
) -> Gathered:
    config = unet[1]
    del config.model.given  # its channels are the autoencoder's, its context the tower's
    config.data = {"size": side * 8}
    config.model.update(
        classes=0,
        target=target,
        schedule=dict(schedule),
        drop_condition=0.1,  # of their training; with 0 there is no guidance
        sampling=_INSTRUCT if config.model.get("instruct", False) else _SAMPLING,
    )
    config.parts = {FIRST: f"{name} (vae)", TEXT: f"{name} (text)"}
    shown = {key: unet[0][key] for key in ("channels", "context", "linear")}
    config.origin = {"file": name, "layout": layout, "net": "g", "sizes": shown}
    parts = {
        FIRST: part_of(name, layout, "vae", "g", first),
        TEXT: part_of(name, layout, "clip", "text", text),
    }
    return Gathered(config, {"g": unet[2]}, parts)


def merge_lora(model: Gathered, path: Path, scale: float) -> Gathered:
    """A model with a LoRA's changes added to its UNet and its text tower.

    Raises:
      UserError: it is of another model.
    """
    model = merged(model)
    unet, text = DIFFUSERS.read(filled(model.config, model.parts)), model.parts.get(TEXT)
    tower = None if text is None or text.config is None else HF_TEXT.read(text.config)
    if unet is None or text is None or tower is None:
        raise UserError(f"{path}: a LoRA is added to Stable Diffusion, which this model is not")
    rules = {"unet": DIFFUSERS.rules(unet), "text": HF_TEXT.rules(tower)}
    variables = {"unet": model.nets["g"], "text": text.nets["text"]}
    layers = {net: _layers(variables[net], rules[net]) for net in rules}
    changes = lora.read_lora(path, layers)
    new = {net: lora.merged(variables[net], rules[net], changes[net], scale, path) for net in rules}
    parts = {
        **model.parts,
        TEXT: dataclasses.replace(text, nets={**text.nets, "text": new["text"]}),
    }
    return Gathered(model.config, {**model.nets, "g": new["unet"]}, parts)


def _layers(variables: Any, rules: Sequence[Rule]) -> list[str]:
    """Names of the layers with a weight, as the published files have them."""
    names = [str(source_of(path, rules)) for path in weights.flatten(variables)]
    split = [name.replace(".qkv_proj.", f".{x}_proj.") for name in names for x in ("q", "k", "v")]
    return [name.removesuffix(".weight") for name in {*names, *split} if name.endswith(".weight")]


FOLDER = Whole("diffusers Stable Diffusion", read_folder, write_folder, folder=True)
FILE = Whole("CompVis Stable Diffusion", read_file, write_file, folder=False)
WHOLES = (FOLDER, FILE)
LAYOUTS = (DIFFUSERS, COMPVIS)
__all__ = ["ADDITIONS", "LAYOUTS", "WHOLES", "add_words", "merge_lora", "merged"]
