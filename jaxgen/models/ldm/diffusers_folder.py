"""What lies beside the weights in a folder of diffusers: how its classes are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxgen.models.ldm.unet_layout import unet_of
from jaxgen.models.vae.task import make_vae
from jaxgen.weights.layout import Gathered
from jaxgen.weights.parts import filled

_KINDS = {"scaled-linear": "scaled_linear", "linear": "linear", "cosine": "squaredcos_cap_v2"}
_PREDICTED = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def write_about(folder: Path, model: Gathered) -> None:
    """Writes `model_index.json`, each net's `config.json`, the scheduler's, and the tokenizer."""
    text = model.parts["text"].config
    first = model.parts["first_stage"].config
    assert text is not None
    assert first is not None
    index: dict[str, Any] = {
        "_class_name": pipeline_of(model.config),
        "_diffusers_version": "0.30.0",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    if text.model.vocabulary:
        index["tokenizer"] = ["transformers", "CLIPTokenizer"]
        _write_tokenizer(folder / "tokenizer", text)
    _write(folder / "model_index.json", index)
    _write(folder / "unet" / "config.json", unet_about(model))
    _write(folder / "vae" / "config.json", vae_about(first))
    _write(folder / "text_encoder" / "config.json", text_about(text))
    (folder / "scheduler").mkdir()
    _write(folder / "scheduler" / "scheduler_config.json", schedule_about(model))


def pipeline_of(config: Any) -> str:
    """The class of diffusers that opens the folder."""
    return f"StableDiffusion{'InstructPix2Pix' if config.model.get('instruct') else ''}Pipeline"


def unet_about(model: Gathered) -> dict[str, Any]:
    """Of UNet2DConditionModel."""
    net = unet_of(filled(model.config, model.parts))
    levels = range(len(net.channels))
    heads = [c // net.head_width for c in net.channels] if net.head_width else net.heads
    crossed = [level in net.attention for level in levels]
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": model.config.data.size // 8,
        "in_channels": net.out * (2 if model.config.model.get("instruct") else 1),
        "out_channels": net.out,
        "block_out_channels": list(net.channels),
        "down_block_types": ["CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed],
        "up_block_types": ["CrossAttnUpBlock2D" if c else "UpBlock2D" for c in crossed[::-1]],
        "layers_per_block": net.blocks,
        "cross_attention_dim": net.context,
        "attention_head_dim": heads,
        "use_linear_projection": net.linear,
        "norm_num_groups": net.groups,
        "norm_eps": 1e-5,
        "center_input_sample": False,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "act_fn": "silu",
    }


def vae_about(config: Any) -> dict[str, Any]:
    """Of AutoencoderKL."""
    net = make_vae(config)
    channels = [net.encoder.features * width for width in net.encoder.widths]
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": config.model.channels,
        "out_channels": config.model.channels,
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "layers_per_block": net.encoder.blocks,
        "latent_channels": net.latent,
        "norm_num_groups": net.encoder.groups,
        "scaling_factor": net.scaling,
        "act_fn": "silu",
        "sample_size": 256,
    }


def text_about(config: Any) -> dict[str, Any]:
    """Of CLIPTextModel."""
    text = config.model.text
    end = text.ids - 1
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": text.ids,
        "max_position_embeddings": text.context,
        "hidden_size": text.width,
        "intermediate_size": text.mlp or 4 * text.width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "hidden_act": config.model.activation,
        "layer_norm_eps": 1e-5,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": config.model.pad,
    }


def schedule_about(model: Gathered) -> dict[str, Any]:
    """Of DDIMScheduler."""
    schedule = model.config.model.schedule
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.steps,
        "beta_start": schedule.first,
        "beta_end": schedule.last,
        "beta_schedule": _KINDS[schedule.kind],
        "prediction_type": _PREDICTED[model.config.model.target],
        "rescale_betas_zero_snr": schedule.zero_snr,
        "timestep_spacing": "trailing" if schedule.zero_snr else "leading",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "clip_sample": False,
    }


def _write_tokenizer(folder: Path, config: Any) -> None:
    """Vocabulary and merges as CLIPTokenizer reads them."""
    folder.mkdir()
    said = json.loads(config.model.vocabulary)["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in said["merges"]]
    _write(folder / "vocab.json", said["vocab"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    end = "<|endoftext|>"
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": end,
        "unk_token": end,
        "pad_token": end if config.model.pad else "!",
    }
    _write(folder / "special_tokens_map.json", special)
    more = {"tokenizer_class": "CLIPTokenizer", "model_max_length": config.model.text.context}
    _write(folder / "tokenizer_config.json", {**special, **more})


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
