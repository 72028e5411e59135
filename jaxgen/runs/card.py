"""The README.md of an exported folder: what the model is, where its weights come from, its use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data.captioned.source import find_source
from jaxgen.errors import UserError


def model_card(
    name: str, config: ConfigDict, facts: Mapping[str, str], metrics: Mapping[str, float]
) -> str:
    """Markdown text.

    Args:
      name: of the exported folder.
      config: its config; one with `origin` is of converted weights.
      facts: what the weights file's header says: family, step, parameters, the scale of models
        that upscale, and the size of models that generate.
      metrics: of the last evaluation.
    """
    lines = [f"# {name}", "", _summary(config, facts), ""]
    if metrics:
        lines += ["| evaluation | value |", "|---|---|"]
        lines += [*(f"| {key} | {value:.4g} |" for key, value in sorted(metrics.items())), ""]
    origin = config.get("origin")
    if origin is not None and not {"scale", "size"} & facts.keys():
        lines += [
            f'The net "{origin.net}" alone, to train from: give the folder as '
            f"`train.init_from.{origin.net}` of the config.",
            "",
        ]
    else:
        lines += ["```python", "import jaxgen", "", f'model = jaxgen.load("{name}")']
        if "scale" in facts:
            lines.append("large = model.upscale(array)  # uint8 (h, w, 3)")
        if "size" in facts:
            prompt = _example(config)
            side = facts["size"]
            lines.append(
                f'pictures = model.generate("{prompt}", n=8)  # uint8 (8, {side}, {side}, 3)'
            )
            command = f'jaxgen generate "{prompt}" --model {name} -n 8 --seed 1 -o out.png'
            lines += ["```", "", "```bash", command]
        lines += ["```", ""]
    whole = "every setting of the training run" if origin is None else "the network's settings"
    return "\n".join([*lines, f"`config.json` holds {whole}.", ""])


def _summary(config: ConfigDict, facts: Mapping[str, str]) -> str:
    what = "Image model"
    if "scale" in facts:
        what = f"Super-resolution x{facts['scale']}"
    if "size" in facts:
        what = f"Text to image, {facts['size']} x {facts['size']} pixels"
    text = f"{what}, family {facts['family']}, {int(facts['parameters']):,} parameters, "
    origin = config.get("origin")
    if origin is not None:
        return f"{text}converted from {origin.file} ({origin.layout}: {sizes_text(origin.sizes)})."
    mixed = config.get("interpolation")
    if mixed is not None:
        return f"{text}{1 - mixed.alpha:g} x {mixed.a} + {mixed.alpha:g} x {mixed.b}."
    source = _source(config)
    on = f" on {source}" if source else ""
    return f"{text}trained for {int(facts['step']):,} steps{on}."


def _source(config: ConfigDict) -> str:
    source: Any = config.get("data", {}).get("source", "")
    return source if isinstance(source, str) else ""


def _example(config: ConfigDict) -> str:
    """What the model can be asked for, by what it was trained on."""
    try:
        return find_source(_source(config)).EXAMPLE
    except UserError:  # converted weights, or a source of elsewhere
        return "a text"


def sizes_text(sizes: Mapping[str, Any]) -> str:
    """ "blocks 16, features 64, scale 4"."""
    return ", ".join(f"{key} {value}" for key, value in sorted(sizes.items()))
